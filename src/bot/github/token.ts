/** GitHub by a personal token: no App, no public address. What it polls comes through the same inbox as a webhook would. */
import { throttling } from '@octokit/plugin-throttling'
import { Octokit } from '@octokit/rest'
import type { TokenSettings } from '../../config/config.ts'
import { parts } from '../inbox/facts.ts'
import {
  type GitHub,
  type GitHubTools,
  githubFailure,
  isGitHubFailure,
  openPace,
  statusOf,
  watchedFetch,
} from './client.ts'

/** Without a list of repositories, so many are watched: those that were pushed to last. */
const WATCHED_UNASKED = 20

export const openToken = (
  { token, repositories, apiUrl }: TokenSettings,
  { log, decide, onRepository = () => {}, show = null, paced = true }: GitHubTools,
): GitHub => {
  const watched = watchedFetch(show)
  const quiet = () => {}
  const pace = openPace()
  const Client = Octokit.plugin(throttling)
  const octokit = () =>
    new Client({
      auth: token,
      ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
      request: { fetch: watched.fetch },
      // It would tell each request that fails; those who asked do.
      log: { debug: quiet, info: quiet, warn: (message: string) => log.debug(message), error: quiet },
      throttle: { enabled: paced, id: pace(), onRateLimit: () => false, onSecondaryRateLimit: () => false },
    })

  let known: Promise<string> | null = null
  const login = () => {
    known ??= octokit()
      .rest.users.getAuthenticated()
      .then(({ data }) => data.login)
      .catch(error => {
        known = null
        throw error
      })
    return known
  }

  const named = async (): Promise<string[]> =>
    (
      await Promise.all(
        repositories.map(repo =>
          octokit()
            .rest.repos.get(parts(repo))
            .then(
              // As GitHub writes it: by this name it is remembered.
              ({ data: { id, full_name: name } }) => {
                onRepository(id, name)
                return [name]
              },
              (error: unknown) => {
                const failure = githubFailure(error, `looking at ${repo}`, Date.now())
                // One that is closed to us keeps the others from nothing.
                if (!isGitHubFailure(failure) || failure.allows !== 'never') throw error
                log.warn(
                  { repo, remedy: 'Check GITHUB_REPOSITORIES, and what the token may see.' },
                  statusOf(error) === 404 ? `GitHub shows no repository ${repo}` : failure.failure.message,
                )
                return []
              },
            ),
        ),
      )
    ).flat()
  const lately = async (): Promise<string[]> => {
    const { data } = await octokit().rest.repos.listForAuthenticatedUser({
      sort: 'pushed',
      direction: 'desc',
      per_page: 100,
    })
    return data
      .filter(one => one.permissions?.push === true && !one.archived && !one.disabled)
      .slice(0, WATCHED_UNASKED)
      .map(({ id, full_name: name }) => {
        onRepository(id, name)
        return name
      })
  }

  return {
    login,
    repositories: () => (repositories.length > 0 ? named() : lately()),
    receive: ({ id, event, body }) => decide({ id, name: event, payload: JSON.parse(body), octokit: octokit() }),
    clientFor: async () => octokit(),
    isOurs: async ({ user }) => user?.login === (await login()),
    rate: watched.rate,
    asApp: null,
  }
}
