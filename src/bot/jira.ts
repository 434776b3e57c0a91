/** Jira's REST API, the little of it that is needed: who am I, how an issue is now, and our comments on it. */
import type { StatusCategory } from '../../handlers/handler.ts'
import type { JiraSettings } from '../config.ts'
import type { Ticket } from '../domain.ts'
import { type FailureError, fail } from '../errors.ts'
import type { Show } from './dry-run.ts'
import type { Adf } from './render.ts'

const DEADLINE_MS = 10_000
const COMMENTS_A_PAGE = 100

/** An issue as it is now. */
type Issue = { category: StatusCategory; assignee: string | null; labels: string[] }
export type Jira = {
  /** The account whose token it is. Asked once. */
  me(): Promise<string>
  /** Null when there is no such issue, or none that we may see. */
  issue(ticket: Ticket): Promise<Issue | null>
  /** Whether a comment of ours, made since then (epoch ms), says exactly this. */
  said(ticket: Ticket, body: Adf, since: number): Promise<boolean>
  comment(ticket: Ticket, body: Adf): Promise<void>
}

/** What failed, and whether it is worth another try (`retryAfter` in ms, when Jira said). */
export type JiraFailure = FailureError & { status: number | null; retryAfter: number | null }
export const isJiraFailure = (error: unknown): error is JiraFailure =>
  error instanceof Error && 'failure' in error && 'retryAfter' in error

const CATEGORIES: readonly StatusCategory[] = ['new', 'indeterminate', 'done', 'undefined']

type Told = Record<string, unknown>
const member = (value: unknown, ...path: string[]): unknown =>
  path.reduce<unknown>(
    (at, name) => (typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as Told)[name] : undefined),
    value,
  )
const text = (value: unknown): string | null => (typeof value === 'string' ? value : null)

/** The text of a document, without its form: Jira gives back more attributes than were sent. */
const plain = (node: unknown): string => {
  const content = member(node, 'content')
  return (text(member(node, 'text')) ?? '') + (Array.isArray(content) ? content.map(plain).join('\n') : '')
}

/** `show`, where it is set, is given what would be written, and nothing is. */
export const openJira = ({ url, email, apiToken }: JiraSettings, show: Show | null = null): Jira => {
  // Loaded with the first request: the bot must listen long before.
  const opened = async () => {
    const jira = await import('jira.js/core')
    try {
      return { jira, client: jira.createClient({ host: url, auth: { type: 'basic', email, apiToken } }) }
    } catch (error) {
      // What it says may hold the token.
      throw fail(
        'not-configured',
        'opening the client of Jira: it takes host or e-mail address for none',
        'Check JIRA_HOST and JIRA_EMAIL.',
        error,
      )
    }
  }
  let opening: ReturnType<typeof opened> | null = null

  const ask = async (
    doing: string,
    request: {
      url: string
      method: 'GET' | 'POST'
      searchParams?: Record<string, string | number>
      body?: unknown
    },
  ): Promise<unknown> => {
    if (show !== null && request.method !== 'GET') {
      show({ what: 'request', to: 'Jira', method: request.method, path: request.url, body: request.body })
      return {}
    }
    opening ??= opened()
    const { jira, client } = await opening
    const { promise: late, reject } = Promise.withResolvers<never>()
    // The client has no deadline of its own, and cannot be aborted.
    const timer = setTimeout(
      () =>
        reject(
          Object.assign(fail('timeout', `${doing}: Jira did not answer within ${DEADLINE_MS / 1000} s`), {
            status: null,
            retryAfter: null,
          }),
        ),
      DEADLINE_MS,
    )
    const asked = client.sendRequest(request).catch((error: unknown) => {
      const status = jira.isApiError(error) ? error.status : null
      const retryAfter = jira.isRateLimitError(error) ? (error.retryAfterMs ?? null) : null
      const again = status === null || status === 429 || status >= 500
      const kind = again ? 'network' : status === 401 || status === 403 ? 'permission' : 'refused'
      const code = jira.isNetworkError(error) && error.code !== undefined ? ` (${error.code})` : ''
      const said = status === null ? `Jira cannot be reached${code}` : `Jira answered ${status}`
      throw Object.assign(
        fail(
          kind,
          `${doing}: ${said}`,
          kind === 'permission'
            ? 'Check JIRA_EMAIL and JIRA_API_TOKEN, and what that account may do in the project.'
            : null,
          error,
        ),
        { status, retryAfter },
      )
    })
    try {
      return await Promise.race([asked, late])
    } finally {
      clearTimeout(timer)
      asked.catch(() => {})
    }
  }

  let account: Promise<string> | null = null
  const me = (): Promise<string> => {
    account ??= ask('asking Jira who we are', { url: '/rest/api/3/myself', method: 'GET' })
      .then(told => {
        const id = text(member(told, 'accountId'))
        if (id === null) throw fail('network', 'asking Jira who we are: it did not say')
        return id
      })
      .catch(error => {
        account = null
        throw error
      })
    return account
  }

  return {
    me,
    issue: async ticket => {
      const told = await ask(`reading ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}`,
        method: 'GET',
        searchParams: { fields: 'status,assignee,labels' },
      }).catch(error => {
        if (isJiraFailure(error) && error.status === 404) return null
        throw error
      })
      if (told === null) return null
      const key = text(member(told, 'fields', 'status', 'statusCategory', 'key'))
      const labels = member(told, 'fields', 'labels')
      return {
        category: CATEGORIES.find(one => one === key) ?? 'undefined',
        assignee: text(member(told, 'fields', 'assignee', 'accountId')),
        labels: Array.isArray(labels) ? labels.filter(one => typeof one === 'string') : [],
      }
    },
    said: async (ticket, body, since) => {
      const wanted = plain(body)
      const us = await me()
      for (let startAt = 0; ; startAt += COMMENTS_A_PAGE) {
        const told = await ask(`reading the comments of ${ticket} in Jira`, {
          url: `/rest/api/3/issue/${ticket}/comment`,
          method: 'GET',
          searchParams: { startAt, maxResults: COMMENTS_A_PAGE, orderBy: '-created' },
        })
        const comments = member(told, 'comments')
        if (!Array.isArray(comments)) return false
        const found = comments.some(
          one =>
            member(one, 'author', 'accountId') === us &&
            plain(member(one, 'body')) === wanted &&
            Date.parse(text(member(one, 'created')) ?? '') >= since,
        )
        if (found) return true
        if (comments.length < COMMENTS_A_PAGE) return false
      }
    },
    comment: async (ticket, body) => {
      await ask(`commenting on ${ticket} in Jira`, {
        url: `/rest/api/3/issue/${ticket}/comment`,
        method: 'POST',
        body: { body },
      })
    },
  }
}
