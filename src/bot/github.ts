/**
 * The Probot app, and the door to GitHub's API. Deliveries do not come over HTTP but out of the inbox, verified and on disk;
 * the app's decision goes back to it.
 */
import type { Context } from 'probot'
import type { AppSettings } from '../config.ts'
import { type FailureError, fail, isFailure } from '../errors.ts'
import type { Log } from '../log.ts'
import type { StoredDelivery } from '../queue/queue.ts'
import { githubEventNames } from './github-events.ts'
import type { Decided } from './inbox.ts'

/** One request, from sending to the last byte. Milliseconds. */
const DEADLINE_MS = 15_000
/** GitHub says so in a header; without one, this long is asked for. */
const SECONDARY_LIMIT_MS = 60_000

export type Octokit = Context['octokit']
/** What the app sees of a delivery. */
export type Received = { id: string; name: string; payload: unknown; octokit: Octokit }

export type GitHub = {
  /** The app's short name, which makes its login; proves that our key is right. */
  slug(): Promise<string>
  /** Runs the app on a stored delivery. */
  receive(delivery: StoredDelivery): Promise<Decided>
  /** A client with the rights of an installation. Paces itself: writes 1 s apart, comments 3 s. */
  installation(id: number): Promise<Octokit>
  /** Whether a comment was written by this app. */
  isOurs(comment: WrittenBy): Promise<boolean>
}
type WrittenBy = {
  user: { login: string; type?: string } | null
  performed_via_github_app?: { id?: number } | null
}

/** What a failed request allows: `at` (ms from now) when GitHub said when, `pause` when no request can work before. */
export type GitHubFailure = FailureError & { allows: 'later' | 'never' | 'pause'; in: number | null }
export const isGitHubFailure = (error: unknown): error is GitHubFailure =>
  error instanceof Error && 'failure' in error && 'allows' in error

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
          ? Math.max(1_000, Number(reset) * 1000 - now + 1_000)
          : SECONDARY_LIMIT_MS
    return made('network', 'later', Number.isFinite(wait) ? wait : SECONDARY_LIMIT_MS, null)
  }
  if (status === 401)
    return made('permission', 'pause', null, "Check APP_ID and PRIVATE_KEY, and this machine's clock.")
  if (status === 403)
    return made(
      'permission',
      'never',
      null,
      'Give the App the permissions of app.yml in its settings, and accept them in the organisation.',
    )
  if (status >= 500 || status === 408 || status === 409 || status === 425) return made('network', 'later', null, null)
  return made('refused', 'never', null, null)
}

/**
 * Opens Probot. It costs a second, so this is called when the bot listens already. `paced: false` leaves out Octokit's
 * own waiting between writes.
 */
export const openGitHub = async (
  { appId, privateKey, webhookSecret, apiUrl }: AppSettings,
  { log, decide, paced = true }: { log: Log; decide: (received: Received) => Promise<Decided>; paced?: boolean },
): Promise<GitHub> => {
  const { Probot, ProbotOctokit } = await import('probot')
  const decided = new Map<string, Decided>()

  const probot = new Probot({
    appId,
    privateKey,
    // Probot takes "development" for an empty one; the configuration refuses that before.
    secret: webhookSecret,
    // What goes wrong in the app reaches the inbox, which tells it once. Probot would log whole payloads on debug.
    log: log.child({}, { level: 'silent' }),
    ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
    request: {
      fetch: (url: string | URL, init: RequestInit = {}) =>
        fetch(url, {
          ...init,
          signal: AbortSignal.any([AbortSignal.timeout(DEADLINE_MS), ...(init.signal ? [init.signal] : [])]),
        }),
    },
    Octokit: ProbotOctokit.defaults((options: Record<string, unknown>) => ({
      ...options,
      // Inbox and outbox try again, on disk; a retry in memory would only hold their place.
      retry: { enabled: false },
      throttle: {
        ...(typeof options.throttle === 'object' ? options.throttle : {}),
        enabled: paced,
        onRateLimit: () => false,
        onSecondaryRateLimit: () => false,
      },
    })),
  })

  await probot.load(app => {
    // The names are those of Probot's own list; what makes events of them is the one place that knows which.
    app.on(githubEventNames as ('push' | 'pull_request' | 'issue_comment')[], async context => {
      const { id, name, payload, octokit } = context
      decided.set(id, await decide({ id, name, payload, octokit }))
    })
  })

  let known: Promise<string> | null = null
  const slug = () => {
    known ??= probot
      .auth()
      .then(octokit => octokit.rest.apps.getAuthenticated())
      .then(({ data }) => data?.slug ?? '')
      .catch(error => {
        known = null
        throw error
      })
    return known
  }

  return {
    slug,
    receive: async ({ id, event, body }) => {
      const payload = JSON.parse(body)
      try {
        // The names of what may arrive are open: GitHub adds some, and the app ignores what it does not know.
        await probot.receive({ id, name: event, payload } as Parameters<typeof probot.receive>[0])
      } catch (error) {
        throw error instanceof AggregateError ? (error.errors[0] ?? error) : error
      }
      const found = decided.get(id)
      decided.delete(id)
      return (
        found ?? { verdict: { verdict: 'ignored', reason: `nothing is done on ${event}` }, actions: [], messages: [] }
      )
    },
    installation: id => probot.auth(id),
    isOurs: async ({ user, performed_via_github_app: app }) => {
      if (typeof app?.id === 'number') return app.id === appId
      return user?.type === 'Bot' && user.login === `${await slug()}[bot]`
    },
  }
}
