import { isAmong } from '../../../handlers/accounts.ts'
import {
  type Decision,
  type EventOf,
  type Facts,
  ignored,
  type MovedEvent,
  type NewMachine,
  type Rules,
  type StatusCategory,
  type StatusEvent,
} from '../../../handlers/handler.ts'
import { handlers } from '../../../handlers/index.ts'
import { isWithin } from '../../clock.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { Action } from '../../schema/action.ts'
import { noMachineMessage } from '../../store/messages.ts'
import type { Effect, Settlement, StoredDelivery } from '../../store/port.ts'
import { acceptPolled } from '../catch-up.ts'
import { type JiraDelivery, type JiraEvent, type JiraUpdate, parseJira } from '../jira/events.ts'
import { readChanges } from '../jira/poll.ts'
import { FIRST_LOOK } from '../jira/polled.ts'
import { isOwnMove } from '../own-moves.ts'
import { presentEnvironment } from '../present-environment.ts'
import { isRemoteFailure } from '../remote-failure.ts'
import { categoryBefore, movedTicketFacts, recordMove, ticketCommentFacts, ticketFacts } from './jira-facts.ts'
import { askingUntil, type FactsContext } from './known.ts'
import { type AboutNewMachine, createsMachine, newMachineFacts } from './new-machine.ts'
import { ignoredSettlement, type Occasion, settlementOf } from './settlement.ts'

export type JiraContext = FactsContext & {
  /** The rules in effect for a ticket: its repository's. */
  rulesOfTicket: (ticket: Ticket) => Promise<Rules>
  /** Comments explain why a move into progress made no machine. */
  explain: boolean
}
/** `askUntil`: until then (epoch ms), what a new machine needs and cannot be read is read again. */
type Rereading = { rules: Rules; askUntil: number }
type Decided = { decision: Decision; effects: Effect[]; comment?: Occasion['comment'] }

/** Jira writes a transition down a moment after its post functions. Its clock and ours may differ. Milliseconds. */
const TRANSITION_MS = 60_000
/** The sixth attempt comes half a minute after the first. */
const TOLD_AT_ATTEMPT = 5

/** What was so before the bot's first look is shown in the inbox, and not acted on. */
const showOnly = (decision: Decision, id: string): Decision => {
  if (decision.verdict !== 'act' || decision.actions.length === 0) return decision
  const would = decision.actions.map(({ kind, ticket }) => `${kind} ${ticket}`).join(', ')
  const reason = `would ${would}; skipped, because this was already so before the bot watched the project. To do it anyway: agent-swarm bot replay ${id}`
  return { verdict: 'ignored', reason, noMachine: { tell: null } }
}

/** The state that the decision is about, for comparing with Jira later, and why it led to no machine. */
const decidedEffect = (
  event: EventOf<'ticket'>,
  now: Facts['ticket']['now'],
  decision: Decision,
  at: number,
): Effect[] => {
  if (now === null || now === 'outdated') return []
  const { category, assignee } = now === 'unreadable' ? event : now
  const isWithout = decision.verdict === 'ignored' && decision.noMachine !== undefined
  const noMachine = isWithout ? { at, reason: decision.reason } : null
  // An assignment means nothing in other categories: the move that led there must still be decided.
  return event.change !== 'assignee' || category === 'indeterminate'
    ? [{ kind: 'ticket-decided', ticket: event.ticket, state: { category, assignee, noMachine } }]
    : []
}

/** Decides, and once more with what a create needs to know when there is one. */
const withNewMachine = async (
  context: JiraContext,
  about: Omit<AboutNewMachine, 'here'>,
  decide: (facts: { newMachine?: NewMachine }) => Decision,
): Promise<Decision> => {
  const decision = decide({})
  if (!createsMachine(decision)) return decision
  return decide({ newMachine: await newMachineFacts(context, { ...about, here: null }) })
}

/** A move that the bot made, by `transitions`: with a personal token, a person and the bot move tickets under one name. */
const isOurMove = async (
  context: JiraContext,
  { change, ticket, by, statusName }: StatusEvent,
  at: number,
): Promise<boolean> => {
  if (change !== 'status' || !(await isOwnMove(context, ticket, statusName, at))) return false
  return by.who === null || by.who === (await context.jira?.me())
}

