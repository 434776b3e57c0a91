/** How actions end: the messages for those who wait, and one call to the store. */
import type { Clock } from '../../clock.ts'
import type { Log } from '../../log.ts'
import { type Action, type ActionKind, lacksOf } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { Failure } from '../../schema/failure.ts'
import { type Outcome, reasonOf } from '../../schema/outcome.ts'
import {
  jiraLinkMessage,
  jiraNoteMessage,
  jiraWaitingMessage,
  reactionMessages,
  replyMessage,
  statusMessage,
  waitingAbout,
} from '../../store/messages.ts'
import type { ActionRow, Message, Store } from '../../store/port.ts'
import type { Metrics } from '../http/metrics.ts'
import { openAfterMerge } from '../open-after-merge.ts'

/**
 * Whether a failure is reported on the ticket when no command waits for a reply. That of a push's checkpoint is in the status
 * comment, where whoever pushed looks; the others come from commands alone.
 */
const TOLD_ON_TICKET = {
  create: true,
  start: true,
  stop: true,
  restart: true,
  restore: true,
  delete: true,
  move: true,
  fork: true,
  promote: true,
  checkpoint: false,
  'delete-checkpoint': false,
  tell: true,
  agent: true,
  status: false,
} as const satisfies Record<ActionKind, boolean>
/** A shorter secret would also match ordinary text. */
const MIN_SECRET_LENGTH = 6

export type OutcomeContext = {
  store: Store
  /** Jira is configured. */
  toJira: boolean
  /** Values that may occur in a failure's message and that nobody may read. */
  secrets: readonly string[]
  metrics: Metrics
  /** There is something to publish. */
  onMessages: () => void
  clock: Clock
  log: Log
}

// ── Messages ──

const withoutSecrets = <T>(secrets: readonly string[], value: T): T => {
  const clean = (text: string) =>
    secrets.reduce(
      (rest, secret) => (secret.length < MIN_SECRET_LENGTH ? rest : rest.replaceAll(secret, '[redacted]')),
      text,
    )
  return JSON.parse(JSON.stringify(value), (_name, member) => (typeof member === 'string' ? clean(member) : member))
}

/** The comments in Jira about an end, where no reply on the ticket tells the same. */
const jiraNotes = async (store: Store, { id, action, runnerId }: ActionRow, outcome: Outcome): Promise<Message[]> => {
  const { ticket, kind, replyTo } = action
  const { environment } = outcome
  if (outcome.result === 'failed') {
    const { failure } = outcome
    const isReported = failure.kind === 'unsaved-work' || (replyTo === null && TOLD_ON_TICKET[kind])
    return isReported ? [jiraNoteMessage(ticket, `failed:${id}`, { kind: 'failed', action, failure })] : []
  }
  if (action.kind === 'delete' || action.kind === 'promote') {
    if (outcome.result !== 'done') return []
    const { rescued = null, summary } = outcome
    const isAnsweredHere = replyTo !== null && !('repo' in replyTo)
    if (isAnsweredHere && rescued === null) return []
    if (action.kind === 'delete')
      return [jiraNoteMessage(ticket, `deleted:${id}`, { kind: 'deleted', action, rescued })]
    const open = await openAfterMerge(store, ticket)
    return [jiraNoteMessage(ticket, `promoted:${id}`, { kind: 'promoted', action, summary, open, rescued })]
  }
  if (action.kind !== 'create' || environment === null || environment.status !== 'running') return []
  const host = (await store.runners.list()).find(runner => runner.id === runnerId)?.host ?? null
  // A reply on the ticket tells of the project already.
  const isTold = replyTo !== null && !('repo' in replyTo)
  const { project: _, ...bare } = environment
  const unsaid = outcome.result === 'done' ? (outcome.noAgent ?? []) : []
  const note = isTold
    ? { environment: bare, host, without: [] }
    : { environment, host, without: lacksOf(action).concat(unsaid) }
  return [jiraNoteMessage(ticket, `ready:${environment.vmId}`, { kind: 'ready', ...note })]
}

/** The comment that says that the action waits is brought up to date. */
const waitOver = async (store: Store, { id, action: { ticket } }: ActionRow): Promise<Message[]> =>
  (await store.comments.get({ side: 'jira', kind: 'note', ticket, about: waitingAbout(id) })) === null
    ? []
    : [jiraWaitingMessage(ticket, id)]

