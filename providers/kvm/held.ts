/**
 * A note that we hold a machine paused, for as long as it takes to isolate it. libvirt says of such a machine
 * what it says of one that a person started or restored paused, so the note tells one whose process died.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkName } from '../../src/errors.ts'
import type { Context } from './context.ts'
import type { State } from './parse.ts'

type Home = Pick<Context, 'home'>

const noteOf = ({ home }: Home, vmId: string) => join(home, 'kvm', `held-${checkName('machine', vmId)}`)

export const noteHeld = (context: Home, vmId: string): void => {
  mkdirSync(join(context.home, 'kvm'), { recursive: true, mode: 0o700 })
  writeFileSync(noteOf(context, vmId), '', { mode: 0o600 })
}
/** The machine runs, is stopped or is gone. */
export const forgetHeld = (context: Home, vmId: string): void => rmSync(noteOf(context, vmId), { force: true })

/** For `.catch()`: of work that failed, the note stays only while the machine is paused. */
export const unlessStillPaused =
  (context: Home, vmId: string, look: () => Promise<State>) =>
  async (error: unknown): Promise<never> => {
    const now = await look().catch(() => null)
    if (now !== null && now.paused === undefined) forgetHeld(context, vmId)
    throw error
  }

/** The state with the reason that only this home knows, in libvirt's words. */
export const withHeld = <T extends State>(context: Home, vmId: string, state: T): T =>
  state.pauseCause === 'asked' && existsSync(noteOf(context, vmId))
    ? { ...state, paused: 'starting', pauseCause: 'interrupted' }
    : state
