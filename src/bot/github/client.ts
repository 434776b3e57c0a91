/**
 * The door to GitHub's API, for an App and for a personal token: which of the two it is, its callers never ask. And what a
 * failed request means.
 */
import { randomUUID } from 'node:crypto'
import type { Octokit as Rest } from '@octokit/rest'
import type { Config } from '../../config/config.ts'
import { type FailureError, fail, isFailure } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { StoredDelivery } from '../../store/port.ts'
import { type Show, showingFetch } from '../dry-run.ts'
import type { Decided } from '../inbox/inbox.ts'
import { boundedWait } from '../poll-loop.ts'

/** One request, from sending to the last byte. Milliseconds. */
const DEADLINE_MS = 15_000
/** GitHub says so in a header; without one, this long is asked for. */
const SECONDARY_LIMIT_MS = 60_000

/** What Probot's client and Octokit's own have in common. */
export type Octokit = Pick<Rest, 'rest' | 'paginate' | 'request'>
/** What is decided of a delivery. */
export type Received = { id: string; name: string; payload: unknown; octokit: Octokit }
/** Requests that GitHub still grants, as its last answer said. `resetAt` is epoch ms. */
type RateLeft = { limit: number; remaining: number; resetAt: number }

export type GitHub = {
  /** The login that our comments carry; proves that our credentials are right. */
  login(): Promise<string>
  /** Decides a stored delivery. */
  receive(delivery: StoredDelivery): Promise<Decided>
  /**
   * A client with our rights in a repository; null where we have none. Paces itself: writes 1 s apart, comments 3 s.
   */
  clientFor(repo: string): Promise<Octokit | null>
  /** Repositories where we may act, `owner/name` as GitHub writes them: those that are watched, or that were pushed to last. */
  repositories(): Promise<string[]>
  /** Whether a comment was written by us. */
  isOurs(comment: WrittenBy): Promise<boolean>
  /** Null while nothing was asked. */
  rate(): RateLeft | null
  /** A client for what is the App's own, as its deliveries; null where there is no App. */
  asApp: (() => Promise<Octokit>) | null
}
type WrittenBy = {
  user: { login: string; type?: string } | null
  performed_via_github_app?: { id?: number } | null
}
export type GitHubTools = {
  log: Log
  decide: (received: Received) => Promise<Decided>
  /** The App's installation on a repository, as its deliveries told. */
  installationOf: (repo: string) => number | null
  /** An installation says that it is on this repository. */
  onInstallation?: (repo: string, installation: number) => void
  /** GitHub's number of a repository, and how it is called now. */
  onRepository?: (id: number, repo: string) => void
  /** Set: what would be changed is shown instead. */
  show?: Show | null
  /** `false` leaves out Octokit's own waiting between writes. */
  paced?: boolean
}

/** Loads the client, which takes up to a second: this is called when the bot listens already. */
export const openGitHub = async (settings: NonNullable<Config['github']>, tools: GitHubTools): Promise<GitHub> =>
  settings.via === 'app'
    ? (await import('./app.ts')).openApp(settings, tools)
    : (await import('./token.ts')).openToken(settings, tools)

/**
 * Where people see what the API tells of. GitHub Enterprise Server has both under one name, the API at `/api/v3`; github.com
 * and the `ghe.com` of Enterprise Cloud with data residency have it at a name that begins with `api.`.
 */
export const webUrlOf = (apiUrl: string | null): string => {
  const { protocol, origin, host, pathname } = new URL(apiUrl ?? 'https://api.github.com')
  return pathname.startsWith('/api/') ? origin : `${protocol}//${host.replace(/^api\./, '')}`
}

/** Less than that is how clocks are kept right. Milliseconds. */
const SET_BACK_MS = 10_000
/**
 * Names the limiters that requests go through. Octokit has these once for the process, and one that was used at a time that
 * is still to come waits until then: after a clock was set back there are new ones.
 */
export const openPace = (): (() => string) => {
  let [name, last] = [randomUUID(), 0]
  return () => {
    const now = Date.now()
    if (now < last - SET_BACK_MS) name = randomUUID()
    last = now
    return name
  }
}

