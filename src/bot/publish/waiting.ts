/** Why an action waits. Pure. */

import type { Ticket } from '../../domain.ts'
import type { Environment } from '../../schema/environment.ts'
import { needAt, roomTakenBy, whyNever } from '../../store/fits.ts'
import type { ActionRow, KnownRunner } from '../../store/port.ts'
import { counted } from '../../words.ts'
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
  /** The machines of the person whose limit it waits for; null when it waits for none. */
  beyondLimit: readonly Ticket[] | null
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

/** What has the room that it waits for, by host, when it is the oldest of its ticket and only room is missing; null otherwise. */
const behind = (
  { action, needs }: ActionRow,
  known: Environment | null,
  runners: readonly KnownRunner[],
): { host: string; why: string }[] | null => {
  // With a machine, a create changes nothing.
  const isCreate = action.kind === 'create' && known === null
  if (!isCreate && needs === null) return null
  const able = runners.flatMap(({ host, offer }) =>
    offer !== null && (!isCreate || whyNever(action, offer) === null) ? [{ host, offer }] : [],
  )
  const reasons = able.map(({ host, offer }) => ({
    host,
    why: (isCreate ? roomTakenBy(needAt(action, offer), offer) : null) ?? (needs && roomTakenBy(needs, offer)),
  }))
  return reasons.length > 0 && reasons.every((each): each is { host: string; why: string } => each.why !== null)
    ? reasons
    : null
}

/** Hosts that a line names. */
const MAX_HOSTS = 3
const roomLine = (reasons: readonly { host: string; why: string }[]): Line => [
  ...own('Waiting for room'),
  ...reasons
    .slice(0, MAX_HOSTS)
    .flatMap(({ host, why }, n) => line`${own(`${n === 0 ? ': ' : '; '}${why}`)} on ${code(host)}`),
  ...own('. It starts when another machine is stopped or deleted.'),
]

const limitLine = (tickets: readonly Ticket[]): Line =>
  own(
    `Waiting: the person of this ticket has ${counted(tickets.length, 'machine')}, the most that one person may have: ${tickets.join(', ')}. It starts when one of them is deleted.`,
  )

export const waitingLine = ({ row, ahead, pinned, runners, known, beyondLimit, now }: WaitingView): Line => {
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
  if (row.notBefore > now && row.needs === null)
    return line`Attempt ${row.attempt} failed${row.progress?.failed === undefined ? [] : line`: ${code(row.progress.failed)}`}. The next attempt is at ${own(moment(row.notBefore))}.`
  if (beyondLimit !== null && known === null) return limitLine(beyondLimit)
  const reasons = behind(row, known, pinned === null ? runners : [pinned])
  if (reasons !== null) return roomLine(reasons)
  if (row.needs !== null) return own('Waiting for room on the host of its machine.')
  return own('Next in the queue: it starts as soon as a runner has a free slot.')
}
