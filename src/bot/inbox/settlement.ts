/** Turns a decision into what the store settles, with ids that a redelivery repeats. */
import {
  type Announcement,
  type Decision,
  type Judgement,
  type NoMachine,
  STATE_CHANGING_ACTIONS,
} from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import type { Action, CommentRef, Requester } from '../../schema/action.ts'
import {
  announcementMessage,
  jiraNoteMessage,
  noMachineMessage,
  reactionMessages,
  replyMessage,
  statusMessage,
} from '../../store/messages.ts'
import type { Effect, Message, NewRequest, QueuedAction, Settlement, Store } from '../../store/port.ts'
import { presentEnvironment } from '../present-environment.ts'
import { clockDelivery } from './clock.ts'

const BEFORE_RESTORE = 'skipped, because it happened before the store was restored from a backup'

type ActDecision = Extract<Decision, { verdict: 'act' }>

/** What a decision is about. */
export type Occasion = {
  /** Ids of actions and requests begin with it. What is decided twice under one name takes effect once. */
  about: string
  /** The delivery's id. */
  correlation: string
  /** When it happened, epoch ms. */
  at: number
  /** Where: `acme/shop#7`, `acme/shop`, `DROP-1` or `clock`. */
  place: string
  /** The place's ticket, when it is known. */
  ticket: Ticket | null
  /** An operator asked for it once more. */
  isReplay: boolean
  /** The comment with the commands, and its author; null when no person asked. */
  comment: { ref: CommentRef; by: Requester } | null
}

/** Without `more`, nothing follows from it. */
export const settlement = (
  verdict: Settlement['verdict'],
  reason: string | null,
  more: Partial<Settlement> = {},
): Settlement => ({ verdict, reason, actions: [], messages: [], requests: [], effects: [], ...more })
export const ignoredSettlement = (reason: string): Settlement => settlement('ignored', reason)

/** Of whom we do not know: nothing is recorded but the reason. */
export const refusedSettlement = (reason: string): Settlement => settlement('refused', reason)

const judgedRequest = (
  { about, at, place, ticket, comment }: Occasion,
  judgement: Pick<Judgement, 'by' | 'line' | 'what'> & { ticket: Ticket | null },
  id: string,
): Omit<NewRequest, 'verdict' | 'reason'> => ({
  id: `${about}:${id}`,
  ...{ at, place, person: comment !== null, by: judgement.by, what: judgement.what },
  command: comment === null ? null : { comment: comment.ref, line: judgement.line ?? 0 },
  ticket: judgement.ticket ?? ticket,
  ...{ action: null, answer: null, ok: false },
})

/** Refused without an answer. */
const refusedRequests = (occasion: Occasion, refusals: readonly Judgement[]): NewRequest[] =>
  refusals.map((refusal, index) => ({
    ...judgedRequest(occasion, refusal, `refused:${index}`),
    ...{ verdict: 'refused', reason: refusal.reason },
  }))

/** One request for each command that is answered without an action. */
const answeredRequests = (occasion: Occasion, { replies, granted, refusals }: ActDecision): NewRequest[] =>
  replies.map(({ to: { line }, what, text, help, ok }) => {
    const refusal = refusals.find(judgement => judgement.line === line)
    const grant = granted.find(judgement => judgement.line === line)
    const by = occasion.comment?.by ?? { via: 'clock', who: null }
    const judgement = refusal ?? grant ?? { by, line, what, ticket: null }
    return {
      ...judgedRequest(occasion, judgement, `line:${line}`),
      verdict: refusal ? 'refused' : grant ? 'allowed' : 'answered',
      reason: (refusal ?? grant)?.reason ?? null,
      ...{ answer: { text, help }, ok },
    }
  })

