/** Reads Jira's responses. They are foreign: what is missing in one is null here, or left out. Pure. */
import * as v from 'valibot'
import type { StatusCategory, TicketNow } from '../../../handlers/handler.ts'
import { isTicket, type Ticket } from '../../domain.ts'
import type { Requester } from '../../schema/action.ts'
import { oneName } from '../../schema/basics.ts'

/**
 * An issue at this moment. `ticket` is its present key; an issue is also found by the keys that it had before. `updatedAt`: epoch
 * ms of Jira's clock; NaN when the answer does not say.
 */
export type JiraIssue = TicketNow & {
  ticket: Ticket
  statusName: string | null
  updatedAt: number
  /** One line; null when the answer does not say. */
  summary: string | null
}
/**
 * A change of an issue's status, assignee or key. `at` is epoch ms of Jira's clock, `fromStatus` and `to` the ids of the previous
 * and the new status, `toName` the new one's name and `from` the previous key, when these changed.
 */
export type Change = {
  id: string
  at: number
  by: Requester
  fromStatus: string | null
  fields: ('status' | 'assignee' | 'Key')[]
  to: string | null
  toName: string | null
  from: Ticket | null
}
/** An issue with the changes that came with it, the newest 40 at most, oldest first. */
export type IssueWithChanges = JiraIssue & { createdAt: number; changes: Change[] }
/**
 * Who may see a comment, in the words of Jira's API: a group or a role, or, in a service project, everybody but its customers
 * (the property sd.public.comment). Empty: everybody who sees the issue.
 */
export type Audience = {
  visibility?: { type: string; value: string }
  properties?: [{ key: 'sd.public.comment'; value: { internal: true } }]
}
/** A comment at this moment: `body` is a document, `at` (epoch ms of Jira's clock) when it was written. */
export type JiraComment = {
  id: string
  at: number
  author: Requester
  /** An add-on or an automation, for example. */
  authorIsApp: boolean
  /** It was changed since it was written. */
  edited: boolean
  body: unknown
  audience: Audience
}

/** The value at this path. It follows own members only, never inherited ones. */
export const member = (value: unknown, ...path: string[]): unknown =>
  path.reduce<unknown>(
    (at, name) =>
      typeof at === 'object' && at !== null && Object.hasOwn(at, name)
        ? (at as Record<string, unknown>)[name]
        : undefined,
    value,
  )
export const text = (value: unknown): string | null => (typeof value === 'string' ? value : null)
export const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])
/** Epoch ms; NaN when it is not a time. */
export const time = (value: unknown): number => Date.parse(text(value) ?? '')
const ticketIn = (value: unknown): Ticket | null => (typeof value === 'string' && isTicket(value) ? value : null)

/** A Jira account with its display name; each may be missing. */
export const requesterOf = (account: string | null, name: string | null): Requester => ({
  ...{ via: 'jira', who: account },
  ...(name === null || name === '' ? {} : { name }),
})
const authorOf = (entry: unknown): Requester => {
  const name = text(member(entry, 'author', 'displayName'))
  return requesterOf(text(member(entry, 'author', 'accountId')), name === null ? null : v.parse(oneName, name))
}

/** For `sort`. Ids grow, which tells apart what happened in the same millisecond. */
export const byTime = (a: { id: string; at: number }, b: { id: string; at: number }): number =>
  a.at - b.at || Number(a.id) - Number(b.id)

const lineOf = (value: unknown): string | null => {
  const line = text(value)
  return line === null ? null : v.parse(oneName, line)
}

const CATEGORIES: readonly StatusCategory[] = ['new', 'indeterminate', 'done', 'undefined']
/** By the key of a status category. */
export const categoryOf = (key: unknown): StatusCategory => CATEGORIES.find(category => category === key) ?? 'undefined'

/** `key`: by which the issue was read; a response without a usable key keeps it. */
export const issueIn = (answer: unknown, key: Ticket): JiraIssue => ({
  ticket: ticketIn(member(answer, 'key')) ?? key,
  category: categoryOf(member(answer, 'fields', 'status', 'statusCategory', 'key')),
  statusName: text(member(answer, 'fields', 'status', 'name')),
  assignee: text(member(answer, 'fields', 'assignee', 'accountId')),
  labels: list(member(answer, 'fields', 'labels')).filter(label => typeof label === 'string'),
  updatedAt: time(member(answer, 'fields', 'updated')),
  summary: lineOf(member(answer, 'fields', 'summary')),
})

const changeIn = (history: unknown): Change | null => {
  const id = text(member(history, 'id'))
  const at = time(member(history, 'created'))
  const items = list(member(history, 'items'))
  if (id === null || Number.isNaN(at)) return null
  const item = (field: string) => items.find(candidate => member(candidate, 'field') === field)
  const fields = (['status', 'assignee', 'Key'] as const).filter(field => item(field) !== undefined)
  if (fields.length === 0) return null
  return {
    ...{ id, at, fields },
    by: authorOf(history),
    fromStatus: text(member(item('status'), 'from')),
    to: text(member(item('status'), 'to')),
    toName: text(member(item('status'), 'toString')),
    from: ticketIn(member(item('Key'), 'fromString')),
  }
}
/** Oldest first. */
export const changesIn = (histories: readonly unknown[]): Change[] =>
  histories.flatMap(history => changeIn(history) ?? []).sort(byTime)

/** Null when it has no usable key or no time. */
export const issueWithChangesIn = (issue: unknown): IssueWithChanges | null => {
  const ticket = ticketIn(member(issue, 'key'))
  const createdAt = time(member(issue, 'fields', 'created'))
  if (ticket === null || Number.isNaN(createdAt)) return null
  const changes = changesIn(list(member(issue, 'changelog', 'histories')))
  return { ...issueIn(issue, ticket), createdAt, changes }
}

const audienceOf = (comment: unknown): Audience => {
  const type = text(member(comment, 'visibility', 'type'))
  const value = text(member(comment, 'visibility', 'value'))
  const isInternal = member(comment, 'jsdPublic') === false
  return {
    ...(type === null || value === null ? {} : { visibility: { type, value } }),
    ...(isInternal ? { properties: [{ key: 'sd.public.comment', value: { internal: true } }] } : {}),
  }
}
export const commentIn = (comment: unknown): JiraComment | null => {
  const id = text(member(comment, 'id'))
  const created = text(member(comment, 'created'))
  const at = time(created)
  if (id === null || Number.isNaN(at)) return null
  return {
    id,
    at,
    author: authorOf(comment),
    authorIsApp: member(comment, 'author', 'accountType') === 'app',
    // A comment that was never changed has the same time twice.
    edited: text(member(comment, 'updated')) !== created,
    body: member(comment, 'body'),
    audience: audienceOf(comment),
  }
}

/** The text of a document without its form: Jira returns more attributes than were sent. */
export const plain = (node: unknown): string =>
  (text(member(node, 'text')) ?? '') + list(member(node, 'content')).map(plain).join('\n')
