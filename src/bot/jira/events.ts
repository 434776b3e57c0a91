/**
 * Jira's webhooks, of Cloud and of Data Center, as events. A payload is hostile until it is parsed here, once. What is needed is
 * required; everything else that is missing or of another type counts as missing, because versions differ. Pure.
 * https://developer.atlassian.com/cloud/jira/platform/webhooks/
 */
import * as v from 'valibot'
import type { EventOf } from '../../../handlers/handler.ts'
import { isTicket, type Ticket } from '../../domain.ts'
import { oneName, shortText } from '../../schema/basics.ts'
import { categoryOf, requesterOf } from './answers.ts'

export type JiraEvent = EventOf<'ticket' | 'ticket-comment'>
/**
 * `change` names the change itself, the same for a webhook and a poll; null when nothing names it. `late`: catching up found it.
 */
export type JiraDelivery = { event: JiraEvent; change: string | null; late: boolean }
/** Something may have happened to an issue: its changes are read from Jira. `transition`: its status changed for sure. */
export type JiraUpdate = { update: Ticket; transition: boolean }

/** Null when it is missing or of another type. The fallback is outermost: a missing member skips what is inside. */
const orNull = <Schema extends v.GenericSchema>(schema: Schema) => v.fallback(v.nullable(schema), null)
const short = orNull(shortText(255))

/** Cloud names people by accountId, Data Center by name or key. */
const person = v.fallback(
  v.pipe(
    v.object({ accountId: short, name: short, key: short, displayName: orNull(oneName) }),
    v.transform(({ accountId, name, key, displayName }) => ({ id: accountId ?? name ?? key, name: displayName })),
  ),
  { id: null, name: null },
)
/** Ids are text, and numbers in some versions. */
const id = v.pipe(
  v.union([v.number(), shortText(64)]),
  v.transform(value => String(value)),
)
/** Epoch ms: Cloud sends a number, some versions text. */
const timestamp = orNull(
  v.pipe(
    v.union([v.number(), shortText(100)]),
    v.transform(value => (typeof value === 'number' ? value : Date.parse(value))),
    v.number(),
  ),
)
const labels = v.fallback(
  v.pipe(
    v.array(v.unknown()),
    v.maxLength(1_000),
    v.transform(all => all.filter(label => typeof label === 'string')),
  ),
  [],
)
/** `from`: the id of the previous status, for the field `status`. `fromString`: the previous key, for the field `Key`. */
const item = v.fallback(v.object({ field: short, from: orNull(id), fromString: short }), {
  ...{ field: null, from: null, fromString: null },
})

const key = v.pipe(v.string(), v.check(isTicket))
const ticketPayload = v.object({
  webhookEvent: shortText(100),
  timestamp,
  user: person,
  issue: v.object({
    key,
    fields: v.fallback(
      v.object({
        status: v.fallback(
          v.object({ name: orNull(oneName), statusCategory: v.fallback(v.object({ key: short }), { key: null }) }),
          { name: null, statusCategory: { key: null } },
        ),
        assignee: person,
        labels,
      }),
      { status: { name: null, statusCategory: { key: null } }, assignee: { id: null, name: null }, labels: [] },
    ),
  }),
  changelog: v.fallback(v.object({ id: orNull(id), items: v.fallback(v.array(item), []) }), { id: null, items: [] }),
})
type TicketPayload = v.InferOutput<typeof ticketPayload>

const commentEvents = ['comment_created', 'comment_updated'] as const
const commentPayload = v.object({
  webhookEvent: v.picklist(commentEvents),
  issue: v.object({ key }),
  comment: v.object({
    // It becomes part of a URL.
    id: v.pipe(id, v.regex(/^\d{1,20}$/)),
    body: v.optional(v.unknown()),
    created: timestamp,
  }),
})

/** The key of the issue that a body holds, or that it is. */
const aboutIssue = v.union([
  v.pipe(
    v.object({ issue: v.object({ key }) }),
    v.transform(({ issue }) => issue.key),
  ),
  v.pipe(
    v.object({ key }),
    v.transform(issue => issue.key),
  ),
])
/** A workflow's post function. */
const transitionPayload = v.object({ transition: v.looseObject({}) })
/** Found by catching up, and so not news to anybody. Our own polls set it. */
const latePayload = v.object({ late: v.literal(true) })

