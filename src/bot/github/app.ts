/** GitHub by an App. Deliveries do not come to Probot over HTTP but out of the inbox, verified and on disk; its decision goes back there. */
import { Probot, ProbotOctokit } from 'probot'
import type { AppSettings } from '../../config/config.ts'
import { type Decided, nothing } from '../inbox/inbox.ts'
import { type GitHub, type GitHubTools, openPace, watchedFetch } from './client.ts'
import { githubEvent, githubEventNames, installationOf as installationIn } from './events.ts'

/** So many repositories are looked at for what their webhooks missed: those that were pushed to last. */
const LOOKED_AT = 100

export const openApp = async (
  { appId, privateKey, webhookSecret, apiUrl }: AppSettings,
  {
    log,
    decide,
    installationOf,
    onInstallation = () => {},
    onRepository = () => {},
    show = null,
    paced = true,
  }: GitHubTools,
): Promise<GitHub> => {
  const decided = new Map<string, Decided>()
  const watched = watchedFetch(show)

  const opened = async (pace: string): Promise<Probot> => {
    const probot = new Probot({
      appId,
      privateKey,
      // Probot takes "development" for an empty one; the configuration refuses that before.
      secret: webhookSecret,
      // What goes wrong in the app reaches the inbox, which tells it once. Probot would log whole payloads on debug.
      log: log.child({}, { level: 'silent' }),
      ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
      request: { fetch: watched.fetch },
      Octokit: ProbotOctokit.defaults(({ throttle, ...options }: { throttle?: { id?: string } }) => ({
        ...options,
        // Inbox and outbox try again, on disk; a retry in memory would only hold their place.
        retry: { enabled: false },
        throttle: {
          ...throttle,
          // Each installation has its own.
          id: `${pace}:${throttle?.id ?? 'app'}`,
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
    return probot
  }
  const pace = openPace()
  let open: { pace: string; probot: Promise<Probot> } | null = null
  const probotNow = (): Promise<Probot> => {
    const now = pace()
    if (open?.pace !== now) open = { pace: now, probot: opened(now) }
    return open.probot
  }
  await probotNow()
  const auth = async (installation?: number) => (await probotNow()).auth(installation)

  let known: Promise<string> | null = null
  const login = () => {
    known ??= auth()
      .then(octokit => octokit.rest.apps.getAuthenticated())
      .then(({ data }) => `${data?.slug ?? ''}[bot]`)
      .catch(error => {
        known = null
        throw error
      })
    return known
  }

  /** One request for each hundred of them. */
  const repositories = async (): Promise<string[]> => {
    const app = await auth()
    const installations = await app.paginate(app.rest.apps.listInstallations, { per_page: 100 })
    const found: { name: string; pushedAt: string }[] = []
    for (const { id, suspended_at } of installations) {
      if (typeof suspended_at === 'string') continue
      const octokit = await auth(id)
      const listed = await octokit.paginate(octokit.rest.apps.listReposAccessibleToInstallation, { per_page: 100 })
      for (const { id: repositoryId, full_name: name, pushed_at, archived, disabled } of listed) {
        onRepository(repositoryId, name)
        onInstallation(name, id)
        if (!archived && !disabled) found.push({ name, pushedAt: pushed_at ?? '' })
      }
    }
    return found
      .sort((one, other) => (one.pushedAt < other.pushedAt ? 1 : -1))
      .slice(0, LOOKED_AT)
      .map(one => one.name)
  }

  return {
    login,
    repositories,
    receive: async ({ id, event, body }) => {
      const payload: unknown = JSON.parse(body)
      // Probot takes a payload for what it should be: it gets those that are.
      const read = githubEvent(event, payload)
      if ('ignored' in read) return nothing(read.ignored)
      if (installationIn(payload) === null) return nothing('it names no installation of the App')
      try {
        const probot = await probotNow()
        await probot.receive({ id, name: event, payload } as Parameters<typeof probot.receive>[0])
      } catch (error) {
        throw error instanceof AggregateError ? (error.errors[0] ?? error) : error
      }
      const found = decided.get(id)
      decided.delete(id)
      if (found === undefined) throw new Error(`Probot handed no ${event} on`)
      return found
    },
    clientFor: async repo => {
      const installation = installationOf(repo)
      return installation === null ? null : auth(installation)
    },
    isOurs: async ({ user, performed_via_github_app: app }) => {
      if (typeof app?.id === 'number') return app.id === appId
      return user?.type === 'Bot' && user.login === (await login())
    },
    rate: watched.rate,
    asApp: () => auth(),
  }
}
