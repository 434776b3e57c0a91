/** The issues of the Jira stand-in, their history, and how Jira's API describes them. */
import type { Audience } from '../../src/bot/jira/answers.ts'

export const ME = {
  accountId: '5b10a2844c20165700ede21g',
  displayName: 'Dev',
  emailAddress: 'dev@example.org',
  active: true,
  timeZone: 'UTC',
}
const STATUSES = {
  'To Do': { id: '10000', category: { id: 2, key: 'new', name: 'To Do', colorName: 'blue-gray' } },
  'In Progress': { id: '3', category: { id: 4, key: 'indeterminate', name: 'In Progress', colorName: 'yellow' } },
  'In Review': { id: '10010', category: { id: 4, key: 'indeterminate', name: 'In Progress', colorName: 'yellow' } },
  Done: { id: '10001', category: { id: 3, key: 'done', name: 'Done', colorName: 'green' } },
} as const
export type JiraStatus = keyof typeof STATUSES
export const statusNames = Object.keys(STATUSES) as JiraStatus[]

export type Document = { type: string; version: number; content: unknown[] }
/** `at` and `changedAt` are epoch ms. */
export type Comment = {
  id: string
  body: Document
  author: string
  app: boolean
  at: number
  changedAt: number
  to?: Audience
}
export type Item = {
  field: string
  fieldtype: 'jira'
  fieldId?: string
  from: string | null
  to: string | null
  fromString: string | null
  toString: string | null
}
type History = { id: string; at: number; items: Item[] }
/** `id` stays when the key changes. */
export type Issue = {
  id: string
  key: string
  summary: string
  status: JiraStatus
  assignee: string | null
  comments: Comment[]
  createdAt: number
  /** Oldest first. */
  histories: History[]
  /** More of its fields, by id, in place of what the board gives. */
  fields: Record<string, unknown>
}

/** A search shows this many of an issue's changes. */
const SHOWN_CHANGES = 40
/** And this many of its comments, the oldest. */
const SHOWN_COMMENTS = 20
const WEEK_MS = 7 * 24 * 60 * 60_000

/** As Jira writes times. */
export const timeOf = (at: number) => new Date(at).toISOString().replace('Z', '+0000')
export const projectOf = (key: string) => key.split('-')[0] ?? ''

/** All text of a document. */
export const textOf = (node: unknown): string => {
  if (typeof node !== 'object' || node === null) return ''
  const { type, text, content } = node as { type?: unknown; text?: unknown; content?: unknown }
  // The parts of a paragraph follow each other; blocks stand apart.
  const between = type === 'doc' || type === 'table' || type === 'tableRow' ? ' ' : ''
  return (typeof text === 'string' ? text : '') + (Array.isArray(content) ? content.map(textOf).join(between) : '')
}
/** A paragraph with these lines. */
export const paragraphOf = (text: string): Document => {
  const content = text
    .split('\n')
    .flatMap((line, n) => [
      ...(n === 0 ? [] : [{ type: 'hardBreak' }]),
      ...(line === '' ? [] : [{ type: 'text', text: line }]),
    ])
  return { type: 'doc', version: 1, content: [{ type: 'paragraph', content }] }
}

export const updatedAt = (issue: Issue) =>
  Math.max(issue.createdAt, issue.histories.at(-1)?.at ?? 0, ...issue.comments.map(comment => comment.changedAt))

/** `issues`: summaries by key. The issues are a week old. `clock` gives epoch ms. */
export const openBoard = (issues: Record<string, string>, clock: () => number) => {
  const known = new Map<string, Issue>()
  /** Previous keys of moved issues. */
  const aliases = new Map<string, string>()
  let created = 0
  let changes = 50_000
  let comments = 20_000
  const create = (key: string, summary: string, status: JiraStatus, createdAt: number): void => {
    created += 1
    const id = String(10_000 + created)
    known.set(key, {
      ...{ id, key, summary, status, assignee: ME.accountId, comments: [], createdAt, histories: [], fields: {} },
    })
  }
  for (const [key, summary] of Object.entries(issues)) create(key, summary, 'To Do', clock() - WEEK_MS)

  const requireIssue = (key: string): Issue => {
    const issue = known.get(key)
    if (issue === undefined) throw new Error(`there is no issue ${key}`)
    return issue
  }
  const record = (issue: Issue, items: Item[]): Item[] => {
    changes += 1
    issue.histories.push({ id: String(changes), at: clock(), items })
    return items
  }
  const statusItem = (from: JiraStatus, to: JiraStatus): Item => ({
    ...{ field: 'status', fieldtype: 'jira', fieldId: 'status', from: STATUSES[from].id, to: STATUSES[to].id },
    ...{ fromString: from, toString: to },
  })

  return {
    known,
    requireIssue,
    /** By its present key, or one that it had before. */
    find: (key: string): Issue | undefined => known.get(aliases.get(key) ?? key) ?? known.get(key),
    create: (key: string, status: JiraStatus) => create(key, 'new', status, clock()),
    moveTo: (issue: Issue, to: JiraStatus): Item[] => {
      const item = statusItem(issue.status, to)
      issue.status = to
      return record(issue, [item])
    },
    assign: (issue: Issue, to: string | null): Item[] => {
      const from = issue.assignee
      issue.assignee = to
      return record(issue, [
        {
          ...{ field: 'assignee', fieldtype: 'jira', fieldId: 'assignee' },
          ...{ from, to, fromString: from, toString: to },
        },
      ])
    },
    /** Moves the issue to another project, where it gets `key`, and perhaps another status. */
    rekey: (issue: Issue, key: string, status: JiraStatus): Item[] => {
      const from = issue.key
      const items: Item[] = [
        {
          ...{ field: 'project', fieldtype: 'jira', fieldId: 'project', from: '10000', to: '10001' },
          ...{ fromString: projectOf(from), toString: projectOf(key) },
        },
        ...(status === issue.status ? [] : [statusItem(issue.status, status)]),
        { field: 'Key', fieldtype: 'jira', from: null, fromString: from, to: null, toString: key },
      ]
      known.delete(from)
      for (const [alias, target] of aliases) if (target === from) aliases.set(alias, key)
      aliases.set(from, key)
      aliases.delete(key)
      Object.assign(issue, { key, status })
      known.set(key, issue)
      return record(issue, items)
    },
    comment: (issue: Issue, body: Document, author: string, app = false): Comment => {
      comments += 1
      const now = clock()
      const comment: Comment = { id: String(comments), body, author, app, at: now, changedAt: now }
      issue.comments.push(comment)
      return comment
    },
  }
}
export type Board = ReturnType<typeof openBoard>

