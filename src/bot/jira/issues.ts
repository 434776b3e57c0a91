/** Reads issues: one, those that a search finds, and their changes and comments. */
import * as v from 'valibot'
import type { StatusCategory } from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import { type Task, task } from '../../schema/action.ts'
import { remembered } from '../remembered.ts'
import {
  byTime,
  type Change,
  categoryOf,
  changesIn,
  commentIn,
  type IssueWithChanges,
  issueIn,
  issueWithChangesIn,
  type JiraComment,
  type JiraIssue,
  list,
  member,
  text,
  time,
} from './answers.ts'
import { acceptanceSection, isAcceptanceField, plainText } from './plain-text.ts'
import { type Ask, refusalOf, unlessGone } from './request.ts'
import * as shapes from './shapes.ts'

const PAGE = 100
const MAX_ACCEPTANCE_FIELDS = 5
/** The fields that `issueWithChangesIn` reads. */
const FIELDS = ['status', 'assignee', 'labels', 'created']

/** An issue that a search found, with all its changes and comments since the given time, oldest first. */
export type SearchedIssue = IssueWithChanges & { comments: JiraComment[] }

async function* searchIssues(ask: Ask, jql: string, fields: readonly string[]): AsyncGenerator<unknown> {
  for (let nextPageToken: string | null = null; ; ) {
    const answer: v.InferOutput<typeof shapes.foundIssues> = await ask('searching Jira', {
      shape: shapes.foundIssues,
      url: '/rest/api/3/search/jql',
      searchParams: {
        ...{ jql, fields: fields.join(','), expand: 'changelog', maxResults: PAGE },
        ...(nextPageToken === null ? {} : { nextPageToken }),
      },
    })
    yield* answer.issues
    nextPageToken = answer.nextPageToken ?? null
    if (nextPageToken === null || answer.isLast === true) return
  }
}

/** All pages of a list that is counted from `startAt`. Not every such list marks its last page. */
async function* pagesOf<Name extends 'values' | 'comments'>(
  ask: Ask,
  doing: string,
  url: string,
  name: Name,
  more: { orderBy?: string } = {},
): AsyncGenerator<unknown> {
  const shape = name === 'values' ? shapes.changes : shapes.comments
  for (let startAt = 0; ; startAt += PAGE) {
    const answer = await ask(doing, { url, shape, searchParams: { startAt, maxResults: PAGE, ...more } })
    const items = list(member(answer, name))
    yield* items
    if (items.length === 0 || (answer.isLast ?? items.length < PAGE)) return
  }
}

/** All changes since `since`, oldest first: those that came with the search, and those that it left out. */
const changesSince = async (ask: Ask, ticket: Ticket, changelog: unknown, since: number): Promise<Change[]> => {
  let histories = list(member(changelog, 'histories'))
  const total = Number(member(changelog, 'total') ?? histories.length)
  const oldest = Math.min(...histories.map(history => time(member(history, 'created')) || 0))
  if (histories.length < total && oldest >= since) {
    const url = `/rest/api/3/issue/${ticket}/changelog`
    histories = await Array.fromAsync(pagesOf(ask, `reading the changes of ${ticket} in Jira`, url, 'values'))
  }
  return changesIn(histories).filter(({ at }) => at >= since)
}

/** Newest first. */
export const commentsOf = (ask: Ask, ticket: Ticket): AsyncGenerator<unknown> =>
  pagesOf(ask, `reading the comments of ${ticket} in Jira`, `/rest/api/3/issue/${ticket}/comment`, 'comments', {
    orderBy: '-created',
  })

/** The comments written since `since`, oldest first. `field`: the search's own list, which is used when it is complete. */
const commentsSince = async (ask: Ask, ticket: Ticket, field: unknown, since: number): Promise<JiraComment[]> => {
  const listed = member(field, 'comments')
  const all = Array.isArray(listed) && listed.length >= Number(member(field, 'total')) ? listed : null
  const comments: JiraComment[] = []
  for await (const entry of all ?? commentsOf(ask, ticket)) {
    const comment = commentIn(entry)
    if (comment !== null && comment.at >= since) comments.push(comment)
    else if (all === null) break
  }
  return comments.sort(byTime)
}

