/** GitHub by a personal token: no App, no public address. What polls find goes through the same inbox as webhooks. */
import { throttling } from '@octokit/plugin-throttling'
import { Octokit } from '@octokit/rest'
import type { TokenSettings } from '../../config/config.ts'
import { remembered } from '../remembered.ts'
import { isFinal } from '../remote-failure.ts'
import { type GitHub, type GitHubTools, githubFailure, openPace, parts, statusOf, watchedFetch } from './client.ts'

/** How many repositories are watched when none are configured: those pushed to last. */
const MAX_WATCHED = 20

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
      await repositories?.rename(data.id, data.full_name)
      return [data.full_name]
    } catch (error) {
      const failure = githubFailure(error, `reading the repository ${repo}`, Date.now())
      // A repository that is closed to us must not hold up the others.
      if (!isFinal(failure)) throw error
      log.warn(
        { repo, remedy: 'Check GITHUB_REPOSITORIES, and which repositories the token may access.' },
        statusOf(error) === 404 ? `GitHub shows no repository ${repo}` : failure.failure.message,
      )
      return []
    }
  }
  return (await Promise.all(names.map(read))).flat()
}

const latestRepositories = async (octokit: Client, { repositories }: GitHubTools): Promise<string[]> => {
  const { data } = await octokit().rest.repos.listForAuthenticatedUser({
    sort: 'pushed',
    direction: 'desc',
    per_page: 100,
  })
  const watched = data
    .filter(({ permissions, archived, disabled }) => permissions?.push === true && !archived && !disabled)
    .slice(0, MAX_WATCHED)
  for (const { id, full_name: name } of watched) await repositories?.rename(id, name)
  return watched.map(({ full_name: name }) => name)
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
    repositories: () =>
      repositories.length > 0 ? namedRepositories(octokit, repositories, tools) : latestRepositories(octokit, tools),
    receive: (_event, work) => work(octokit()),
    clientFor: async () => octokit(),
    isOurs: async ({ user }) => user?.login === (await login()),
    rate: watched.rate,
    asApp: null,
  }
}
