/** GitHub by a personal token: no App, no public address. What polls find goes through the same inbox as webhooks. */
import { throttling } from '@octokit/plugin-throttling'
import { Octokit } from '@octokit/rest'
import type { TokenSettings } from '../../config/config.ts'
import { isWildcard, ownerOf } from '../../config/serving.ts'
import { remembered } from '../remembered.ts'
import { isRefused } from '../remote-failure.ts'
import { type GitHub, type GitHubTools, githubFailure, openPace, parts, statusOf, watchedFetch } from './client.ts'
import { openTokenAccess } from './git-access.ts'

/** How many repositories of a `*` are watched: those pushed to last. */
const MAX_WATCHED = 20
/** Of the token's repositories, as many are looked through for those, 100 each. */
const MAX_PAGES = 10

type Client = () => Octokit

/** The configured repositories that GitHub shows, under their present names: these are recorded. */
const namedRepositories = async (
  octokit: Client,
  names: readonly string[],
  { log, repositories }: GitHubTools,
): Promise<string[]> => {
  const read = async (repo: string): Promise<string[]> => {
    try {
      const { data } = await octokit().rest.repos.get(parts(repo))
      const known = await repositories?.nameOf(data.id)
      // GitHub redirects from a previous name: the repository is listed under that one.
      if (known === null && data.full_name.toLowerCase() !== repo.toLowerCase()) {
        await repositories?.rename(data.id, repo)
        log.warn(
          { repo, remedy: `Write ${data.full_name} in GITHUB_REPOSITORIES and JIRA_PROJECTS.` },
          `${repo} is ${data.full_name} now`,
        )
      }
      await repositories?.rename(data.id, data.full_name)
      return [data.full_name]
    } catch (error) {
      const failure = githubFailure(error, `reading the repository ${repo}`, Date.now())
      // A repository that is closed to us must not hold up the others.
      if (!isRefused(failure)) throw error
      log.warn(
        { repo, remedy: 'Check GITHUB_REPOSITORIES, and which repositories the token may access.' },
        statusOf(error) === 404 ? `GitHub shows no repository ${repo}` : failure.failure.message,
      )
      return []
    }
  }
  return (await Promise.all(names.map(read))).flat()
}

/** The repositories that were pushed to last, and that the token's user may push to: of each of these owners, or of anybody. */
const latestRepositories = async (
  octokit: Client,
  owners: readonly string[] | null,
  { repositories }: GitHubTools,
): Promise<string[]> => {
  /** By owner; '' for anybody. */
  const found = new Map((owners ?? ['']).map(owner => [owner, [] as string[]]))
  const isEnough = () => [...found.values()].every(names => names.length >= MAX_WATCHED)
  for (let page = 1; page <= MAX_PAGES && !isEnough(); page += 1) {
    const { data } = await octokit().rest.repos.listForAuthenticatedUser({
      ...{ sort: 'pushed', direction: 'desc', per_page: 100 },
      ...(page === 1 ? {} : { page }),
    })
    for (const { id, full_name: name, permissions, archived, disabled } of data) {
      const names = found.get(owners === null ? '' : ownerOf(name))
      if (names === undefined || names.length >= MAX_WATCHED) continue
      if (permissions?.push !== true || archived || disabled) continue
      names.push(name)
      await repositories?.rename(id, name)
    }
    if (data.length < 100) break
  }
  return [...found.values()].flat()
}

/** The listed repositories, and the latest of each `*`. */
const listedRepositories = async (octokit: Client, list: readonly string[], tools: GitHubTools): Promise<string[]> => {
  const owners = [...new Set(list.filter(isWildcard).map(ownerOf))]
  const named = await namedRepositories(
    octokit,
    list.filter(entry => !isWildcard(entry)),
    tools,
  )
  const latest =
    list.length > 0 && owners.length === 0
      ? []
      : await latestRepositories(octokit, list.length > 0 ? owners : null, tools)
  return [...new Set([...named, ...latest])]
}

export const openToken = ({ token, repositories, apiUrl }: TokenSettings, tools: GitHubTools): GitHub => {
  const { log, show = null, paced = true } = tools
  const watched = watchedFetch(show)
  const quiet = () => {}
  const pace = openPace()
  const PacedOctokit = Octokit.plugin(throttling)
  const octokit: Client = () =>
    new PacedOctokit({
      auth: token,
      ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
      request: { fetch: watched.fetch },
      // Callers log failed requests.
      log: { debug: quiet, info: quiet, warn: (message: string) => log.debug(message), error: quiet },
      throttle: { enabled: paced, id: pace(), onRateLimit: () => false, onSecondaryRateLimit: () => false },
    })
  const login = remembered(async () => (await octokit().rest.users.getAuthenticated()).data.login)

  return {
    login,
    repositories: () => listedRepositories(octokit, repositories, tools),
    receive: (_event, work) => work(octokit()),
    clientFor: async () => octokit(),
    isOurs: async ({ user }) => user?.login === (await login()),
    rate: watched.rate,
    gitAccess: openTokenAccess(token, octokit),
    asApp: null,
  }
}
