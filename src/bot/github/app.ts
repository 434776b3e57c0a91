/** GitHub by an App. Probot gets deliveries out of the inbox, verified and on disk, and not over HTTP. */
import { Probot, ProbotOctokit } from 'probot'
import type { AppSettings } from '../../config/config.ts'
import { isListed, isOwnerListed } from '../../config/serving.ts'
import type { Log } from '../../log.ts'
import { remembered } from '../remembered.ts'
import { type GitHub, type GitHubTools, type Octokit, openPace, watchedFetch } from './client.ts'
import { allGitHubEventNames } from './events.ts'
import { openAppAccess } from './git-access.ts'

/** How many repositories are watched at most: those pushed to last. */
const MAX_WATCHED = 100
/** How many owners whose installations are refused are reported at most. */
const MAX_REPORTED = 100

/** Probot, which decides nothing itself: `onEvent` gets each event with the client for it. */
const loadProbot = async (
  { appId, privateKey, webhookSecret, apiUrl }: AppSettings,
  { log, paced = true }: Pick<GitHubTools, 'log' | 'paced'>,
  fetch: ReturnType<typeof watchedFetch>['fetch'],
  pace: string,
  onEvent: (id: string, octokit: Octokit) => Promise<void>,
): Promise<Probot> => {
  const probot = new Probot({
    appId,
    privateKey,
    // Probot takes an empty secret for "development"; the configuration refuses an empty one.
    secret: webhookSecret,
    // Failures reach the inbox, which logs them once. Probot would log whole payloads on debug.
    log: log.child({}, { level: 'silent' }),
    ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
    request: { fetch },
    Octokit: ProbotOctokit.defaults(({ throttle, ...options }: { throttle?: { id?: string } }) => ({
      ...options,
      // Inbox and outbox try again, from disk; a retry in memory would only hold their slot.
      retry: { enabled: false },
      throttle: {
        ...throttle,
        // Each installation has limiters of its own.
        id: `${pace}:${throttle?.id ?? 'app'}`,
        enabled: paced,
        onRateLimit: () => false,
        onSecondaryRateLimit: () => false,
      },
    })),
  })
  await probot.load(app => {
    // The type is Probot's list of all events; events.ts alone knows which of them matter.
    app.on(allGitHubEventNames as ('push' | 'pull_request' | 'issue_comment')[], ({ id, octokit }) =>
      onEvent(id, octokit),
    )
  })
  return probot
}

/** Whose an installation is, as GitHub's login in lower case; '' for an enterprise. */
const loginOf = (account: object | null): string =>
  account !== null && 'login' in account && typeof account.login === 'string' ? account.login.toLowerCase() : ''

/** Anybody may install a public App: what others install acts on nothing here. Each is reported once. */
const openOwnerCheck = (repositories: readonly string[], log: Log) => {
  const reported = new Set<string>()
  return (owner: string): boolean => {
    if (repositories.length === 0 || isOwnerListed(owner, repositories)) return true
    if (!reported.has(owner) && reported.size < MAX_REPORTED) {
      reported.add(owner)
      log.warn(
        {
          owner,
          remedy: 'If it is yours, list its repositories in GITHUB_REPOSITORIES; otherwise make the App private.',
        },
        `an installation of the App on ${owner} is refused: GITHUB_REPOSITORIES lists nothing of it`,
      )
    }
    return false
  }
}

/** The App's repositories that are listed, the one pushed to last first. One request per installation and hundred repositories. */
const listRepositories = async (
  auth: (installation?: number) => Promise<Octokit>,
  list: readonly string[],
  mayOwner: (owner: string) => boolean,
  known: GitHubTools['repositories'],
): Promise<string[]> => {
  const app = await auth()
  const installations = await app.paginate(app.rest.apps.listInstallations, { per_page: 100 })
  const repositories: { name: string; pushedAt: string }[] = []
  for (const { id: installation, account, suspended_at } of installations) {
    if (typeof suspended_at === 'string' || !mayOwner(loginOf(account))) continue
    const octokit = await auth(installation)
    const listed = await octokit.paginate(octokit.rest.apps.listReposAccessibleToInstallation, { per_page: 100 })
    for (const { id, full_name: name, pushed_at, archived, disabled } of listed) {
      await known?.rename(id, name)
      await known?.setInstallation(name, installation)
      const mayAct = list.length === 0 || isListed((await known?.namesOf(name)) ?? [name], list)
      if (mayAct && !archived && !disabled) repositories.push({ name, pushedAt: pushed_at ?? '' })
    }
  }
  return repositories
    .sort((a, b) => (a.pushedAt < b.pushedAt ? 1 : -1))
    .slice(0, MAX_WATCHED)
    .map(({ name }) => name)
}

export const openApp = async (settings: AppSettings, tools: GitHubTools): Promise<GitHub> => {
  const watched = watchedFetch(tools.show ?? null)
  /** By the event's id: what to do with its client. */
  const working = new Map<string, (octokit: Octokit) => Promise<void>>()
  const pace = openPace()
  const load = (name: string) =>
    loadProbot(settings, tools, watched.fetch, name, async (id, octokit) => working.get(id)?.(octokit))
  let current = { pace: pace(), probot: load(pace()) }
  const probotNow = (): Promise<Probot> => {
    const name = pace()
    if (current.pace !== name) current = { pace: name, probot: load(name) }
    return current.probot
  }
  await probotNow()
  const auth = async (installation?: number): Promise<Octokit> => (await probotNow()).auth(installation)
  const mayOwner = openOwnerCheck(settings.repositories, tools.log)
  const login = remembered(async () => {
    const { data } = await (await auth()).rest.apps.getAuthenticated()
    return `${data?.slug ?? ''}[bot]`
  })

  return {
    login,
    repositories: () => listRepositories(auth, settings.repositories, mayOwner, tools.repositories),
    receive: async <Result>(
      { id, name, payload, installation }: Parameters<GitHub['receive']>[0],
      work: (octokit: Octokit) => Promise<Result>,
    ) => {
      if (installation === null) return null
      let done: { result: Result } | null = null
      working.set(id, async octokit => {
        done = { result: await work(octokit) }
      })
      try {
        const probot = await probotNow()
        await probot.receive({ id, name, payload } as Parameters<typeof probot.receive>[0])
      } catch (error) {
        throw error instanceof AggregateError ? (error.errors[0] ?? error) : error
      } finally {
        working.delete(id)
      }
      if (done === null) throw new Error(`Probot did not pass on ${name} ${id}`)
      return (done as { result: Result }).result
    },
    clientFor: async repo => {
      const installation = (await tools.repositories?.installation(repo)) ?? null
      return installation === null ? null : auth(installation)
    },
    isOurs: async ({ user, performed_via_github_app: app }) => {
      if (typeof app?.id === 'number') return app.id === settings.appId
      return user?.type === 'Bot' && user.login === (await login())
    },
    rate: watched.rate,
    gitAccess: openAppAccess({
      asApp: () => auth(),
      repositories: tools.repositories ?? { installation: async () => null },
      clock: Date.now,
    }),
    asApp: () => auth(),
  }
}
