/** How a build reaches its machines over SSH, and what is told when one does not answer. */
import { setTimeout as delay } from 'node:timers/promises'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { BuildBase, GuestAnswer } from '../provider.ts'
import type { Context } from './context.ts'
import { sshInfo } from './machines.ts'
import { consoleTail } from './usage.ts'

/** A first boot under software emulation takes one to three minutes, and several times that on a busy host. */
const BOOT_DEADLINE_MS = 20 * 60_000
const POLL_MS = 2_000

type Build = { context: Context; request: BuildBase }

const cancelled = ({ name }: BuildBase) => fail('cancelled', `building ${name}: cancelled`)

/** Waits until the machine that boots answers over SSH. */
export const waitForMachine = async (build: Build, vmId: string): Promise<void> => {
  const { context, request } = build
  const { guest, signal } = request
  const end = performance.now() + BOOT_DEADLINE_MS
  let last: unknown
  while (performance.now() < end) {
    if (signal.aborted) throw cancelled(request)
    const ssh = await sshInfo(context, vmId).catch(allow('no-address-yet'))
    if (ssh !== undefined) {
      try {
        await guest.run(ssh, 'true', { deadline: end - performance.now() })
        return
      } catch (error) {
        // A guest that boots may end a connection that it had accepted.
        if (!isNoAnswer(error)) throw error
        last = error
      }
    }
    await delay(POLL_MS)
  }
  throw await noAnswer(build, vmId, NO_ANSWER, BOOT_DEADLINE_MS, last)
}
const isNoAnswer = (error: unknown): boolean =>
  isFailure(error) && ['guest-unreachable', 'refused', 'timeout'].includes(error.failure.kind)

/** Runs scripts as root in the machine, which has answered before. */
export const inMachine =
  (build: Build, vmId: string) =>
  async (script: string, options: { deadline: number; onLine?: (line: string) => void }): Promise<GuestAnswer> => {
    const { context, request } = build
    if (request.signal.aborted) throw cancelled(request)
    return request.guest.run(await sshInfo(context, vmId), script, options).catch(async error => {
      throw isNoAnswer(error) ? await noAnswer(build, vmId, NO_END, options.deadline, error) : error
    })
  }

const NO_ANSWER = {
  what: 'did not answer over SSH',
  remedy: 'An image needs cloud-init (with its NoCloud source) and an SSH server, both started at boot.',
}
const NO_END = {
  what: 'did not end its work, or did not answer over SSH any more,',
  remedy: 'Try again when the host has less to do. A step that hangs is the phase shown last.',
}
const noAnswer = async (
  { context, request }: Build,
  vmId: string,
  { what, remedy }: typeof NO_ANSWER | typeof NO_END,
  deadline: number,
  cause?: unknown,
) => {
  const lines = await consoleTail(context, vmId).catch(() => [])
  const console =
    lines.length === 0
      ? ', and it wrote nothing on its console'
      : `. Its console ends with:\n${lines.map(line => `  ${line}`).join('\n')}`
  return fail(
    'guest-unreachable',
    `building ${request.name}: its machine ${what} within ${Math.ceil(deadline / 60_000)} minutes${console}`,
    remedy,
    cause,
  )
}
