/** Requests to Jira: one client, a deadline for each response, its shape, and what a failure means. */
import { AsyncLocalStorage } from 'node:async_hooks'
import * as v from 'valibot'
import { boundedWait } from '../../backoff.ts'
import type { JiraSettings } from '../../config/config.ts'
import { type FailureError, fail } from '../../errors.ts'
import { guardGlobalFetch } from '../../same-origin.ts'
import type { Show } from '../dry-run.ts'
import { isRemoteFailure, type RemoteFailure } from '../remote-failure.ts'
import { isNoAnswer, readWhole, requireShape } from '../whole-answer.ts'
import { GATEWAY_FORM, isGateway, MAKE_WITH_SCOPES, tenantInfoOf } from './gateway.ts'
import { refusal } from './shapes.ts'

const DEADLINE_MS = 10_000

type Request<Shape extends v.GenericSchema | null> = {
  /** The path, after the address. */
  url: string
  /** GET when absent. */
  method?: 'POST' | 'PUT' | 'DELETE'
  /** A POST that changes nothing. */
  reads?: true
  /** What the answer must hold; null when nothing of it is read: it may be 204, without a body. */
  shape: Shape
  searchParams?: Record<string, string | number>
  body?: unknown
}
/** Returns what Jira answers, or throws a JiraFailure. `doing` begins its message. */
export type Ask = <Shape extends v.GenericSchema | null>(
  doing: string,
  request: Request<Shape>,
) => Promise<Shape extends v.GenericSchema ? v.InferOutput<Shape> : unknown>

/**
 * `status` null: there was no response. `isJiras`: Jira itself refused, and nothing in front of it. `lacksScope`: the token is
 * valid, and its scopes do not allow this.
 */
export type JiraFailure = RemoteFailure & { status: number | null; isJiras: boolean; lacksScope: boolean }
export const isJiraFailure = (error: unknown): error is JiraFailure => isRemoteFailure(error) && 'lacksScope' in error
/** The status of a refusal by Jira itself; null for any other failure. */
export const refusalOf = (error: unknown): number | null =>
  isJiraFailure(error) && error.isJiras ? error.status : null
/** A redirect is no answer to a request that writes: a proxy or a login page stands before Jira. */
const isRefusal = (status: number | null): boolean => status !== null && status >= 400 && status < 500 && status !== 429
const jiraFailure = (
  failure: FailureError,
  status: number | null = null,
  {
    wait = null,
    lacksScope = false,
    isJiras = false,
  }: { wait?: number | null; lacksScope?: boolean; isJiras?: boolean } = {},
): JiraFailure => {
  const allows = allowedBy(status, isJiras)
  return Object.assign(failure, { status, isJiras, lacksScope, allows, in: wait } as const)
}
/** A 403 may pass: a permission scheme is being changed, a CAPTCHA is asked for after failed logins, the gateway refuses. */
const allowedBy = (status: number | null, isJiras: boolean): RemoteFailure['allows'] => {
  if (status === 401) return 'pause'
  if (status === 403) return 'for-a-day'
  return isRefusal(status) && isJiras ? 'never' : 'later'
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
  if (refusalOf(error) === 404) return null
  throw error
}

type JiraModule = typeof import('jira.js/core')
const failureOfClient = (jira: JiraModule, error: unknown, doing: string, url: string): JiraFailure => {
  const status = jira.isApiError(error) ? error.status : null
  const wait = jira.isRateLimitError(error) ? (error.retryAfterMs ?? null) : null
  const lacksScope = jira.isScopeError(error)
  const isJiras = jira.isApiError(error) && isRefusal(status) && isRefusalOfJira(error.body)
  const isDenied = status === 401 || status === 403
  const kind = isDenied ? 'permission' : isRefusal(status) && isJiras ? 'refused' : 'network'
  const code = jira.isNetworkError(error) && error.code !== undefined ? ` (${error.code})` : ''
  const unusable = isNoAnswer(error) ? error : error instanceof Error && isNoAnswer(error.cause) ? error.cause : null
  const what =
    unusable !== null
      ? `Jira's answer cannot be used: ${unusable.message}`
      : status === null
        ? `Jira cannot be reached${code}`
        : `Jira answered ${status}`
  const why = lacksScope ? ': the token lacks a scope' : ''
  return jiraFailure(fail(kind, `${doing}: ${what}${why}`, remedyFor(status, lacksScope, url), error), status, {
    wait: wait === null ? null : boundedWait(wait),
    ...{ lacksScope, isJiras },
  })
}

const anyAnswer = v.union([v.array(v.unknown()), v.looseObject({})])
const isRefusalOfJira = (body: unknown): boolean => v.is(refusal, body)

/** Of the request that is being sent: its deadline, and the status of its response. The client passes on neither. */
const sending = new AsyncLocalStorage<{ signal: AbortSignal; status: number | null }>()
const bounded =
  (send: typeof fetch): typeof fetch =>
  async (input, init) => {
    const request = sending.getStore()
    if (request === undefined) return send(input, init)
    const response = await send(input, { ...init, signal: request.signal })
    request.status = response.status
    return readWhole(response)
  }

/** Loaded with the first request: it takes up to a second, and the bot must listen long before. */
const loadClient = async ({ url, email, apiToken }: JiraSettings) => {
  const jira = await import('jira.js/core')
  // Its client calls the global `fetch`, and takes no other.
  guardGlobalFetch(bounded)
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
  const ask = async (doing: string, { reads, shape, method, ...request }: Request<v.GenericSchema | null>) => {
    if (show !== null && method !== undefined && reads !== true) {
      show({ what: 'request', to: 'Jira', method, path: request.url, body: request.body })
      return { id: '' }
    }
    loading ??= loadClient(settings)
    const { jira, client } = await loading
    const sent = { signal: AbortSignal.timeout(DEADLINE_MS), status: null as number | null }
    try {
      const answer = await sending.run(sent, () => client.sendRequest({ method: method ?? 'GET', ...request }))
      // A login page, for example, would otherwise read as "it is done", or as "there is nothing".
      if (shape === null ? sent.status !== 204 : true) requireShape(shape ?? anyAnswer, answer)
      return answer
    } catch (error) {
      if (sent.signal.aborted)
        throw jiraFailure(fail('timeout', `${doing}: no whole answer from Jira within ${DEADLINE_MS / 1000} s`))
      throw failureOfClient(jira, error, doing, settings.url)
    }
  }
  // The shape that was required is that of the answer.
  return ask as Ask
}