const decideTicket = async (
  context: JiraContext,
  event: StatusEvent,
  at: number,
  { rules, askUntil }: Rereading,
  /** The delivery is the first look at its project. */
  firstLook: string | null,
): Promise<Decided> => {
  if (await isOurMove(context, event, at)) {
    const { ticket, category, assignee } = event
    await context.store.tickets.sawCategory(ticket, category, at)
    const decision = ignored(`our own move of ${ticket}, because of its pull request`)
    return { decision, effects: [{ kind: 'ticket-decided', ticket, state: { category, assignee, noMachine: null } }] }
  }
  const facts = await ticketFacts(context, event, at, rules)
  const summary = facts.now === null || typeof facts.now === 'string' ? undefined : facts.now.summary
  const decide = (newMachine: { newMachine?: NewMachine }) => handlers.ticket(event, { ...facts, ...newMachine }, rules)
  // A first look creates nothing, and may be about many tickets.
  const decided =
    firstLook === null
      ? await withNewMachine(context, { ticket: event.ticket, rules, summary, askUntil }, decide)
      : decide({})
  const decision = firstLook === null ? decided : showOnly(decided, firstLook)
  return { decision, effects: decidedEffect(event, facts.now, decision, at) }
}

/** Records under the previous key, whose history follows the ticket, what the move did to its status. Returns where it comes from. */
const noteMovedStatus = async (
  context: JiraContext,
  event: MovedEvent,
  category: StatusCategory,
  at: number,
): Promise<StatusCategory | null> => {
  const { from, statusChanged } = event
  const before = statusChanged ? await categoryBefore(context, event, from, at) : null
  await recordMove(context, from, { from: before, to: category }, at)
  if (statusChanged && (category === 'new' || category === 'indeterminate'))
    await context.store.tickets.movedTo(from, category, at)
  return before
}

/**
 * A machine that a queued action will delete is as good as gone to the handler. Its runner must move it all the same: the queued
 * action gets the new key, and would find no machine under it.
 */
const withMove = async ({ store }: JiraContext, decision: Decision, { ticket, from, by }: MovedEvent) => {
  if (decision.verdict !== 'act' || decision.renames.length === 0) return decision
  if (decision.actions.some(({ kind }) => kind === 'move')) return decision
  const isWithout =
    (await presentEnvironment(store, from)) === null && (await store.runners.attempts(from)).length === 0
  if (isWithout) return decision
  const move: Action = { kind: 'move', ticket, from, by: { ...by, cause: 'key changed' }, replyTo: null }
  return { ...decision, actions: [move, ...decision.actions] }
}

const decideMoved = async (
  context: JiraContext,
  event: MovedEvent,
  at: number,
  { rules, askUntil }: Rereading,
): Promise<Decided> => {
  const { store, jira } = context
  const isServed = rules.projects.includes(projectOf(event.ticket))
  const issue = isServed && jira !== null ? await jira.issue(event.ticket) : null
  // It may have been moved on since.
  const present: MovedEvent = { ...event, ticket: issue?.ticket ?? event.ticket }
  if ((await store.tickets.current(event.from)) === present.ticket)
    return { decision: ignored(`${event.from} is already known as ${present.ticket}`), effects: [] }
  // Some versions send a move without the status, or a status without its category.
  const category = present.category === 'undefined' ? (issue?.category ?? 'undefined') : present.category
  const before = isServed ? await noteMovedStatus(context, present, category, at) : null
  const facts = await movedTicketFacts(context, present, at, { now: issue ?? 'unreadable', from: before }, rules)
  const { summary } = issue ?? {}
  const decided = await withNewMachine(context, { ticket: present.ticket, rules, summary, askUntil }, newMachine =>
    handlers.ticket(present, { ...facts, ...newMachine }, rules),
  )
  const decision = await withMove(context, decided, present)
  return { decision, effects: isServed ? decidedEffect(present, facts.now, decision, at) : [] }
}

const decideComment = async (
  context: JiraContext,
  event: EventOf<'ticket-comment'>,
  { rules, askUntil }: Rereading,
): Promise<Decided> => {
  const facts = await ticketCommentFacts(context, event)
  const { ticket, commentId } = event
  return {
    decision: await withNewMachine(context, { ticket, rules, askUntil }, newMachine =>
      handlers['ticket-comment'](event, { ...facts, ...newMachine }, rules),
    ),
    effects: [],
    comment: { ref: { ticket, commentId }, by: { via: 'jira', who: null, ...facts.now?.author, cause: 'command' } },
  }
}

/** The event about the ticket's present key. A move names both keys itself. */
const presentEvent = async ({ store }: JiraContext, event: JiraEvent): Promise<JiraEvent> =>
  'change' in event && event.change === 'moved'
    ? event
    : { ...event, ticket: await store.tickets.current(event.ticket) }