/** `fetch` with a deadline, which notes what GitHub says of its limits. */
export const watchedFetch = (show: Show | null) => {
  let rate: RateLeft | null = null
  const ask = show === null ? fetch : showingFetch(show, fetch)
  return {
    rate: () => rate,
    fetch: async (url: string | URL, init: RequestInit = {}): Promise<Response> => {
      const response = await ask(url, {
        ...init,
        signal: AbortSignal.any([AbortSignal.timeout(DEADLINE_MS), ...(init.signal ? [init.signal] : [])]),
      })
      // As a login page does: taken for an answer, it would say that nobody may do anything.
      const type = response.headers.get('content-type')
      if (response.ok && type !== null && !/json/i.test(type))
        throw new Error(`what answered is not GitHub, or not now: it sent ${type.slice(0, 60)}`)
      const told = (name: string) => Number(response.headers.get(`x-ratelimit-${name}`) ?? Number.NaN)
      const [limit, remaining, reset] = [told('limit'), told('remaining'), told('reset')]
      // Searches and the like have a budget of their own.
      const core = (response.headers.get('x-ratelimit-resource') ?? 'core') === 'core'
      if (core && [limit, remaining, reset].every(Number.isFinite)) rate = { limit, remaining, resetAt: reset * 1000 }
      return response
    },
  }
}

/** What a failed request allows: `at` (ms from now) when GitHub said when, `pause` when no request can work before. */
export type GitHubFailure = FailureError & { allows: 'later' | 'never' | 'pause'; in: number | null }
export const isGitHubFailure = (error: unknown): error is GitHubFailure =>
  error instanceof Error && 'failure' in error && 'allows' in error

/** An organisation with single sign-on hides what it has from a classic token until that is authorised for it. */
export const AUTHORIZE_TOKEN =
  'The organisation has single sign-on: authorise the token for it, under "Configure SSO" beside the token in your settings on GitHub.'

const header = (error: object, name: string): string | null => {
  const response = 'response' in error ? error.response : null
  const headers = typeof response === 'object' && response !== null && 'headers' in response ? response.headers : null
  const value = typeof headers === 'object' && headers !== null ? (headers as Record<string, unknown>)[name] : null
  return typeof value === 'string' || typeof value === 'number' ? String(value) : null
}
export const statusOf = (error: unknown): number | null =>
  error instanceof Error && 'status' in error && typeof error.status === 'number' ? error.status : null

/** A thrown error of Octokit as a failure, without the request that it carries. `now` is epoch ms. */
export const githubFailure = (error: unknown, doing: string, now: number): GitHubFailure | FailureError => {
  if (isFailure(error)) return error
  // Octokit calls it a 500 when nobody answered at all.
  const status = error instanceof Error && 'response' in error && error.response !== undefined ? statusOf(error) : null
  const said = error instanceof Error ? error.message.split('\n')[0]?.slice(0, 300) : String(error)
  const made = (
    kind: 'network' | 'permission' | 'refused',
    allows: GitHubFailure['allows'],
    wait: number | null,
    remedy: string | null,
  ) =>
    Object.assign(
      fail(
        kind,
        `${doing}: ${status === null ? 'GitHub cannot be reached' : `GitHub answered ${status}`}: ${said}`,
        remedy,
      ),
      {
        allows,
        in: wait,
      },
    )
  if (status === null || !(error instanceof Error)) return made('network', 'later', null, null)
  const after = header(error, 'retry-after')
  const spent = header(error, 'x-ratelimit-remaining') === '0'
  if ((status === 403 || status === 429) && (after !== null || spent || /rate limit|abuse/i.test(error.message))) {
    const reset = header(error, 'x-ratelimit-reset')
    const wait =
      after !== null
        ? Number(after) * 1000
        : spent && reset !== null
          ? Number(reset) * 1000 - now + 1_000
          : SECONDARY_LIMIT_MS
    return made('network', 'later', boundedWait(Number.isFinite(wait) ? wait : SECONDARY_LIMIT_MS), null)
  }
  if (status === 401)
    return made('permission', 'pause', null, "Check APP_ID and PRIVATE_KEY, or GITHUB_TOKEN, and this machine's clock.")
  // https://docs.github.com/rest/authentication/authenticating-to-the-rest-api, "Personal access tokens and SAML SSO"
  if (status === 403 && header(error, 'x-github-sso') !== null)
    return made('permission', 'never', null, AUTHORIZE_TOKEN)
  if (status === 403)
    return made(
      'permission',
      'never',
      null,
      'Give the App the permissions of app.yml in its settings, and accept them in the organisation; a token needs the right to read and write the repository.',
    )
  if (status >= 500 || status === 408 || status === 409 || status === 425) return made('network', 'later', null, null)
  return made('refused', 'never', null, null)
}