/** One request for each action. It ends with its action. */
const actionRequests = (
  { at, place, comment }: Occasion,
  actions: readonly QueuedAction[],
  granted: readonly Judgement[],
): NewRequest[] =>
  actions.map(({ id, action }) => {
    const line = action.replyTo?.line ?? null
    const grant = line === null ? undefined : granted.find(judgement => judgement.line === line)
    return {
      ...{ id, at, by: action.by, place, person: comment !== null },
      command: comment === null || line === null ? null : { comment: comment.ref, line },
      ...{ ticket: action.ticket, what: grant?.what ?? action.kind, action },
      ...{ verdict: 'allowed', reason: grant?.reason ?? null, answer: null, ok: null },
    }
  })

/** Whether the action wins over a delete that an event asked for or scheduled before. Who forks a machine goes on with it. */
const keepsMachine = ({ kind }: Action, isPerson: boolean): boolean =>
  kind === 'create' || kind === 'start' || (isPerson && (STATE_CHANGING_ACTIONS.includes(kind) || kind === 'fork'))

/** The actions to queue, with the effects on scheduled and pending deletes. `kept`: tickets whose scheduled delete is cancelled. */
const queuedActions = async (
  store: Store,
  decided: readonly Action[],
  { about, correlation, at, comment }: Occasion,
): Promise<{ actions: QueuedAction[]; effects: Effect[]; kept: Set<Ticket> }> => {
  const actions: QueuedAction[] = []
  const effects: Effect[] = []
  const kept = new Set<Ticket>()
  const before = new Date(at).toISOString()
  for (const [index, action] of decided.entries()) {
    const { ticket, kind } = action
    const keeps = keepsMachine(action, comment !== null)
    const cancels = keeps && !kept.has(ticket) && (await store.inbox.scheduledAt(ticket)) !== null
    if (keeps && kind !== 'delete') effects.push({ kind: 'cancel-deletes', ticket, before })
    if (cancels) {
      kept.add(ticket)
      effects.push({ kind: 'unschedule', ticket, before: at })
    }
    actions.push({
      id: `${about}:${index}`,
      correlation,
      action: {
        ...action,
        // Its runner may know of a manual operation that is later than this.
        ...(STATE_CHANGING_ACTIONS.includes(kind) ? { at: before } : {}),
        ...(cancels ? { cancelsDelete: true as const } : {}),
      },
    })
  }
  return { actions, effects, kept }
}

const announced = (announcement: Announcement): string => {
  switch (announcement.kind) {
    case 'agent-ended':
      return 'how the agent ended is told'
    case 'open-pull-request':
      return 'a pull request is opened for the branch'
    case 'move-ticket':
      return `${announcement.ticket} is moved in Jira: ${announcement.to}`
    case 'rounds-over':
      return `not passed on: the agent was told ${announcement.told} times, which is the most`
  }
}

const actReason = ({ actions, replies, renames, notes, announcements }: ActDecision): string | null => {
  if (actions.length > 0) return null
  const [rename] = renames
  if (rename !== undefined) return `${rename.from} is ${rename.to} now`
  const [note] = notes
  if (note !== undefined) return `the machine of ${note.from} stays with its key`
  const [announcement] = announcements
  if (announcement !== undefined) return announced(announcement)
  return replies.length > 0 ? 'answered; no action was needed' : 'no action was needed'
}

/** The reaction and the reply to a comment with commands. */
const commentMessages = (comment: CommentRef, { actions, replies }: ActDecision): Message[] => {
  const hasWork = actions.some(({ replyTo }) => replyTo !== null)
  if (!hasWork && replies.length === 0) return []
  const ended = replies.every(({ ok }) => ok) ? 'rocket' : 'confused'
  return [
    ...reactionMessages(comment, hasWork ? 'eyes' : ended),
    // With work to do, the reaction says that the commands were read, and the reply follows when the work is done or takes long.
    // Jira has no reactions, so the reply comes at once.
    ...(hasWork && 'repo' in comment ? [] : [replyMessage(comment)]),
  ]
}

