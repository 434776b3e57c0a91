/** Why an action waits. Pure. */
import type { Environment } from '../../schema/environment.ts'
import { hasRoom, whyNever } from '../../store/fits.ts'
import type { ActionRow, KnownRunner } from '../../store/port.ts'
import { code, type Line, line, own } from './text.ts'
import { commandOf, moment } from './words.ts'

export type WaitingView = {
  row: ActionRow
  /** The ticket's unfinished actions before it, oldest first. */
  ahead: readonly ActionRow[]
  /** The runner that has the ticket's machine; null when any may take the action. */
  pinned: KnownRunner | null
  /** The connected runners. */
  runners: readonly KnownRunner[]
  /** The environment as it was last reported. */
  known: Environment | null
  /** Epoch ms. */
  now: number
}

const stateOfEarlier = ({ action, state, progress }: ActionRow): Line => {
  const command = code(commandOf(action))
  if (state !== 'active') return line`${command}, which is waiting too`
  return progress === null
    ? line`${command}, which is in progress`
    : line`${command}, which is in progress (${code(progress.phase)} since ${own(moment(progress.at))})`
}

/** An attempt that is under way. Empty when it goes on as usual. */
export const slowLine = ({ attempt, progress }: Pick<ActionRow, 'attempt' | 'progress'>): Line => {
  const { waitsFor = null, failed } = progress ?? {}
  const ends =
    waitsFor === null || waitsFor.until === null ? [] : line` It is given up at ${own(moment(waitsFor.until))}.`
  const waits =
    waitsFor === null ? [] : line` Waiting for ${code(waitsFor.what)} since ${own(moment(waitsFor.since))}.${ends}`
  const before = failed === undefined ? [] : line` The attempt before (${attempt - 1}) failed: ${code(failed)}`
  return [...waits, ...before]
}
/** Whether people are told of an attempt that is under way. */
export const isSlow = ({ state, progress }: Pick<ActionRow, 'state' | 'progress'>): boolean =>
  state === 'active' && (progress?.failed !== undefined || (progress?.waitsFor ?? null) !== null)

/** It is the oldest of its ticket, and only a runner with free memory is missing. */
const waitsForRoom = ({ action }: ActionRow, known: Environment | null, runners: readonly KnownRunner[]): boolean => {
  // With a machine, a create changes nothing.
  if (action.kind !== 'create' || known !== null) return false
  const offers = runners.flatMap(({ offer }) => (offer !== null && whyNever(action, offer) === null ? [offer] : []))
  return offers.length > 0 && offers.every(offer => !hasRoom(action, offer))
}

export const waitingLine = ({ row, ahead, pinned, runners, known, now }: WaitingView): Line => {
  const [next] = ahead
  if (row.state === 'active') return line`Attempt ${row.attempt} is in progress.${slowLine(row)}`
  if (next?.state !== 'active' && pinned !== null && !pinned.connected)
    return line`Waiting for the runner on ${code(pinned.host)}, which has this machine and does not respond. It starts when that runner is back.`
  if (next?.state !== 'active' && runners.length === 0)
    return own('Waiting: no runner is connected. It starts when one is (`agent-swarm runner`).')
  if (next !== undefined) {
    const more = ahead.length === 1 ? [] : line`, and ${ahead.length - 1} more of ${own(row.action.ticket)}`
    return line`Waiting for ${stateOfEarlier(next)}${more}.`
  }
  if (row.notBefore > now)
    return line`Attempt ${row.attempt} failed${row.progress?.failed === undefined ? [] : line`: ${code(row.progress.failed)}`}. The next attempt is at ${own(moment(row.notBefore))}.`
  if (waitsForRoom(row, known, pinned === null ? runners : [pinned]))
    return own('Waiting for free memory on a runner. It starts when another machine is stopped or deleted.')
  return own('Next in the queue: it starts as soon as a runner has a free slot.')
}
