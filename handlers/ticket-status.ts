/** A ticket in progress has a running machine; back in the backlog it is stopped; done, it is stopped or deleted. */
import type { Cause } from '../src/schema/action.ts'
import {
  type ActionBase,
  act,
  type Decision,
  type Facts,
  ignored,
  overridden,
  type Rules,
  type StatusCategory,
  type StatusEvent,
  stop,
  type TicketNow,
} from './handler.ts'

type Context = { facts: Facts['ticket']; rules: Rules; now: TicketNow; base: ActionBase }

const isForUs = (assignee: string | null, { assignees, onlyAssignees }: Rules, me: string | null): boolean =>
  [assignees, onlyAssignees].every(
    wanted =>
      wanted === 'any' || (assignee !== null && (wanted === 'me' ? assignee === me : wanted.includes(assignee))),
  )

const hasLabel = (labels: readonly string[], rules: Rules): boolean =>
  rules.labels.length === 0 ||
  rules.labels.some(wanted => labels.some(label => label.toLowerCase() === wanted.toLowerCase()))

const inProgress = ({ facts, rules, now, base }: Context): Decision => {
  const { environment, endedSinceNew, closedSince, me } = facts
  const { ticket } = base
  if (!isForUs(now.assignee, rules, me))
    return ignored(`${ticket} is assigned to ${now.assignee === null ? 'nobody' : 'somebody else'}`)
  // A machine that this event starts or creates would be stopped or deleted by the close that followed.
  const closed = closedSince && rules.closed !== 'nothing'
  const pullRequestClosed = ignored('its pull request was closed after that')
  if (environment?.status === 'running' || environment?.status === 'creating')
    return ignored(`${ticket} already has a machine`)
  if (environment?.status === 'stopped') return closed ? pullRequestClosed : act([{ kind: 'start', ...base }])
  if (endedSinceNew)
    return ignored(
      `the last machine of ${ticket} was deleted, or its pull request merged, and the ticket was not back in the backlog since`,
    )
  if (!hasLabel(now.labels, rules)) return ignored(`${ticket} has none of the labels ${rules.labels.join(', ')}`)
  const create = { kind: 'create', ...base, machine: rules.machine } as const
  if (!closed) return act([create])
  return rules.closed === 'stop' ? act([create, { kind: 'stop', ...base }]) : pullRequestClosed
}

const inBacklog = ({ facts, base }: Context): Decision => stop(base, facts.environment)

const done = ({ facts, rules, base }: Context): Decision => {
  const { environment, now, hadPullRequest } = facts
  if (environment === null) return ignored(`${base.ticket} has no machine`)
  const ending = rules.done ?? (hadPullRequest ? 'stop' : 'delete')
  if (ending === 'nothing') return ignored(`${base.ticket} is done; the rules require no action`)
  // A delete needs a state that was read just now.
  return ending === 'stop' || now === 'unreadable'
    ? stop(base, environment)
    : act([{ kind: 'delete', force: false, ...base }])
}

const byCategory: Record<StatusCategory, (context: Context) => Decision> = {
  new: inBacklog,
  indeterminate: inProgress,
  done,
  undefined: ({ base }) => ignored(`the status of ${base.ticket} has no category`),
}

/** The ticket's present state: read again where possible, else the event's. A deleted issue counts as done. */
const presentState = (event: StatusEvent, now: Facts['ticket']['now']): TicketNow => {
  if (event.change === 'deleted' || now === null) return { ...event, category: 'done' }
  return now === 'unreadable' || now === 'outdated' ? event : now
}

const causes = {
  status: 'ticket moved',
  assignee: 'ticket assigned',
  deleted: 'ticket deleted',
} as const satisfies Record<StatusEvent['change'], Cause>

export const ticketStatus = (event: StatusEvent, facts: Facts['ticket'], rules: Rules): Decision => {
  const { ticket } = event
  const now = presentState(event, facts.now)
  // An assignment can create a machine, and never stops or deletes one.
  if (event.change === 'assignee' && (facts.now === 'outdated' || now.category !== 'indeterminate'))
    return ignored(`${ticket} was assigned while not in progress`)
  if (facts.laterRequest !== null) return overridden(facts.laterRequest)
  if (facts.now === 'outdated') return ignored(`a newer state of ${ticket} is known, and Jira cannot be read now`)
  const cause = causes[event.change]
  const base: ActionBase = { ticket, by: { via: 'jira', who: event.by, cause }, replyTo: null }
  return byCategory[now.category]({ facts, rules, now, base })
}
