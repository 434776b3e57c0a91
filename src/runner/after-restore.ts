/**
 * Sets a machine right whose memory came back: to the guest, no time has passed since, and its random numbers would be those of
 * every other restore or fork of it. The same after a restore, a wake, a fork and a claim. docs/restore.md names what else may break.
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
const SAME_RANDOM = 'they may be those of another machine with this memory'
const RANDOM_FAULTS = {
  failed: `Its random numbers could not be made new: ${SAME_RANDOM}`,
  mixed: `Its random numbers are new only within minutes, since it has neither perl nor python3: until then ${SAME_RANDOM}`,
} as const

export type Answer = {
  /** The guest's time, and how far behind ours it was when its line came. Milliseconds; null without a readable time. */
  clock: { behind: number; isRight: boolean } | null
  random: 'reseeded' | 'mixed' | 'failed'
  /** Null: it did not say. `none`: there is none. */
  machineId: string | null
  /** Whether it can look its own name up. */
  knowsItsName: boolean
  /** Units of systemd that failed. */
  failed: string[]
}

/** A guest that answered over SSH with its pinned key just now. `ssh`: where; null without SSH. */
type Checked = Pick<Target, 'context' | 'provider'> & {
  caller: Pick<Target['caller'], 'signal' | 'onPhase'>
  row: Pick<Target['row'], 'vmId' | 'ssh'>
}
/**
 * Sentences without the last full stop. `faults`: its clock or random numbers are wrong, or it is not itself: nobody should work in it
 * unawares. `notes`: what was wrong besides. `machineId` null: a guest that is a part of this system has none of its own.
 */
type Checks = { faults: string[]; notes: string[]; machineId: string | null }

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
    machineId: output.match(/^machine-id ([0-9a-f]{32}|none)$/m)?.[1] ?? null,
    knowsItsName: !lines.includes('name unknown'),
    failed: lines.flatMap(line => line.match(/^failed ([A-Za-z0-9@:._\\-]{1,100})$/)?.[1] ?? []).slice(0, MOST_UNITS),
  }
}

const ask = async ({ context, caller, provider, row }: Checked, script: string): Promise<Answer> => {
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

/** `fault`: it is not right in the end. */
const setClock = async (
  target: Checked,
  { clock }: Pick<Answer, 'clock'>,
): Promise<{ text: string; fault: boolean } | null> => {
  if (clock === null) return { text: 'The machine did not tell its time: check it with date', fault: true }
  if (clock.isRight && Math.abs(clock.behind) <= TOLERATED_MS) return null
  const { clock: now } = await ask(target, moveClock(clock.behind))
  if (now?.isRight === true)
    return clock.isRight ? null : { text: `Its clock was ${offText(clock.behind)}, and was set over SSH`, fault: false }
  const off = offText(now?.behind ?? clock.behind)
  return { text: `Its clock is ${off}: neither the guest agent nor date over SSH could set it`, fault: true }
}

/** Whether another machine of this home is believed to be at its address. */
const twinOf = ({ context, row }: Checked): string | null => {
  const { ssh, vmId } = row
  const twin = context.registry
    .environments()
    .find(
      other =>
        ssh !== null &&
        other.vmId !== vmId &&
        other.status === 'running' &&
        other.ssh?.host === ssh.host &&
        other.ssh.port === ssh.port,
    )
  return twin?.ticket ?? null
}

const identityFaults = (target: Checked, { machineId }: Answer): string[] => {
  const twin = twinOf(target)
  return [
    ...(machineId === 'none' ? ['It has no machine-id'] : []),
    ...(twin === null ? [] : [`Its address ${target.row.ssh?.host} is that of ${twin}, too`]),
  ]
}

/** Gives it the time, random numbers and its lease, ends what its agent asked through an earlier link, and looks at the rest. */
export const check = async (target: Checked, before = ''): Promise<Checks> => {
  const { caller, provider, context } = target
  // A folder has the clock and the random numbers of this system.
  if (provider.ownSystem === true) return { faults: [], notes: [], machineId: null }
  caller.onPhase('clock and random numbers')
  const variables = [
    `fresh=${randomBytes(FRESH_BYTES).toString('base64')}`,
    `ports='${Object.values(context.guest.ports).join(' ')}'`,
  ]
  try {
    const answer = await ask(target, [before, ...variables, restoredScript()].join('\n'))
    const clock = await setClock(target, answer)
    return {
      faults: [
        ...(clock?.fault === true ? [clock.text] : []),
        ...(answer.random === 'reseeded' ? [] : [RANDOM_FAULTS[answer.random]]),
        ...identityFaults(target, answer),
      ],
      notes: [
        ...(clock?.fault === false ? [clock.text] : []),
        ...(answer.knowsItsName ? [] : ['It cannot look its own host name up: see /etc/hosts in it']),
        ...(answer.failed.length === 0 ? [] : [`Failed services in it: ${answer.failed.join(', ')}`]),
      ],
      machineId: answer.machineId,
    }
  } catch (error) {
    if (caller.signal.aborted) throw error
    const { message } = failureOf(error, 'asking it')
    const text = `Its clock and its random numbers may be those of the checkpoint: ${message}`
    return { faults: [text], notes: [], machineId: null }
  }
}

/** After a restore and a wake: all of it goes into the answer, and the machine stays. */
export const setRight = async (target: Checked): Promise<string[]> => {
  const { faults, notes } = await check(target)
  return [...faults, ...notes]
}
