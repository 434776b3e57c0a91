/** Requests to Jira: one client, a deadline for each response, and what a failure means. */
import { boundedWait } from '../../backoff.ts'
import type { JiraSettings } from '../../config/config.ts'
import { type FailureError, fail } from '../../errors.ts'
import { guardGlobalFetch } from '../../same-origin.ts'
import type { Show } from '../dry-run.ts'
import { isRemoteFailure, type RemoteFailure } from '../remote-failure.ts'
import { GATEWAY_FORM, isGateway, MAKE_WITH_SCOPES, tenantInfoOf } from './gateway.ts'

const DEADLINE_MS = 10_000

type Request = {
  /** The path, after the address. */
  url: string
  /** GET when absent. */
  method?: 'POST' | 'PUT' | 'DELETE'
  /** A POST that changes nothing. */
  reads?: true
  /** A POST that is answered with 204, without a body. */
  answersNothing?: true
  searchParams?: Record<string, string | number>
  body?: unknown
}
/** Returns what Jira answers, an object or a list, or throws a JiraFailure. `doing` begins its message. */
export type Ask = (doing: string, request: Request) => Promise<unknown>

/** `status` null: there was no response. `lacksScope`: the token is valid, and its scopes do not allow this. */
export type JiraFailure = RemoteFailure & { status: number | null; lacksScope: boolean }
export const isJiraFailure = (error: unknown): error is JiraFailure => isRemoteFailure(error) && 'lacksScope' in error
/** A redirect is no answer to a request that writes: a proxy or a login page stands before Jira. */
const isRefusal = (status: number | null): boolean => status !== null && status >= 400 && status < 500 && status !== 429
const jiraFailure = (
  failure: FailureError,
  status: number | null = null,
  { wait = null, lacksScope = false }: { wait?: number | null; lacksScope?: boolean } = {},
): JiraFailure => {
  const allows = status === 401 ? 'pause' : isRefusal(status) ? 'never' : 'later'
  return Object.assign(failure, { status, lacksScope, allows, in: wait } as const)
}

const remedyFor = (status: number | null, lacksScope: boolean, url: string): string | null => {
  if (lacksScope) return MAKE_WITH_SCOPES
  if (status !== null && status >= 300 && status < 400)
    return 'JIRA_HOST redirects to another address: set JIRA_HOST to that address.'
  const check = 'Check JIRA_EMAIL and JIRA_API_TOKEN'
  if (status === 403) return `${check}, and the permissions of that account in the project.`
  if (status !== 401) return null
  return isGateway(url)
    ? `${check}. A token without scopes works at the site only: set JIRA_HOST to it, for example example.atlassian.net.`
    : `${check}. A token with scopes works at another address only: set JIRA_HOST to ${GATEWAY_FORM}, with the cloudId that ${tenantInfoOf(url)} shows, or run agent-swarm init, which finds it.`
}

/** For `.catch()`: what does not exist, or is not shown to us, is null. */
export const unlessGone = (error: unknown): null => {
  if (isJiraFailure(error) && error.status === 404) return null
  throw error
}

type JiraModule = typeof import('jira.js/core')
const failureOfClient = (jira: JiraModule, error: unknown, doing: string, url: string): JiraFailure => {
  const status = jira.isApiError(error) ? error.status : null
  const wait = jira.isRateLimitError(error) ? (error.retryAfterMs ?? null) : null
  const lacksScope = jira.isScopeError(error)
  const kind = !isRefusal(status) ? 'network' : status === 401 || status === 403 ? 'permission' : 'refused'
  const code = jira.isNetworkError(error) && error.code !== undefined ? ` (${error.code})` : ''
  const what = status === null ? `Jira cannot be reached${code}` : `Jira answered ${status}`
  const why = lacksScope ? ': the token lacks a scope' : ''
  return jiraFailure(fail(kind, `${doing}: ${what}${why}`, remedyFor(status, lacksScope, url), error), status, {
    wait: wait === null ? null : boundedWait(wait),
    lacksScope,
  })
}

/** Loaded with the first request: it takes up to a second, and the bot must listen long before. */
const loadClient = async ({ url, email, apiToken }: JiraSettings) => {
  const jira = await import('jira.js/core')
  // Its client calls the global `fetch`, and takes no other.
  guardGlobalFetch()
  try {
    return { jira, client: jira.createClient({ host: url, auth: { type: 'basic', email, apiToken } }) }
  } catch (error) {
    // The error itself may hold the token.
    throw fail(
      'not-configured',
      'opening the client of Jira: it does not accept this host or this e-mail address',
      'Check JIRA_HOST and JIRA_EMAIL.',
      error,
    )
  }
}

/** With `show`, what would be written is shown and not sent. */
export const openJiraClient = (settings: JiraSettings, show: Show | null): Ask => {
  let loading: ReturnType<typeof loadClient> | null = null

  return async (doing, { reads, answersNothing, method, ...request }) => {
    if (show !== null && method !== undefined && reads !== true) {
      show({ what: 'request', to: 'Jira', method, path: request.url, body: request.body })
      return {}
    }
    loading ??= loadClient(settings)
    const { jira, client } = await loading
    const { promise: late, reject } = Promise.withResolvers<never>()
    // The client has no deadline of its own, and cannot be aborted.
    const timer = setTimeout(
      () => reject(jiraFailure(fail('timeout', `${doing}: Jira did not answer within ${DEADLINE_MS / 1000} s`))),
      DEADLINE_MS,
    )
    const response = client.sendRequest({ method: method ?? 'GET', ...request }).then(
      (answer: unknown) => {
        // A login page, for example, would otherwise read as "there is nothing".
        if (typeof answer === 'object' && answer !== null) return answer
        // A removal is answered with 204, without a body.
        if (method === 'DELETE' || (answersNothing === true && !answer)) return {}
        throw jiraFailure(fail('network', `${doing}: the response is not Jira's: it is not JSON`))
      },
      (error: unknown) => {
        throw failureOfClient(jira, error, doing, settings.url)
      },
    )
    response.catch(() => {})
    try {
      return await Promise.race([response, late])
    } finally {
      clearTimeout(timer)
    }
  }
}
