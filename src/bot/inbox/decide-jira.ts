import {
  type Decision,
  type EventOf,
  type Facts,
  ignored,
  type MovedEvent,
  type Rules,
  type StatusEvent,
} from '../../../handlers/handler.ts'
import { handlers } from '../../../handlers/index.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import type { Action } from '../../schema/action.ts'
import type { Effect, Settlement, StoredDelivery } from '../../store/port.ts'
import { type JiraEvent, parseJira } from '../jira/events.ts'
import { FIRST_LOOK } from '../jira/polled.ts'
import { presentEnvironment } from '../present-environment.ts'
import { movedTicketFacts, ticketCommentFacts, ticketFacts } from './jira-facts.ts'
import type { FactsContext } from './known.ts'
import { ignoredSettlement, type Occasion, settlementOf } from './settlement.ts'

export type JiraContext = FactsContext & {
  /** The rules in effect for a ticket: its repository's. */
  rulesOfTicket: (ticket: Ticket) => Promise<Rules>
}
type Decided = { decision: Decision; effects: Effect[]; comment?: Occasion['comment'] }

/** What was so before the bot's first look is shown in the inbox, and not acted on. */
const showOnly = (decision: Decision, id: string): Decision => {
  if (decision.verdict !== 'act' || decision.actions.length === 0) return decision
  const would = decision.actions.map(({ kind, ticket }) => `${kind} ${ticket}`).join(', ')
  return ignored(
    `would ${would}; skipped, because this was already so before the bot watched the project. To do it anyway: agent-swarm bot replay ${id}`,
  )
}

/** The state that the decision is about, for comparing with Jira later. */
const decidedEffect = (event: EventOf<'ticket'>, now: Facts['ticket']['now']): Effect[] => {
  if (now === null || now === 'outdated') return []
  const { category, assignee } = now === 'unreadable' ? event : now
  // An assignment means nothing in other categories: the move that led there must still be decided.
  return event.change !== 'assignee' || category === 'indeterminate'
    ? [{ kind: 'ticket-decided', ticket: event.ticket, state: { category, assignee } }]
    : []
}

const decideTicket = async (context: JiraContext, event: StatusEvent, at: number, rules: Rules): Promise<Decided> => {
  const facts = await ticketFacts(context, event, at, rules)
  return { decision: handlers.ticket(event, facts, rules), effects: decidedEffect(event, facts.now) }
}

/** Records under the previous key, whose history follows the ticket, what the move did to its status. */
const noteMovedStatus = async (
  { store }: JiraContext,
  { from, category, statusChanged }: MovedEvent,
  at: number,
): Promise<void> => {
  await store.tickets.sawCategory(from, category, at)
  if (statusChanged && (category === 'new' || category === 'indeterminate'))
    await store.tickets.movedTo(from, category, at)
}

/**
 * A machine that a queued action will delete is as good as gone to the handler. Its runner must move it all the same: the queued
 * action gets the new key, and would find no machine under it.
 */
const withMove = async ({ store }: JiraContext, decision: Decision, { ticket, from, by }: MovedEvent) => {
  if (decision.verdict !== 'act' || decision.renames.length === 0) return decision
  if (decision.actions.some(({ kind }) => kind === 'move') || (await presentEnvironment(store, from)) === null)
    return decision
  const move: Action = { kind: 'move', ticket, from, by: { via: 'jira', who: by, cause: 'key changed' }, replyTo: null }
  return { ...decision, actions: [move, ...decision.actions] }
}

const decideMoved = async (context: JiraContext, event: MovedEvent, at: number, rules: Rules): Promise<Decided> => {
  const { store, jira } = context
  const isServed = rules.projects.includes(projectOf(event.ticket))
  const issue = isServed && jira !== null ? await jira.issue(event.ticket) : null
  // It may have been moved on since.
  const present: MovedEvent = { ...event, ticket: issue?.ticket ?? event.ticket }
  if ((await store.tickets.current(event.from)) === present.ticket)
    return { decision: ignored(`${event.from} is already known as ${present.ticket}`), effects: [] }
  if (isServed) await noteMovedStatus(context, present, at)
  const facts = await movedTicketFacts(context, present, at, issue ?? 'unreadable', rules)
  const decision = await withMove(context, handlers.ticket(present, facts, rules), present)
  return { decision, effects: isServed ? decidedEffect(present, facts.now) : [] }
}

const decideComment = async (
  context: JiraContext,
  event: EventOf<'ticket-comment'>,
  rules: Rules,
): Promise<Decided> => {
  const facts = await ticketCommentFacts(context, event)
  const { ticket, commentId } = event
  return {
    decision: handlers['ticket-comment'](event, facts, rules),
    effects: [],
    comment: { ref: { ticket, commentId }, by: { via: 'jira', who: facts.now?.author ?? null, cause: 'command' } },
  }
}

/** The event about the ticket's present key. A move names both keys itself. */
const presentEvent = async ({ store }: JiraContext, event: JiraEvent): Promise<JiraEvent> =>
  'change' in event && event.change === 'moved'
    ? event
    : { ...event, ticket: await store.tickets.current(event.ticket) }

export const decideJira = async (
  context: JiraContext,
  { id, event: name, body, receivedAt, dueSince }: StoredDelivery,
): Promise<Settlement> => {
  const { store, clock } = context
  const delivery = parseJira(JSON.parse(body))
  if ('ignored' in delivery) return ignoredSettlement(delivery.ignored)
  const { change } = delivery
  const event = await presentEvent(context, delivery.event)
  const { ticket } = event
  const rules = await context.rulesOfTicket(ticket)
  const isMoved = event.kind === 'ticket' && event.change === 'moved'
  // Nothing is read or recorded about projects that are not served.
  const about = isMoved ? [ticket, event.from] : [ticket]
  if (!about.some(key => rules.projects.includes(projectOf(key))))
    return ignoredSettlement(`${projectOf(ticket)} is not served here`)
  const reporter = change === null ? null : await store.tickets.reportedBy(change)
  if (reporter !== null && reporter !== id) return ignoredSettlement('another delivery reported this change')
  // A clock that is ahead would make every later event look old.
  const at = Math.min(event.at ?? receivedAt, clock())
  const isComment = event.kind === 'ticket-comment'
  const decided = isComment
    ? await decideComment(context, event, rules)
    : event.change === 'moved'
      ? await decideMoved(context, event, at, rules)
      : await decideTicket(context, event, at, rules)
  const occasion: Occasion = {
    // A webhook and a poll may both report a comment.
    about: `jira:${isComment ? (change ?? id) : id}`,
    ...{ correlation: id, at, place: ticket, ticket },
    comment: decided.comment ?? null,
  }
  const reported: Effect[] = change === null ? [] : [{ kind: 'change-reported', change, delivery: id }]
  // An operator who replays a first look wants what it leads to.
  const isReplayed = dueSince > receivedAt
  const decision = name === FIRST_LOOK && !isReplayed ? showOnly(decided.decision, id) : decided.decision
  const settlement = await settlementOf(store, decision, occasion, clock())
  // Renames come before what is decided about the new key.
  return { ...settlement, effects: [...settlement.effects, ...reported, ...decided.effects] }
}