/** The events that mean something here. */
export const jiraEventNames: readonly string[] = [
  ...['jira:issue_created', 'jira:issue_updated', 'jira:issue_deleted'],
  ...commentEvents,
]

/** The previous key of an issue that was moved; null when its key did not change. */
const previousKey = ({ issue, changelog }: TicketPayload): Ticket | null => {
  const moved = changelog.items.find(({ field }) => field === 'Key')
  const from = moved?.fromString ?? null
  return from !== null && isTicket(from) && from !== issue.key ? from : null
}

const ticketEvent = (payload: TicketPayload): EventOf<'ticket'> | null => {
  const { webhookEvent, timestamp, user, issue, changelog } = payload
  const fields = changelog.items.map(({ field }) => field)
  const status = changelog.items.find(({ field }) => field === 'status')
  const from = previousKey(payload)
  const common = {
    kind: 'ticket',
    ticket: issue.key,
    category: categoryOf(issue.fields.status.statusCategory.key),
    fromStatus: status?.from ?? null,
    statusName: issue.fields.status.name,
    assignee: issue.fields.assignee.id,
    labels: issue.fields.labels,
    by: requesterOf(user.id, user.name),
    at: timestamp,
  } as const
  if (webhookEvent === 'jira:issue_deleted') return { ...common, change: 'deleted' }
  if (webhookEvent === 'jira:issue_created') return { ...common, change: 'status' }
  if (webhookEvent !== 'jira:issue_updated') return null
  if (from !== null) return { ...common, change: 'moved', from, statusChanged: status !== undefined }
  if (status !== undefined) return { ...common, change: 'status' }
  return fields.includes('assignee') ? { ...common, change: 'assignee' } : null
}

const parseComment = (body: unknown): Pick<JiraDelivery, 'event' | 'change'> | { ignored: string } => {
  const parsed = v.safeParse(commentPayload, body)
  if (!parsed.success) {
    const hasIssue = v.is(v.object({ issue: v.object({ key }) }), body)
    return { ignored: hasIssue ? 'a comment without a usable id' : 'a comment without its issue' }
  }
  const { webhookEvent, issue, comment } = parsed.output
  const change = webhookEvent === 'comment_created' ? 'created' : 'edited'
  return {
    event: {
      ...{ kind: 'ticket-comment', ticket: issue.key, commentId: comment.id, body: comment.body, change },
      at: comment.created,
    },
    change: change === 'created' ? `comment:${comment.id}` : null,
  }
}

const parseTicket = (body: unknown): Pick<JiraDelivery, 'event' | 'change'> | { ignored: string } => {
  const parsed = v.safeParse(ticketPayload, body)
  if (!parsed.success) return { ignored: 'not a webhook about an issue with a key of the usual form' }
  const { webhookEvent, issue, changelog } = parsed.output
  const event = ticketEvent(parsed.output)
  if (event === null) return { ignored: `${webhookEvent.slice(0, 60)} without a change of status, assignee or key` }
  const created = webhookEvent === 'jira:issue_created' ? `created:${issue.key}` : null
  return { event, change: created ?? (changelog.id === null ? null : `changed:${changelog.id}`) }
}

export const parseJira = (body: unknown): JiraDelivery | JiraUpdate | { ignored: string } => {
  const { webhookEvent } = v.parse(v.fallback(v.object({ webhookEvent: short }), { webhookEvent: null }), body)
  if (webhookEvent === null) {
    // Automation, a workflow's post function, a webhook of another form: it names an issue, and not what happened to it.
    const update = v.safeParse(aboutIssue, body)
    if (!update.success) return { ignored: 'not a webhook about an issue with a key of the usual form' }
    return { update: update.output, transition: v.is(transitionPayload, body) }
  }
  const isComment = commentEvents.some(name => name === webhookEvent)
  const parsed = isComment ? parseComment(body) : parseTicket(body)
  return 'ignored' in parsed ? parsed : { ...parsed, late: v.is(latePayload, body) }
}

/** One ticket keeps its order. */
export const jiraLane = (body: unknown): string => {
  const about = v.safeParse(aboutIssue, body)
  return about.success ? `jira:${about.output}` : 'jira:other'
}
