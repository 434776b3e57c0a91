/**
 * A ticket in progress has a running machine; back in the backlog it is stopped; done, it is stopped or deleted. What stops or
 * deletes it does the same to its attempts; what starts it starts none of them.
 */
import type { Cause } from '../src/schema/action.ts'
import { isAmong } from './accounts.ts'
import {
  type ActionBase,
  act,
  type Decision,
  deleteAll,
  type Facts,
  ignored,
  machinesOf,
  overridden,
  type Rules,
  type StatusCategory,
  type StatusEvent,
  stopAll,
  type TicketNow,
  type WhyNoMachine,
} from './handler.ts'
import { createAction } from './new-machine.ts'

type Context = { event: StatusEvent; facts: Facts['ticket']; rules: Rules; now: TicketNow; base: ActionBase }

/**
 * A ticket in progress without a machine. A comment says so after a move into progress by or for somebody whose tickets get
 * machines, and after an assignment to one of them, so that nobody waits in vain. `why` null: nobody expects one.
 */
export const withoutMachine = (
  { change }: Pick<StatusEvent, 'change'>,
  { from, isOurs }: Pick<Facts['ticket'], 'from' | 'isOurs'>,
  why: WhyNoMachine | null,
  reason: string,
): Decision => {
  const isExpected = isOurs && (change === 'assignee' || (change === 'status' && from !== 'indeterminate'))
  return { verdict: 'ignored', reason, noMachine: { tell: isExpected ? why : null } }
}

/** The operator's list, and the repository's, which only narrows it. */
const isForUs = (account: string | null, { assignees, onlyAssignees }: Rules, me: string | null): boolean =>
  [assignees, onlyAssignees].every(list => isAmong(account, list, me))

const hasLabel = (labels: readonly string[], rules: Rules): boolean =>
  rules.labels.length === 0 ||
  rules.labels.some(wanted => labels.some(label => label.toLowerCase() === wanted.toLowerCase()))

const notForUs = ({ event, facts, rules, now, base }: Context): Decision => {
  const reason = `${base.ticket} is assigned to ${now.assignee === null ? 'nobody' : 'somebody else'}`
  const couldBeTheirs = isForUs(event.by.who, rules, facts.me)
  const why = now.assignee === null ? 'assigned-to-nobody' : 'assigned-to-other'
  return withoutMachine(event, facts, couldBeTheirs ? why : 'assignee-not-in-rules', reason)
}

const inProgress = (context: Context): Decision => {
  const { event, facts, rules, now, base } = context
  const { environment, endedSinceNew, closedSince, me } = facts
  const { ticket } = base
  if (!isForUs(now.assignee, rules, me)) return notForUs(context)
  // A machine that this event starts or creates would be stopped or deleted by the close that followed.
  const closed = closedSince && rules.closed !== 'nothing'
  if (environment?.status === 'running' || environment?.status === 'creating')
    return ignored(`${ticket} already has a machine`)
  const pullRequestClosed = () => withoutMachine(event, facts, 'closed-later', 'its pull request was closed after that')
  if (environment?.status === 'stopped') return closed ? pullRequestClosed() : act([{ kind: 'start', ...base }])
  if (endedSinceNew) {
    const ended = `the last machine of ${ticket} was deleted, or its pull request merged`
    return withoutMachine(event, facts, 'ended', `${ended}, and the ticket was not back in the backlog since`)
  }
  if (!hasLabel(now.labels, rules))
    return withoutMachine(event, facts, null, `${ticket} has none of the labels ${rules.labels.join(', ')}`)
  const create = createAction({ kind: 'create', ...base, machine: rules.machine }, facts.newMachine, rules)
  if (!closed) return act([create])
  return rules.closed === 'stop' ? act([create, { kind: 'stop', ...base }]) : pullRequestClosed()
}

const allOf = ({ facts: { environment, attempts }, base }: Context) => machinesOf(base.ticket, environment, attempts)

const inBacklog = (context: Context): Decision => stopAll(context.base, allOf(context))

const done = (context: Context): Decision => {
  const { facts, rules, base } = context
  const { now, hadPullRequest } = facts
  const machines = allOf(context)
  if (machines.length === 0) return ignored(`${base.ticket} has no machine`)
  const ending = rules.done ?? (hadPullRequest ? 'stop' : 'delete')
  if (ending === 'nothing') return ignored(`${base.ticket} is done; the rules require no action`)
  // A delete needs a state that was read just now.
  return ending === 'stop' || now === 'unreadable' ? stopAll(base, machines) : deleteAll(base, machines)
}

const byCategory: Record<StatusCategory, (context: Context) => Decision> = {
  new: inBacklog,
  indeterminate: inProgress,
  done,
  undefined: ({ base }) => ignored(`the status of ${base.ticket} has no category`),
}

/** The ticket's present state: read again where possible, else the event's. A deleted issue counts as done. */
export const presentState = (event: StatusEvent, now: Facts['ticket']['now']): TicketNow => {
  if (event.change === 'deleted' || now === null) return { ...event, category: 'done' }
  return now === 'unreadable' || now === 'outdated' ? event : now
}

const causes = {
  status: 'ticket moved',
  assignee: 'ticket assigned',
  deleted: 'ticket deleted',
} as const satisfies Record<StatusEvent['change'], Cause>

/** The event's status names the cause only while its category still holds. */
const movedBy = ({ by, change, category, statusName }: StatusEvent, now: TicketNow): ActionBase['by'] => ({
  ...{ ...by, cause: causes[change] },
  ...(change === 'status' && statusName !== null && category === now.category ? { movedTo: statusName } : {}),
})

export const ticketStatus = (event: StatusEvent, facts: Facts['ticket'], rules: Rules): Decision => {
  const { ticket } = event
  const now = presentState(event, facts.now)
  // An assignment can create a machine, and never stops or deletes one.
  if (event.change === 'assignee' && (facts.now === 'outdated' || now.category !== 'indeterminate'))
    return ignored(`${ticket} was assigned while not in progress`)
  if (facts.laterRequest !== null) {
    const decision = overridden(facts.laterRequest)
    return facts.laterRequest.kind === 'delete' && now.category === 'indeterminate'
      ? withoutMachine(event, facts, 'deleted-later', decision.reason)
      : decision
  }
  if (facts.now === 'outdated') return ignored(`a newer state of ${ticket} is known, and Jira cannot be read now`)
  const base: ActionBase = { ticket, by: movedBy(event, now), replyTo: null }
  return byCategory[now.category]({ event, facts, rules, now, base })
}
