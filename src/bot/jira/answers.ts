/** What Jira's answers say, in words of ours. An answer is foreign: what it lacks is missing here, or null. Pure. */
import type { StatusCategory } from '../../../handlers/handler.ts'
import { isTicket, type Ticket } from '../../domain.ts'

/** An issue as it is now. */
export type JiraIssue = { category: StatusCategory; assignee: string | null; labels: string[] }
/** A change of an issue's status or assignee. `at` is epoch ms of Jira's clock, `to` the id of the new status, if that changed. */
export type Change = { id: string; at: number; by: string | null; fields: ('status' | 'assignee')[]; to: string | null }
/** An issue as it is, with the changes that came with it, the newest 40 at most, oldest first. */
export type Standing = JiraIssue & { ticket: Ticket; createdAt: number; changes: Change[] }
/**
 * Whom a comment is shown to, in the words of Jira's API: a group or a role, or, in a service project, not its customers
 * (the property sd.public.comment). Empty for whoever sees the issue.
 */
export type Audience = {
  visibility?: { type: string; value: string }
  properties?: [{ key: 'sd.public.comment'; value: { internal: true } }]
}
/** A comment as it is now: `body` is a document, `at` (epoch ms of Jira's clock) when it was written. */
export type JiraComment = {
  id: string
  at: number
  author: string | null
  /** An add-on, an automation or the like. */
  authorIsApp: boolean
  /** It was changed since it was written. */
  edited: boolean
  body: unknown
  audience: Audience
}

type Told = Record<string, unknown>
/** What stands at this path: only what is an object's own, never what it inherits. */
export const member = (value: unknown, ...path: string[]): unknown =>
  path.reduce<unknown>(
    (at, name) => (typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as Told)[name] : undefined),
    value,
  )
export const text = (value: unknown): string | null => (typeof value === 'string' ? value : null)
export const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])
/** Epoch ms; NaN for what is no time. */
export const time = (value: unknown): number => Date.parse(text(value) ?? '')

/** Ids grow, and two things may be of one moment. */
export const byTime = (one: { id: string; at: number }, other: { id: string; at: number }): number =>
  one.at - other.at || Number(one.id) - Number(other.id)

const CATEGORIES: readonly StatusCategory[] = ['new', 'indeterminate', 'done', 'undefined']
/** Of the key of a status category. */
export const categoryOf = (key: unknown): StatusCategory => CATEGORIES.find(one => one === key) ?? 'undefined'

export const issueIn = (told: unknown): JiraIssue => ({
  category: categoryOf(member(told, 'fields', 'status', 'statusCategory', 'key')),
  assignee: text(member(told, 'fields', 'assignee', 'accountId')),
  labels: list(member(told, 'fields', 'labels')).filter(one => typeof one === 'string'),
})

const changeIn = (history: unknown): Change | null => {
  const id = text(member(history, 'id'))
  const at = time(member(history, 'created'))
  const items = member(history, 'items')
  if (id === null || Number.isNaN(at) || !Array.isArray(items)) return null
  const item = (field: string) => items.find(one => member(one, 'field') === field)
  const fields = (['status', 'assignee'] as const).filter(field => item(field) !== undefined)
  if (fields.length === 0) return null
  return { id, at, by: text(member(history, 'author', 'accountId')), fields, to: text(member(item('status'), 'to')) }
}
/** Oldest first. */
export const changesIn = (histories: readonly unknown[]): Change[] =>
  histories.flatMap(one => changeIn(one) ?? []).sort(byTime)

/** Null where it has no key of the usual form, or no time. */
export const standingIn = (issue: unknown): Standing | null => {
  const ticket = text(member(issue, 'key'))
  const createdAt = time(member(issue, 'fields', 'created'))
  if (ticket === null || !isTicket(ticket) || Number.isNaN(createdAt)) return null
  const changes = changesIn(list(member(issue, 'changelog', 'histories')))
  return { ticket, createdAt, changes, ...issueIn(issue) }
}

const audienceOf = (told: unknown): Audience => {
  const type = text(member(told, 'visibility', 'type'))
  const value = text(member(told, 'visibility', 'value'))
  return {
    ...(type === null || value === null ? {} : { visibility: { type, value } }),
    ...(member(told, 'jsdPublic') === false
      ? { properties: [{ key: 'sd.public.comment', value: { internal: true } }] }
      : {}),
  }
}
export const commentIn = (told: unknown): JiraComment | null => {
  const id = text(member(told, 'id'))
  const created = text(member(told, 'created'))
  const at = time(created)
  if (id === null || Number.isNaN(at)) return null
  return {
    id,
    at,
    author: text(member(told, 'author', 'accountId')),
    authorIsApp: member(told, 'author', 'accountType') === 'app',
    // One that was never changed has one time twice.
    edited: text(member(told, 'updated')) !== created,
    body: member(told, 'body'),
    audience: audienceOf(told),
  }
}

/** The text of a document, without its form: Jira gives back more attributes than were sent. */
export const plain = (node: unknown): string =>
  (text(member(node, 'text')) ?? '') + list(member(node, 'content')).map(plain).join('\n')