/** A reply and a reaction once all commands of the comment have ended: quick ones get one post. */
const replies = async (store: Store, id: string, { replyTo }: Action, outcome: Outcome): Promise<Message[]> => {
  if (replyTo === null) return []
  const requests = await store.requests.ofComment(replyTo)
  const results = requests.map(request => (request.id === id ? outcome.result !== 'failed' : request.ended?.ok))
  if (results.includes(undefined)) return []
  return [replyMessage(replyTo), ...reactionMessages(replyTo, results.includes(false) ? 'confused' : 'rocket')]
}

/**
 * The messages that an outcome makes, from what is known before it is recorded. Actions of one ticket never overlap, so
 * nothing else changes that meanwhile.
 */
export const outcomeMessages = async (
  { store, toJira }: Pick<OutcomeContext, 'store' | 'toJira'>,
  row: ActionRow,
  outcome: Outcome,
): Promise<Message[]> => {
  const { id, action } = row
  const { ticket } = action
  const known = await store.runners.environment(ticket)
  const hasStatus = known !== null || outcome.environment !== null
  // A ticket that now has a machine shows its pull requests.
  const isNew = toJira && (known === null || known.goneAt !== null) && outcome.environment !== null
  const linked = isNew ? await store.pullRequests.ofTicket(ticket) : []
  return [
    ...(await replies(store, id, action, outcome)),
    ...(hasStatus ? [statusMessage(ticket)] : []),
    ...linked.map(pullRequest => jiraLinkMessage(pullRequest, ticket)),
    ...(toJira ? [...(await waitOver(store, row)), ...(await jiraNotes(store, row, outcome))] : []),
  ]
}

// ── Ends ──

/** What a person at a terminal reads about an outcome (src/cli/happenings.ts). */
const happenedFields = (action: Action, outcome: Outcome) => {
  const { kind, ticket, by } = action
  const common = { kind, ticket, by, result: outcome.result, reason: reasonOf(outcome) }
  if (outcome.result === 'failed') return { ...common, remedy: outcome.failure.remedy }
  if (outcome.result === 'skipped') return common
  const named = 'name' in action ? (action.name ?? outcome.environment?.checkpoints.at(-1)?.name) : undefined
  const from = action.kind === 'move' ? action.from : undefined
  const what = action.kind === 'agent' ? action.what : undefined
  return { ...common, checkpoint: named, from, what, seconds: outcome.seconds, rescued: outcome.rescued }
}

const report = (context: OutcomeContext, row: ActionRow, outcome: Outcome): void => {
  const { metrics, clock, log, onMessages } = context
  const { correlation, id, action, createdAt } = row
  metrics.action(action.kind, outcome.result, clock() - createdAt)
  log.info({ correlation, action: id, happened: 'outcome', ...happenedFields(action, outcome) }, 'outcome recorded')
  onMessages()
}

export const completeAction = async (
  context: OutcomeContext,
  row: ActionRow,
  token: string,
  reported: Outcome,
): Promise<'ok' | 'lost'> => {
  const outcome = withoutSecrets(context.secrets, reported)
  const messages = await outcomeMessages(context, row, outcome)
  const result = await context.store.queue.complete(row.id, token, outcome, messages)
  if (result === 'ok') report(context, row, outcome)
  return result
}

/** `retry` false: it ends with this attempt. */
export const failAction = async (
  context: OutcomeContext,
  row: ActionRow,
  token: string,
  reported: { failure: Failure; retry: boolean; environment: Environment | null },
): Promise<'retry' | 'dead' | 'lost'> => {
  const { failure, retry, environment } = withoutSecrets(context.secrets, reported)
  const outcome: Outcome = { result: 'failed', failure, environment }
  const messages = await outcomeMessages(context, row, outcome)
  const result = await context.store.queue.fail(row.id, token, { failure, retry, environment, messages })
  if (result === 'dead') report(context, row, outcome)
  return result
}

/** Ends a pending action that no runner can take. */
export const rejectAction = async (context: OutcomeContext, row: ActionRow, failure: Failure): Promise<void> => {
  const outcome: Outcome = { result: 'failed', failure, environment: null }
  const messages = await outcomeMessages(context, row, outcome)
  if ((await context.store.queue.reject(row.id, failure, messages)) === 'dead') report(context, row, outcome)
}
