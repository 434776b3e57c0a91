import { projectOf } from '../src/domain.ts'
import {
  type ActionBase,
  act,
  type Decision,
  type Facts,
  type Handler,
  ignored,
  type MovedEvent,
  type MoveNote,
  machinesOf,
  overridden,
  type Rules,
  stopAll,
} from './handler.ts'
import { presentState, ticketStatus, withoutMachine } from './ticket-status.ts'

/** Stops the machines of the old key, which keep that key, and tells the people of the ticket. */
const leaveBehind = (
  { ticket, from }: MovedEvent,
  { previous, attempts, laterRequest }: Facts['ticket'],
  base: ActionBase,
  reason: MoveNote['reason'],
): Decision => {
  if (laterRequest !== null) return overridden(laterRequest)
  const stopped = stopAll({ ...base, ticket: from }, machinesOf(from, previous, attempts))
  return act(stopped.verdict === 'act' ? stopped.actions : [], { notes: [{ ticket, from, reason }] })
}

/**
 * A Jira issue that was moved to another project has a new key. Its environment and its attempts go along when that project is
 * served, unless both keys have a machine of their own.
 */
const movedTicket = (event: MovedEvent, facts: Facts['ticket'], rules: Rules): Decision => {
  const { ticket, from } = event
  const { environment, previous, attempts = [] } = facts
  const isWithout = previous === null && attempts.length === 0
  const base: ActionBase = { ticket, by: { ...event.by, cause: 'key changed' }, replyTo: null }
  const project = projectOf(ticket)
  if (!rules.projects.includes(project))
    return isWithout
      ? ignored(`${project} is not served here, and ${from} has no machine`)
      : leaveBehind(event, facts, base, 'project-not-served')
  if (previous !== null && environment !== null) return leaveBehind(event, facts, base, 'two-machines')

  // A move can change the status as well, and an issue that comes from a project that is not served is new here.
  const follow =
    event.statusChanged || !rules.projects.includes(projectOf(from))
      ? ticketStatus({ ...event, change: 'status' }, { ...facts, environment: previous ?? environment }, rules)
      : null
  return act(
    [
      ...(isWithout ? [] : [{ kind: 'move', ...base, from } as const]),
      ...(follow?.verdict === 'act' ? follow.actions : []),
    ],
    {
      renames: [{ from, to: ticket }],
      ...(follow?.verdict === 'ignored' && follow.noMachine !== undefined ? { noMachine: follow.noMachine } : {}),
    },
  )
}

/** A ticket's way through Jira. */
export const ticket: Handler<'ticket'> = (event, facts, rules) => {
  if (event.change === 'moved') return movedTicket(event, facts, rules)
  if (rules.projects.includes(projectOf(event.ticket))) return ticketStatus(event, facts, rules)
  const reason = `${projectOf(event.ticket)} is not served here`
  const isInProgress = presentState(event, facts.now).category === 'indeterminate'
  return isInProgress && facts.environment === null
    ? withoutMachine(event, facts, 'not-served', reason)
    : ignored(reason)
}
