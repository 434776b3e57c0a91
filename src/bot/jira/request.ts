/** Asking Jira: one client for all requests, a deadline for each answer, and what a failure means. */
import type { JiraSettings } from '../../config/config.ts'
import { type FailureError, fail } from '../../errors.ts'
import type { Show } from '../dry-run.ts'
import { boundedWait } from '../poll-loop.ts'
import { GATEWAY_FORM, isGateway, MAKE_WITH_SCOPES, tenantInfoOf } from './gateway.ts'

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

/**
 * What failed, and whether it is worth another try (`retryAfter` in ms, when Jira said). `lacksScope`: the token is known, and
 * its scopes do not allow this.
 */
export type JiraFailure = FailureError & { status: number | null; retryAfter: number | null; lacksScope: boolean }
export const isJiraFailure = (error: unknown): error is JiraFailure =>
  error instanceof Error && 'failure' in error && 'retryAfter' in error
const failed = (
  failure: FailureError,
  { status = null, retryAfter = null, lacksScope = false }: Partial<JiraFailure>,
) => Object.assign(failure, { status, retryAfter, lacksScope })

const remedyOf = ({ status, lacksScope }: Pick<JiraFailure, 'status' | 'lacksScope'>, url: string): string | null => {
  if (lacksScope) return MAKE_WITH_SCOPES
  const check = 'Check JIRA_EMAIL and JIRA_API_TOKEN'
  if (status === 403) return `${check}, and what that account may do in the project.`
  if (status !== 401) return null
  return isGateway(url)
    ? `${check}. A token without scopes belongs to the site: set JIRA_HOST to that, as example.atlassian.net.`
    : `${check}. A token with scopes belongs to another address: set JIRA_HOST to ${GATEWAY_FORM}, with the cloudId that ${tenantInfoOf(url)} shows, or run agent-swarm init, which finds it.`
}

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
        'opening the client of Jira: it does not take this host, or this e-mail address',
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
      () => reject(failed(fail('timeout', `${doing}: Jira did not answer within ${DEADLINE_MS / 1000} s`), {})),
      DEADLINE_MS,
    )
    const answered = client.sendRequest(request).then((told: unknown) => {
      // As a login page does: taken for an answer, it would say that there is nothing.
      if (typeof told === 'object' && told !== null) return told
      throw failed(fail('network', `${doing}: what answered is not Jira, or not now: it sent no JSON`), {})
    })
    const asked = answered.catch((error: unknown) => {
      if (isJiraFailure(error)) throw error
      const status = jira.isApiError(error) ? error.status : null
      const wait = jira.isRateLimitError(error) ? (error.retryAfterMs ?? null) : null
      const retryAfter = wait === null ? null : boundedWait(wait)
      const lacksScope = jira.isScopeError(error)
      const again = status === null || status === 429 || status >= 500
      const kind = again ? 'network' : status === 401 || status === 403 ? 'permission' : 'refused'
      const code = jira.isNetworkError(error) && error.code !== undefined ? ` (${error.code})` : ''
      const said = status === null ? `Jira cannot be reached${code}` : `Jira answered ${status}`
      const why = lacksScope ? ': the token lacks a scope' : ''
      const remedy = remedyOf({ status, lacksScope }, url)
      throw failed(fail(kind, `${doing}: ${said}${why}`, remedy, error), { status, retryAfter, lacksScope })
    })
    try {
      return await Promise.race([asked, late])
    } finally {
      clearTimeout(timer)
      asked.catch(() => {})
    }
  }
}