/** The issues that a query finds: the JQL that the bot asks, and nothing else. Null: Jira would refuse it. */
export const queryOf = (
  jql: string,
  known: ReadonlyMap<string, Issue>,
  now: number,
): ((issue: Issue) => boolean) | null => {
  const projects = jql.match(/^project in \(("[A-Z][A-Z0-9_]*"(?:, "[A-Z][A-Z0-9_]*")*)\)/)
  if (projects === null) return null
  const keys = (projects[1] ?? '').replaceAll('"', '').split(', ')
  if (keys.some(key => ![...known.keys()].some(issue => issue.startsWith(`${key}-`)))) return null
  const rest = jql.slice(projects[0].length)
  const isInProjects = (issue: Issue) => keys.includes(projectOf(issue.key))
  const minutes = rest.match(/^ AND updated >= -(\d+)m ORDER BY updated ASC$/)?.[1]
  if (minutes !== undefined) {
    // In whole minutes.
    const since = Math.floor((now - Number(minutes) * 60_000) / 60_000) * 60_000
    return issue => isInProjects(issue) && updatedAt(issue) >= since
  }
  const progress = rest.match(
    /^ AND statusCategory = 4( AND assignee = currentUser\(\)| AND assignee in \(([^)]*)\))?$/,
  )
  if (progress === null) return null
  const whose = progress[2]?.replaceAll('"', '').split(', ') ?? (progress[1] === undefined ? null : [ME.accountId])
  return issue =>
    isInProjects(issue) &&
    STATUSES[issue.status].category.id === 4 &&
    (whose === null || (issue.assignee !== null && whose.includes(issue.assignee)))
}

/** The objects of Jira's API. `self`: the address of the stand-in. */
export const openDescriptions = (self: string) => {
  const person = (accountId: string | null, app = false) =>
    accountId === null
      ? null
      : {
          ...ME,
          accountId,
          displayName: accountId === ME.accountId ? ME.displayName : `${accountId} Example`,
          self: `${self}/rest/api/3/user?accountId=${accountId}`,
          accountType: app ? 'app' : 'atlassian',
          avatarUrls: {},
        }
  const status = (name: JiraStatus) => {
    const { id, category } = STATUSES[name]
    return {
      ...{ self: `${self}/rest/api/3/status/${id}`, id, name, description: '', iconUrl: `${self}/icon` },
      statusCategory: { self: `${self}/rest/api/3/statuscategory/${category.id}`, ...category },
    }
  }
  const comment = (issue: Issue, { id, body, author, app, at, changedAt, to }: Comment) => ({
    self: `${self}/rest/api/3/issue/${issue.key}/comment/${id}`,
    ...{ id, author: person(author, app), updateAuthor: person(author, app), body },
    ...{ created: timeOf(at), updated: timeOf(changedAt) },
    jsdPublic: to?.properties?.some(({ key, value }) => key === 'sd.public.comment' && value.internal) !== true,
    ...(to?.visibility === undefined ? {} : { visibility: { ...to.visibility, identifier: to.visibility.value } }),
  })
  const commentField = (issue: Issue) => ({
    self: `${self}/rest/api/3/issue/${issue.key}/comment`,
    ...{ startAt: 0, maxResults: SHOWN_COMMENTS, total: issue.comments.length },
    comments: issue.comments.slice(0, SHOWN_COMMENTS).map(entry => comment(issue, entry)),
  })
  const history = ({ id, at, items }: History) => ({ id, author: person(ME.accountId), created: timeOf(at), items })
  return {
    person,
    status,
    comment,
    history,
    project: (key: string) => ({ self, id: '10000', key, name: `Project ${key}` }),
    issue: (issue: Issue, { withComments = false } = {}) => ({
      ...{ id: issue.id, self: `${self}/rest/api/3/issue/${issue.key}`, key: issue.key },
      fields: {
        ...{ summary: issue.summary, status: status(issue.status), assignee: person(issue.assignee) },
        project: { id: '10000', key: projectOf(issue.key), name: 'Project' },
        ...{ labels: [], created: timeOf(issue.createdAt), updated: timeOf(updatedAt(issue)) },
        ...(withComments ? { comment: commentField(issue) } : {}),
        ...{ reporter: person(ME.accountId), description: null },
        ...issue.fields,
      },
    }),
    changelog: ({ histories }: Issue) => {
      const shown = histories.slice(-SHOWN_CHANGES).reverse().map(history)
      return { startAt: 0, maxResults: shown.length, total: histories.length, histories: shown }
    },
  }
}
export type Descriptions = ReturnType<typeof openDescriptions>