const noMachineMessages = (
  { noMachine }: { noMachine?: NoMachine },
  { ticket }: Pick<Occasion, 'ticket'>,
): Message[] => {
  const why = noMachine?.tell ?? null
  return why === null || ticket === null ? [] : [noMachineMessage(ticket, why)]
}

const actSettlement = async (store: Store, decision: ActDecision, occasion: Occasion): Promise<Settlement> => {
  const { comment, correlation } = occasion
  const { actions, effects, kept } = await queuedActions(store, decision.actions, occasion)
  const answeredLines = new Set(decision.replies.map(({ to }) => to.line))
  const silent = decision.refusals.filter(({ line }) => line === null || !answeredLines.has(line))
  const refusedTickets = new Set(decision.refusals.flatMap(({ ticket }) => ticket ?? []))
  const withEnvironment: Ticket[] = []
  for (const ticket of refusedTickets)
    if ((await presentEnvironment(store, ticket)) !== null) withEnvironment.push(ticket)
  const renames: Effect[] = decision.renames.map(({ from, to }) => ({ kind: 'rename-ticket', from, to }))
  const { allow } = decision
  const allowed: Effect[] =
    allow !== null && comment !== null && 'repo' in comment.ref
      ? [{ kind: 'allow-commit', pullRequest: comment.ref, commit: allow }]
      : []
  return {
    verdict: 'actions',
    reason: actReason(decision),
    actions,
    messages: [
      ...[...kept].map(statusMessage),
      ...(comment === null ? [] : commentMessages(comment.ref, decision)),
      ...withEnvironment.map(statusMessage),
      ...decision.notes.map(({ ticket, from, reason }) =>
        jiraNoteMessage(ticket, `not-moved:${correlation}`, { kind: 'not-moved', from, reason }),
      ),
      ...noMachineMessages(decision, occasion),
      ...decision.announcements.map(announcementMessage),
    ],
    requests: [
      ...refusedRequests(occasion, silent),
      ...actionRequests(occasion, actions, decision.granted),
      ...answeredRequests(occasion, decision),
    ].sort((a, b) => (a.command?.line ?? 0) - (b.command?.line ?? 0)),
    effects: [...renames, ...effects, ...allowed],
  }
}

/** A backup took the store's place since: it may be done long ago, so it is only reported. */
const reportedOnly = (decision: Decision, correlation: string): Settlement => {
  if (decision.verdict === 'ignored' || decision.verdict === 'refused') return settlement('ignored', decision.reason)
  const actions = decision.verdict === 'act' ? decision.actions : []
  const would = actions.length === 0 ? 'take effect' : actions.map(({ kind, ticket }) => `${kind} ${ticket}`).join(', ')
  return settlement(
    'ignored',
    `would ${would}; ${BEFORE_RESTORE}. To do it anyway: agent-swarm bot replay ${correlation}`,
  )
}

/** `now` is epoch ms. */
export const settlementOf = async (
  store: Store,
  decision: Decision,
  occasion: Occasion,
  now: number,
): Promise<Settlement> => {
  const restoredAt = await store.held.restoredAt()
  if (restoredAt !== null && occasion.at < restoredAt && !occasion.isReplay)
    return reportedOnly(decision, occasion.correlation)
  if (decision.verdict === 'ignored')
    return settlement('ignored', decision.reason, { messages: noMachineMessages(decision, occasion) })
  if (decision.verdict === 'act') return actSettlement(store, decision, occasion)
  if (decision.verdict === 'refused') {
    const { comment } = occasion
    return settlement('refused', decision.reason, {
      requests: refusedRequests(occasion, decision.refusals),
      messages: decision.isShown === true && comment !== null ? reactionMessages(comment.ref, 'confused') : [],
    })
  }
  const { ticket, event, minutes, reason, announcements = [] } = decision
  return settlement('actions', reason, {
    messages: [statusMessage(ticket), ...announcements.map(announcementMessage)],
    effects: [{ kind: 'schedule', ticket, delivery: clockDelivery(ticket, event, now + minutes * 60_000) }],
  })
}
