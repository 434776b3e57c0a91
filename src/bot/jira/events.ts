/** Jira's webhooks, of Cloud and of Data Center, as events of ours. Hostile until parsed. Pure. */
import * as v from 'valibot'
import type { SwarmEvent } from '../../../handlers/handler.ts'
import { isTicket } from '../../domain.ts'
import type { Parsed } from '../github/events.ts'
import { categoryOf, member, text } from './answers.ts'

type TicketEvent = Extract<SwarmEvent, { kind: 'ticket' }>
type CommentEvent = Extract<SwarmEvent, { kind: 'ticket-comment' }>

/** Cloud names people by accountId, Data Center by name or key. */
const person = v.optional(
  v.nullable(
    v.object({
      accountId: v.optional(v.nullable(v.string())),
      name: v.optional(v.nullable(v.string())),
      key: v.optional(v.nullable(v.string())),
    }),
  ),
)
const payloadOf = v.object({
  webhookEvent: v.string(),
  timestamp: v.optional(v.number()),
  user: person,
  issue: v.object({
    key: v.string(),
    fields: v.optional(
      v.object({
        status: v.optional(
          v.nullable(
            v.object({ statusCategory: v.optional(v.nullable(v.object({ key: v.optional(v.nullable(v.string())) }))) }),
          ),
        ),
        assignee: person,
        labels: v.optional(v.nullable(v.array(v.string()))),
      }),
    ),
  }),
  changelog: v.optional(
    v.nullable(
      v.object({ id: v.optional(v.nullable(v.string())), items: v.optional(v.nullable(v.array(v.unknown()))) }),
    ),
  ),
})

const commentEvents = ['comment_created', 'comment_updated'] as const
/** What is listened to. */
export const jiraEventNames: readonly string[] = [
  ...['jira:issue_created', 'jira:issue_updated', 'jira:issue_deleted'],
  ...commentEvents,
]

const commentPayload = v.object({
  webhookEvent: v.picklist(commentEvents),
  issue: v.object({ key: v.pipe(v.string(), v.check(isTicket)) }),
  comment: v.object({
    // It becomes part of an address.
    id: v.pipe(v.string(), v.regex(/^\d{1,20}$/)),
    body: v.optional(v.unknown()),
    created: v.optional(v.nullable(v.string())),
  }),
})

const accountOf = (one: v.InferOutput<typeof person>): string | null => one?.accountId ?? one?.name ?? one?.key ?? null

const fieldOf = (item: unknown): string | null => text(member(item, 'field'))

const changeOf = (name: string, fields: (string | null)[]): TicketEvent['change'] | null => {
  if (name === 'jira:issue_deleted') return 'deleted'
  if (name === 'jira:issue_created') return 'status'
  if (name !== 'jira:issue_updated') return null
  return fields.includes('status') ? 'status' : fields.includes('assignee') ? 'assignee' : null
}

const commentEvent = (body: unknown): CommentEvent | null => {
  const parsed = v.safeParse(commentPayload, body)
  if (!parsed.success) return null
  const { webhookEvent, issue, comment } = parsed.output
  const at = Date.parse(comment.created ?? '')
  return {
    kind: 'ticket-comment',
    ticket: issue.key,
    commentId: comment.id,
    body: comment.body,
    change: webhookEvent === 'comment_created' ? 'created' : 'edited',
    at: Number.isNaN(at) ? null : at,
  }
}

export const jiraEvent = (body: unknown): Parsed<TicketEvent | CommentEvent> => {
  const comment = commentEvent(body)
  if (comment !== null) return { event: comment }
  const parsed = v.safeParse(payloadOf, body)
  if (!parsed.success) return { ignored: 'no webhook about an issue' }
  const { webhookEvent, timestamp, issue, user, changelog } = parsed.output
  if (!isTicket(issue.key)) return { ignored: 'the issue has no key of the usual form' }
  const change = changeOf(webhookEvent, (changelog?.items ?? []).map(fieldOf))
  if (change === null) return { ignored: `${webhookEvent.slice(0, 60)} without a change of status or assignee` }
  return {
    event: {
      kind: 'ticket',
      ticket: issue.key,
      change,
      category: categoryOf(issue.fields?.status?.statusCategory?.key),
      assignee: accountOf(issue.fields?.assignee),
      labels: issue.fields?.labels ?? [],
      by: accountOf(user),
      at: timestamp ?? null,
    },
  }
}

/** What names the change itself, the same whichever way it is told; null when nothing does. */
export const jiraChange = (body: unknown): string | null => {
  const comment = commentEvent(body)
  if (comment !== null) return comment.change === 'created' ? `comment:${comment.commentId}` : null
  const parsed = v.safeParse(payloadOf, body)
  if (!parsed.success) return null
  const { webhookEvent, issue, changelog } = parsed.output
  if (webhookEvent === 'jira:issue_created') return `created:${issue.key}`
  return typeof changelog?.id === 'string' ? `changed:${changelog.id}` : null
}

/** One ticket keeps its order. */
export const jiraLane = (body: unknown): string => {
  const parsed = v.safeParse(v.object({ issue: v.object({ key: v.string() }) }), body)
  return parsed.success && isTicket(parsed.output.issue.key) ? `jira:${parsed.output.issue.key}` : 'jira:other'
}