export const openIssues = (ask: Ask) => {
  let categories = new Map<string, StatusCategory>()
  const acceptanceFields = remembered(async () => {
    const answer = await ask("reading Jira's fields", { url: '/rest/api/3/field', shape: shapes.allFields })
    return answer
      .filter(({ name }) => isAcceptanceField(name))
      .flatMap(({ id }) => id.match(/^[A-Za-z0-9_]{1,100}$/)?.[0] ?? [])
      .slice(0, MAX_ACCEPTANCE_FIELDS)
  })
  const readCategories = async () => {
    const answer = await ask("reading Jira's statuses", { url: '/rest/api/3/status', shape: shapes.statuses })
    categories = new Map(answer.map(({ id, statusCategory }) => [id, categoryOf(statusCategory.key)] as const))
  }

  return {
    /** Null when there is no such issue, or none that we may see. */
    issue: async (ticket: Ticket): Promise<JiraIssue | null> => {
      const answer = await ask(`reading ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}`,
        shape: shapes.issue,
        searchParams: { fields: 'status,assignee,labels,updated,summary' },
      }).catch(unlessGone)
      return answer === null ? null : issueIn(answer, ticket)
    },
    /** What the ticket asks for, and the account that reported it; null when there is no such issue, or none that we may see. */
    taskOf: async (ticket: Ticket): Promise<{ task: Task; reporter: string | null } | null> => {
      // Where its fields cannot be read, the section of the description counts.
      const fields = await acceptanceFields().catch(() => [])
      const answer = await ask(`reading the text of ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}`,
        shape: shapes.issueText,
        searchParams: { fields: ['summary', 'description', 'reporter', ...fields].join(',') },
      }).catch(unlessGone)
      if (answer === null) return null
      const field = (name: string) => member(answer, 'fields', name)
      const description = plainText(field('description'))
      const own = fields.map(name => plainText(field(name))).find(written => written !== '')
      const acceptance = own ?? acceptanceSection(description)
      return {
        task: v.parse(task, { summary: plainText(field('summary')), description, acceptance }),
        reporter: text(member(answer, 'fields', 'reporter', 'accountId')),
      }
    },
    /** What JQL finds, with changes and comments since `since` (epoch ms). What it does not find may exist all the same. */
    search: async (jql: string, since: number): Promise<SearchedIssue[]> => {
      const issues: SearchedIssue[] = []
      for await (const entry of searchIssues(ask, jql, [...FIELDS, 'comment'])) {
        const issue = issueWithChangesIn(entry)
        if (issue === null) continue
        const { ticket } = issue
        try {
          const changes = await changesSince(ask, ticket, member(entry, 'changelog'), since)
          const comments = await commentsSince(ask, ticket, member(entry, 'fields', 'comment'), since)
          issues.push({ ...issue, changes, comments })
        } catch (error) {
          // The search lags behind: an issue that is gone or hidden by now must not hide the others.
          if (refusalOf(error) !== 404 && refusalOf(error) !== 403) throw error
        }
      }
      return issues
    },
    /** The issues that JQL finds, as they are. */
    issuesFound: async (jql: string): Promise<IssueWithChanges[]> =>
      (await Array.fromAsync(searchIssues(ask, jql, FIELDS))).flatMap(issue => issueWithChangesIn(issue) ?? []),
    /**
     * Issues by their keys, present or previous, as they are. An issue that Jira does not show to us is left out, and may exist
     * all the same.
     */
    issuesOf: async (tickets: readonly Ticket[]): Promise<IssueWithChanges[]> => {
      const issues: IssueWithChanges[] = []
      for (let start = 0; start < tickets.length; start += PAGE) {
        const issueIdsOrKeys = tickets.slice(start, start + PAGE)
        const answer = await ask(`reading ${issueIdsOrKeys.length} issues in Jira`, {
          url: '/rest/api/3/issue/bulkfetch',
          method: 'POST',
          reads: true,
          shape: shapes.issues,
          body: { issueIdsOrKeys, fields: FIELDS, expand: ['changelog'] },
        })
        issues.push(...answer.issues.flatMap(issue => issueWithChangesIn(issue) ?? []))
      }
      return issues
    },
    /** The category of a status, by its id. */
    categoryOf: async (status: string): Promise<StatusCategory> => {
      if (!categories.has(status)) await readCategories()
      return categories.get(status) ?? 'undefined'
    },
    /** Null when it is gone. */
    readComment: async (ticket: Ticket, id: string): Promise<JiraComment | null> => {
      const url = `/rest/api/3/issue/${ticket}/comment/${id}`
      const doing = `reading a comment on ${ticket} in Jira`
      const answer = await ask(doing, { url, shape: shapes.comment }).catch(unlessGone)
      return answer === null ? null : commentIn(answer)
    },
  }
}
