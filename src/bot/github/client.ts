/** Access to GitHub's API, for an App and for a personal token alike: callers do not know which. And what a failed request means. */
import { randomUUID } from 'node:crypto'
import type { Octokit as Rest } from '@octokit/rest'
import { boundedWait } from '../../backoff.ts'
import { openJumpWatch } from '../../clock.ts'
import { type FailureError, fail, isFailure } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { sameOriginFetch } from '../../same-origin.ts'
import type { Store } from '../../store/port.ts'
import { type Show, showingFetch } from '../dry-run.ts'
import type { RemoteFailure } from '../remote-failure.ts'
import { isNoAnswer, noAnswer, readWhole } from '../whole-answer.ts'
import { checkAnswer } from './answers.ts'

/** From sending a request to the last byte of its response. Milliseconds. */
const DEADLINE_MS = 15_000
/** The wait after a secondary limit whose response has no Retry-After header. */
const SECONDARY_LIMIT_MS = 60_000

/** What Probot's client and Octokit's own have in common. */
export type Octokit = Pick<Rest, 'rest' | 'paginate' | 'request' | 'graphql'>
/** A verified webhook or what a poll made in its shape. `installation`: of the App; null when the payload names none. */
type GitHubPayload = { id: string; name: string; payload: unknown; installation: number | null }
/** The requests that GitHub still grants, according to its last response. `resetAt` is epoch ms. */
type RateLeft = { limit: number; remaining: number; resetAt: number }

export type GitNeed = 'read' | 'write'
/** `token` null: what everybody may read. `expiresAt` is epoch ms. */
export type GitAccess = { token: string | null; expiresAt: number }
/** `isOwn`: who asks is this process, which holds our own credential anyway. Fails with `permission` when there is no access. */
export type GiveGitAccess = (repo: string, need: GitNeed, isOwn: boolean) => Promise<GitAccess>

export type GitHub = {
  /** The login that our comments carry. Proves that the credentials are right. */
  login(): Promise<string>
  /** Runs `work` with the client for this event; null when the App has no installation for it. */
  receive<Result>(event: GitHubPayload, work: (octokit: Octokit) => Promise<Result>): Promise<Result | null>
  /** A client with our rights in a repository; null when we have none. It paces itself: writes 1 s apart, comments 3 s. */
  clientFor(repo: string): Promise<Octokit | null>
  /** The repositories to watch, `owner/name` as GitHub writes them: those that are listed. Without a list, those pushed to last. */
  repositories(): Promise<string[]>
  /** Whether we wrote a comment. */
  isOurs(comment: WrittenBy): Promise<boolean>
  /** Null before the first request. */
  rate(): RateLeft | null
  /** Access to the contents of one repository, for git. */
  gitAccess: GiveGitAccess
  /** A client for the App's own resources, for example its deliveries; null without an App. */
  asApp: (() => Promise<Octokit>) | null
}
type WrittenBy = {
  user: { login: string; type?: string } | null
  performed_via_github_app?: { id?: number } | null
}
export type GitHubTools = {
  log: Log
  /** What is known of repositories: their names, and the App's installations that reach them. */
  repositories?: Pick<Store['repositories'], 'rename' | 'nameOf' | 'namesOf' | 'installation' | 'setInstallation'>
  /** Shows what would be changed, in place of changing it. */
  show?: Show | null
  /** `false` turns off Octokit's own waiting between writes. */
  paced?: boolean
}

/** The path parameters of a repository in Octokit's calls. */
export const parts = (repo: string): { owner: string; repo: string } => {
  const [owner = '', name = ''] = repo.split('/')
  return { owner, repo: name }
}

/**
 * Where people see what the API serves. GitHub Enterprise Server has both under one name, the API at `/api/v3`; github.com
 * and the `ghe.com` of Enterprise Cloud with data residency have the API at a name that begins with `api.`.
 */
export const webUrlOf = (apiUrl: string | null): string => {
  const { protocol, origin, host, pathname } = new URL(apiUrl ?? 'https://api.github.com')
  return pathname.startsWith('/api/') ? origin : `${protocol}//${host.replace(/^api\./, '')}`
}

/** Synchronizing a clock sets it back by less than this. Milliseconds. */
const SET_BACK_MS = 10_000
/**
 * Names the group of limiters that requests go through. Octokit keeps limiters per process, and one that was used at a time
 * that lies ahead waits until then; so the name changes when the clock was set back.
 */
export const openPace = (): (() => string) => {
  const wasSetBack = openJumpWatch(Date.now, { behind: SET_BACK_MS })
  let name = randomUUID()
  return () => {
    if (wasSetBack()) name = randomUUID()
    return name
  }
}

