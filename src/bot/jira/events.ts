/**
 * Jira's webhooks, of Cloud and of Data Center, as events. A payload is hostile until it is parsed here, once. What is needed is
 * required; everything else that is missing or of another type counts as missing, because versions differ. Pure.
 * https://developer.atlassian.com/cloud/jira/platform/webhooks/
 */
import * as v from 'valibot'
import type { EventOf } from '../../../handlers/handler.ts'
import { isTicket, type Ticket } from '../../domain.ts'
import { shortText } from '../../schema/basics.ts'
import { categoryOf } from './answers.ts'

export type JiraEvent = EventOf<'ticket' | 'ticket-comment'>
/** `change` names the change itself, the same for a webhook and a poll; null when nothing names it. */
export type JiraDelivery = { event: JiraEvent; change: string | null }

/** Null when it is missing or of another type. The fallback is outermost: a missing member skips what is inside. */
const orNull = <Schema extends v.GenericSchema>(schema: Schema) => v.fallback(v.nullable(schema), null)
const short = orNull(shortText(255))

/** Cloud names people by accountId, Data Center by name or key. */
const person = orNull(
  v.pipe(
    v.object({ accountId: short, name: short, key: short }),
    v.transform(account => account.accountId ?? account.name ?? account.key),
  ),
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
/** `fromString`: the previous key, for the field `Key`. */
const item = v.fallback(v.object({ field: short, fromString: short }), { field: null, fromString: null })
const changelogId = orNull(
  v.pipe(
    v.union([v.number(), shortText(64)]),
    v.transform(id => String(id)),
  ),
)

const key = v.pipe(v.string(), v.check(isTicket))
const ticketPayload = v.object({
  webhookEvent: shortText(100),
  timestamp,
  user: person,
  issue: v.object({
    key,
    fields: v.fallback(
      v.object({
        status: v.fallback(v.object({ statusCategory: v.fallback(v.object({ key: short }), { key: null }) }), {
          statusCategory: { key: null },
        }),
        assignee: person,
        labels,
      }),
      { status: { statusCategory: { key: null } }, assignee: null, labels: [] },
    ),
  }),
  changelog: v.fallback(v.object({ id: changelogId, items: v.fallback(v.array(item), []) }), { id: null, items: [] }),
})
type TicketPayload = v.InferOutput<typeof ticketPayload>

const commentEvents = ['comment_created', 'comment_updated'] as const
const commentPayload = v.object({
  webhookEvent: v.picklist(commentEvents),
  issue: v.object({ key }),
  comment: v.object({
    // It becomes part of a URL.
    id: v.pipe(v.string(), v.regex(/^\d{1,20}$/)),
    body: v.optional(v.unknown()),
    created: timestamp,
  }),
})

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
  const statusChanged = fields.includes('status')
  const from = previousKey(payload)
  const common = {
    kind: 'ticket',
    ticket: issue.key,
    category: categoryOf(issue.fields.status.statusCategory.key),
    assignee: issue.fields.assignee,
    labels: issue.fields.labels,
    by: user,
    at: timestamp,
  } as const
  if (webhookEvent === 'jira:issue_deleted') return { ...common, change: 'deleted' }
  if (webhookEvent === 'jira:issue_created') return { ...common, change: 'status' }
  if (webhookEvent !== 'jira:issue_updated') return null
  if (from !== null) return { ...common, change: 'moved', from, statusChanged }
  if (statusChanged) return { ...common, change: 'status' }
  return fields.includes('assignee') ? { ...common, change: 'assignee' } : null
}

export const parseJira = (body: unknown): JiraDelivery | { ignored: string } => {
  const asComment = v.safeParse(commentPayload, body)
  if (asComment.success) {
    const { webhookEvent, issue, comment } = asComment.output
    const change = webhookEvent === 'comment_created' ? 'created' : 'edited'
    return {
      event: {
        ...{ kind: 'ticket-comment', ticket: issue.key, commentId: comment.id, body: comment.body, change },
        at: comment.created,
      },
      change: change === 'created' ? `comment:${comment.id}` : null,
    }
  }
  const parsed = v.safeParse(ticketPayload, body)
  if (!parsed.success) return { ignored: 'not a webhook about an issue with a key of the usual form' }
  const { webhookEvent, issue, changelog } = parsed.output
  const event = ticketEvent(parsed.output)
  if (event === null) return { ignored: `${webhookEvent.slice(0, 60)} without a change of status, assignee or key` }
  const created = webhookEvent === 'jira:issue_created' ? `created:${issue.key}` : null
  return { event, change: created ?? (changelog.id === null ? null : `changed:${changelog.id}`) }
}

const laneMembers = v.object({ issue: v.object({ key }) })
/** One ticket keeps its order. */
export const jiraLane = (body: unknown): string => {
  const parsed = v.safeParse(laneMembers, body)
  return parsed.success ? `jira:${parsed.output.issue.key}` : 'jira:other'
}
