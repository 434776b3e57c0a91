/** Asking Jira: one client for all requests, a deadline for each answer, and what a failure means. */
import type { JiraSettings } from '../config.ts'
import { type FailureError, fail } from '../errors.ts'
import type { Show } from './dry-run.ts'

const DEADLINE_MS = 10_000

type Request = {
  /** The path, from the address on. */
  url: string
  method: 'GET' | 'POST' | 'PUT'
  /** Nothing is changed by it, though it is posted. */
  reads?: true
  searchParams?: Record<string, string | number>
  body?: unknown
}
/** Gives what Jira answers, an object or a list, or throws a JiraFailure. `doing` begins what is said of it. */
export type Ask = (doing: string, request: Request) => Promise<unknown>

/** What failed, and whether it is worth another try (`retryAfter` in ms, when Jira said). */
export type JiraFailure = FailureError & { status: number | null; retryAfter: number | null }
export const isJiraFailure = (error: unknown): error is JiraFailure =>
  error instanceof Error && 'failure' in error && 'retryAfter' in error

/** For `.catch()`: what is not there, or is not shown to us, is null. */
export const unlessGone = (error: unknown): null => {
  if (isJiraFailure(error) && error.status === 404) return null
  throw error
}

/** `show`, where it is set, is given what would be written, and nothing is. */
export const openJiraClient = ({ url, email, apiToken }: JiraSettings, show: Show | null): Ask => {
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

  return async (doing, { reads, ...request }) => {
    if (show !== null && request.method !== 'GET' && reads !== true) {
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
    const answered = client.sendRequest(request).then((told: unknown) => {
      // As a login page does: taken for an answer, it would say that there is nothing.
      if (typeof told === 'object' && told !== null) return told
      throw Object.assign(fail('network', `${doing}: what answered is not Jira, or not now: it sent no JSON`), {
        status: null,
        retryAfter: null,
      })
    })
    const asked = answered.catch((error: unknown) => {
      if (isJiraFailure(error)) throw error
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
}
