/** GitHub by a personal token: no App, no public address. What it polls comes through the same inbox as a webhook would. */
import { throttling } from '@octokit/plugin-throttling'
import { Octokit } from '@octokit/rest'
import type { TokenSettings } from '../config.ts'
import { type GitHub, type GitHubTools, watchedFetch } from './github.ts'

export const openToken = (
  { token, apiUrl }: TokenSettings,
  { log, decide, show = null, paced = true }: GitHubTools,
): GitHub => {
  const watched = watchedFetch(show)
  const quiet = () => {}
  const octokit = new (Octokit.plugin(throttling))({
    auth: token,
    ...(apiUrl === null ? {} : { baseUrl: apiUrl }),
    request: { fetch: watched.fetch },
    // It would tell each request that fails; those who asked do.
    log: { debug: quiet, info: quiet, warn: (message: string) => log.debug(message), error: quiet },
    throttle: { enabled: paced, onRateLimit: () => false, onSecondaryRateLimit: () => false },
  })

  let known: Promise<string> | null = null
  const login = () => {
    known ??= octokit.rest.users
      .getAuthenticated()
      .then(({ data }) => data.login)
      .catch(error => {
        known = null
        throw error
      })
    return known
  }
  return {
    login,
    receive: ({ id, event, body }) => decide({ id, name: event, payload: JSON.parse(body), octokit }),
    clientFor: async () => octokit,
    isOurs: async ({ user }) => user?.login === (await login()),
    rate: watched.rate,
    asApp: null,
  }
}