/** Reads an issue again that something happened to. What is new becomes deliveries, the same that a poll would make of it. */
const decideUpdate = async (
  context: JiraContext,
  { update, transition }: JiraUpdate,
  receivedAt: number,
): Promise<Settlement> => {
  const { store, jira, clock } = context
  const ticket = await store.tickets.current(update)
  const { projects } = await context.rulesOfTicket(ticket)
  if (!projects.includes(projectOf(ticket))) return ignoredSettlement(`${projectOf(ticket)} is not served here`)
  if (jira === null) return ignoredSettlement('Jira is not configured')
  const changes = await readChanges({ store, jira }, ticket, receivedAt)
  if (changes === null) return ignoredSettlement(`Jira does not show ${ticket}`)
  const { found, movedAt } = changes
  const isThere = movedAt !== null && movedAt > receivedAt - TRANSITION_MS
  if (transition && !isThere && isWithin(receivedAt, TRANSITION_MS, clock()))
    throw fail('network', `reading ${ticket} in Jira: it does not show the transition yet`)
  await acceptPolled(store, clock, () => {})(found)
  return ignoredSettlement(
    found.length === 0
      ? `read again: nothing new happened to ${ticket}`
      : `read again: ${found.map(({ id }) => id).join(', ')} in this inbox`,
  )
}

const withoutComment = (decision: Decision): Decision =>
  'noMachine' in decision ? { ...decision, noMachine: { tell: null } } : decision

/** Whether people wait for what a delivery leads to: what was so before, or was found late, is no news to anybody. */
const isNews = ({ explain }: JiraContext, { late }: JiraDelivery, { event }: StoredDelivery): boolean =>
  explain && !late && event !== FIRST_LOOK

/** A move into progress that could not be decided for half a minute gets a note for whoever waits for its machine. */
const tellDelay = async (context: JiraContext, delivery: JiraDelivery, stored: StoredDelivery): Promise<void> => {
  const { event } = delivery
  const { store, jira, standard } = context
  if (stored.attempt !== TOLD_AT_ATTEMPT || !isNews(context, delivery, stored)) return
  if (event.kind !== 'ticket' || event.change !== 'status' || event.category !== 'indeterminate') return
  const ticket = await store.tickets.current(event.ticket)
  if (!standard.projects.includes(projectOf(ticket))) return
  // Where Jira cannot be read, no comment can be written either.
  const me = standard.assignees === 'me' && jira !== null ? await jira.me().catch(() => null) : null
  if (![event.assignee, event.by.who].some(account => isAmong(account, standard.assignees, me))) return
  await store.outbox.put([noMachineMessage(ticket, 'unreadable')])
}

export const decideJira = async (context: JiraContext, stored: StoredDelivery): Promise<Settlement> => {
  const delivery = parseJira(JSON.parse(stored.body))
  if ('ignored' in delivery) return ignoredSettlement(delivery.ignored)
  if ('update' in delivery) return decideUpdate(context, delivery, stored.receivedAt)
  try {
    return await decideEvent(context, delivery, stored)
  } catch (error) {
    if (isRemoteFailure(error)) await tellDelay(context, delivery, stored)
    throw error
  }
}

const decideEvent = async (
  context: JiraContext,
  delivery: JiraDelivery,
  stored: StoredDelivery,
): Promise<Settlement> => {
  const { store, clock } = context
  const { id, event: name, receivedAt, dueSince } = stored
  const { change } = delivery
  const event = await presentEvent(context, delivery.event)
  const { ticket } = event
  const rules = await context.rulesOfTicket(ticket)
  const isMoved = event.kind === 'ticket' && event.change === 'moved'
  // Nothing is read or recorded about projects that are not served. One that only a repository's rules leave out is explained.
  const about = isMoved ? [ticket, event.from] : [ticket]
  const isStatus = event.kind === 'ticket' && event.change === 'status'
  const { projects } = isStatus ? context.standard : rules
  if (!about.some(key => projects.includes(projectOf(key))))
    return ignoredSettlement(`${projectOf(ticket)} is not served here`)
  const reporter = change === null ? null : await store.tickets.reportedBy(change)
  if (reporter !== null && reporter !== id) return ignoredSettlement('another delivery reported this change')
  // A clock that is ahead would make every later event look old.
  const at = Math.min(event.at ?? receivedAt, clock())
  const isComment = event.kind === 'ticket-comment'
  // An operator who replays a first look wants what it leads to.
  const firstLook = name === FIRST_LOOK && dueSince <= receivedAt ? id : null
  const rereading = { rules, askUntil: askingUntil(dueSince, clock()) }
  const decided = isComment
    ? await decideComment(context, event, rereading)
    : event.change === 'moved'
      ? await decideMoved(context, event, at, rereading)
      : await decideTicket(context, event, at, rereading, firstLook)
  const occasion: Occasion = {
    // A webhook and a poll may both report a comment.
    about: `jira:${isComment ? (change ?? id) : id}`,
    ...{ correlation: id, at, isReplay: dueSince > receivedAt, place: ticket, ticket },
    comment: decided.comment ?? null,
  }
  const reported: Effect[] = change === null ? [] : [{ kind: 'change-reported', change, delivery: id }]
  const decision = isNews(context, delivery, stored) ? decided.decision : withoutComment(decided.decision)
  const settlement = await settlementOf(store, decision, occasion, clock())
  // Renames come before what is decided about the new key.
  return { ...settlement, effects: [...settlement.effects, ...reported, ...decided.effects] }
}
