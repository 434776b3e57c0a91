/**
 * Sets a machine right whose memory came back: to the guest, no time has passed since the checkpoint, and its random numbers
 * would be those of every other restore of it. docs/restore.md names what else a restore may break.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { reseedScript } from '../../base-image/identity.ts'
import { failureOf } from '../errors.ts'
import type { Target } from './operation.ts'
import { runInGuest } from './ssh/guest.ts'

/** Needs the variable `fresh`: random bytes in base64. */
export const restoredScript = (): string =>
  `${reseedScript()}\n${readFileSync(join(import.meta.dirname, 'after-restore.sh'), 'utf8')}`
const DEADLINE_MS = 60_000
const MAX_OUTPUT = 64 * 1024
/** What the kernel's pool holds. */
const FRESH_BYTES = 256
/** More is set. The guest agent sets whole seconds, and the time client does the rest. */
const TOLERATED_MS = 900
/** The guest's time must lie between the host's before and after the question, give or take this. */
const RIGHT_MS = 1_000
const MOST_UNITS = 10

export type Answer = {
  /** The guest's time, and how far behind ours it was when its line came. Milliseconds; null without a readable time. */
  clock: { behind: number; isRight: boolean } | null
  random: 'reseeded' | 'mixed' | 'failed'
  /** Units of systemd that failed. */
  failed: string[]
}

/** `heardAt`: when the line with the time came. Everything in the lines is a guest's, and hostile. */
export const parseAnswer = (
  output: string,
  { before, heardAt, after }: { before: number; heardAt: number; after: number },
): Answer => {
  const lines = output.split('\n')
  const seconds = lines.findLast(line => /^clock \d{1,12}(\.\d{1,9}|\.%N)?$/.test(line))?.slice('clock '.length)
  const time = seconds === undefined ? null : Number.parseFloat(seconds) * 1000
  const random = lines.find(line => /^random (reseeded|mixed)$/.test(line))?.slice('random '.length)
  return {
    clock:
      time === null ? null : { behind: heardAt - time, isRight: time >= before - RIGHT_MS && time <= after + RIGHT_MS },
    random: random === 'reseeded' || random === 'mixed' ? random : 'failed',
    failed: lines.flatMap(line => line.match(/^failed ([A-Za-z0-9@:._\\-]{1,100})$/)?.[1] ?? []).slice(0, MOST_UNITS),
  }
}

const ask = async ({ context, caller, provider, row }: Target, script: string): Promise<Answer> => {
  const now = () => context.clock().getTime()
  const before = now()
  let heardAt: number | null = null
  const { stdout } = await runInGuest(context, provider, row.vmId, script, {
    ...{ deadline: DEADLINE_MS, signal: caller.signal, maxOutput: MAX_OUTPUT },
    doing: `setting the clock and the random numbers of ${row.vmId}`,
    onLine: line => {
      if (line.startsWith('clock ')) heardAt = now()
    },
  })
  const after = now()
  return parseAnswer(stdout, { before, heardAt: heardAt ?? after, after })
}

/** By how much, and not to what: a login takes longer than the clock may be wrong. */
const moveClock = (milliseconds: number): string => `
date -s "@$(date +%s.%N | awk '{ printf "%.3f", $1 + ${(milliseconds / 1000).toFixed(3)} }')" >/dev/null 2>&1
hwclock --systohc >/dev/null 2>&1 </dev/null
echo "clock $(date +%s.%N)"
`

const offText = (behind: number): string =>
  `${(Math.abs(behind) / 1000).toFixed(1)} s ${behind > 0 ? 'behind' : 'ahead'}`

const setClock = async (target: Target, { clock }: Pick<Answer, 'clock'>): Promise<string | null> => {
  if (clock === null) return 'The machine did not tell its time: check it with date'
  if (clock.isRight && Math.abs(clock.behind) <= TOLERATED_MS) return null
  const { clock: now } = await ask(target, moveClock(clock.behind))
  if (now?.isRight === true)
    return clock.isRight ? null : `Its clock was ${offText(clock.behind)}, and was set over SSH`
  return `Its clock is ${offText(now?.behind ?? clock.behind)}: neither the guest agent nor date over SSH could set it`
}

/**
 * Returns sentences without the last full stop, for people: what was wrong, and what still is; none when all is right. The guest
 * has answered over SSH with its pinned key before.
 */
export const setRight = async (target: Target): Promise<string[]> => {
  const { caller, provider } = target
  // A folder has the clock and the random numbers of this system.
  if (provider.ownSystem === true) return []
  caller.onPhase('clock and random numbers')
  try {
    const answer = await ask(target, `fresh=${randomBytes(FRESH_BYTES).toString('base64')}\n${restoredScript()}`)
    const clock = await setClock(target, answer)
    return [
      ...(clock === null ? [] : [clock]),
      ...(answer.random === 'failed'
        ? ['Its random numbers could not be made new: they may be those of another restore of this checkpoint']
        : []),
      ...(answer.failed.length === 0 ? [] : [`Failed services in it: ${answer.failed.join(', ')}`]),
    ]
  } catch (error) {
    if (caller.signal.aborted) throw error
    return [`Its clock and its random numbers may be those of the checkpoint: ${failureOf(error, 'asking it').message}`]
  }
}