/** `fetch` of whole answers of GitHub, with a deadline, which notes what GitHub reports about its limits. */
export const watchedFetch = (show: Show | null) => {
  let rate: RateLeft | null = null
  const noteRate = (headers: Headers): void => {
    const number = (name: string) => Number(headers.get(`x-ratelimit-${name}`) ?? Number.NaN)
    const [limit, remaining, reset] = [number('limit'), number('remaining'), number('reset')]
    // Searches, for example, have a budget of their own.
    const isCore = (headers.get('x-ratelimit-resource') ?? 'core') === 'core'
    if (isCore && [limit, remaining, reset].every(Number.isFinite)) rate = { limit, remaining, resetAt: reset * 1000 }
  }
  const send: typeof fetch = async (input, init = {}) => {
    const url = input instanceof Request ? input.url : String(input)
    const { method = 'GET' } = init
    const late = AbortSignal.timeout(DEADLINE_MS)
    try {
      const signal = AbortSignal.any([late, ...(init.signal ? [init.signal] : [])])
      const response = await readWhole(await sameOriginFetch(input, { ...init, signal }))
      await checkAnswer(response, method, url)
      noteRate(response.headers)
      return response
    } catch (error) {
      const request = `${method} ${new URL(url).pathname}`
      if (late.aborted) throw noAnswer(`${request}: no whole answer within ${DEADLINE_MS / 1000} s`)
      throw isNoAnswer(error) ? noAnswer(`${request}: ${error.message}`) : error
    }
  }
  return { rate: () => rate, fetch: show === null ? send : showingFetch(show, send) }
}

/** An organization with single sign-on hides itself from a classic token until the token is authorized for it. */
export const AUTHORIZE_TOKEN =
  'The organization uses single sign-on: authorize the token for it, under "Configure SSO" beside the token in your settings on GitHub.'

const header = (error: object, name: string): string | null => {
  const response = 'response' in error ? error.response : null
  const headers = typeof response === 'object' && response !== null && 'headers' in response ? response.headers : null
  const value = typeof headers === 'object' && headers !== null ? (headers as Record<string, unknown>)[name] : null
  return typeof value === 'string' || typeof value === 'number' ? String(value) : null
}
export const statusOf = (error: unknown): number | null =>
  error instanceof Error && 'status' in error && typeof error.status === 'number' ? error.status : null

/** How long a limited request waits, ms; null when the error is about no limit. `now` is epoch ms. */
const limitWait = (error: Error, status: number, now: number): number | null => {
  const after = header(error, 'retry-after')
  const spent = header(error, 'x-ratelimit-remaining') === '0'
  if (status !== 403 && status !== 429) return null
  if (status === 403 && after === null && !spent && !/rate limit|abuse/i.test(error.message)) return null
  const reset = header(error, 'x-ratelimit-reset')
  const wait =
    after !== null
      ? Number(after) * 1000
      : spent && reset !== null
        ? Number(reset) * 1000 - now + 1_000
        : SECONDARY_LIMIT_MS
  return boundedWait(Number.isFinite(wait) ? wait : SECONDARY_LIMIT_MS)
}

type Meaning = {
  kind: 'network' | 'permission' | 'refused'
  allows: RemoteFailure['allows']
  in?: number
  remedy?: string
}
const meaningOf = (error: unknown, status: number | null, now: number): Meaning => {
  if (status === null || !(error instanceof Error)) return { kind: 'network', allows: 'later' }
  const wait = limitWait(error, status, now)
  if (wait !== null) return { kind: 'network', allows: 'later', in: wait }
  if (status === 401)
    return {
      kind: 'permission',
      allows: 'pause',
      remedy: "Check APP_ID and PRIVATE_KEY, or GITHUB_TOKEN, and this host's clock.",
    }
  // https://docs.github.com/rest/authentication/authenticating-to-the-rest-api, "Personal access tokens and SAML SSO"
  if (status === 403 && header(error, 'x-github-sso') !== null)
    return { kind: 'permission', allows: 'never', remedy: AUTHORIZE_TOKEN }
  // It may pass: right after a change of the App's permissions or installation, GitHub still answers by the old ones.
  if (status === 403)
    return {
      kind: 'permission',
      allows: 'for-a-day',
      remedy:
        'Give the App the permissions of app.yml in its settings, and accept them in the organization. A token needs read and write access to the repository.',
    }
  if (status >= 500 || status === 408 || status === 409 || status === 425) return { kind: 'network', allows: 'later' }
  return { kind: 'refused', allows: 'never' }
}

/** What Octokit threw, as a failure without the request that the error carries. `now` is epoch ms. */
export const githubFailure = (error: unknown, doing: string, now: number): RemoteFailure | FailureError => {
  if (isFailure(error)) return error
  // Octokit reports a status of 500 when there was no response at all.
  const status = error instanceof Error && 'response' in error && error.response !== undefined ? statusOf(error) : null
  const message = error instanceof Error ? error.message.split('\n')[0]?.slice(0, 300) : String(error)
  const { kind, allows, in: wait = null, remedy = null } = meaningOf(error, status, now)
  const isUnusable = error instanceof Error && isNoAnswer(error.cause)
  const what = isUnusable ? "GitHub's answer cannot be used" : 'GitHub cannot be reached'
  return Object.assign(
    fail(kind, `${doing}: ${status === null ? what : `GitHub answered ${status}`}: ${message}`, remedy),
    {
      ...{ allows, in: wait },
    },
  )
}
