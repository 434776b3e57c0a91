/** The git gateway of this home: its rules from the configuration and the registry, its tokens from the bot. */
import { servedProjects } from '../config/serving.ts'
import { projectOf, ticketOf } from '../domain.ts'
import { fail } from '../errors.ts'
import type { Log } from '../log.ts'
import { isLoopback } from '../schema/forms.ts'
import { type GitTokenRequest, gitTokenResponse } from '../schema/runner-protocol.ts'
import type { GitSettings } from '../schema/workspace.ts'
import type { BotClient } from './bot-client.ts'
import { type RunnerContext, resolveTicket } from './context.ts'
import { type GitGateway, openGitGateway } from './git-gateway/gateway.ts'
import { REPOSITORY_LIMITS, type RepositoryLimits } from './git-gateway/git.ts'
import { poolRepository } from './git-gateway/policy.ts'
import type { TokenSource } from './git-gateway/tokens.ts'
import { remoteOf } from './project/access.ts'

/** The user that goes with a token of GitHub. */
const USERNAME = 'x-access-token'

/**
 * The projects that the repository serves. Where a runner has no list of its own, the bot decides, when it gives the token. `told`:
 * by the bot; an earlier one tells nothing.
 */
const served = (
  { config: { serving } }: RunnerContext,
  ticket: string,
  repo: string,
  told: readonly string[] = [projectOf(ticket)],
): readonly string[] => (Object.keys(serving.projects).length === 0 ? told : servedProjects([repo], serving))

/** The repositories that the operator keeps machines ready for, in lower case. */
const pooled = ({ config }: RunnerContext): string[] =>
  config.pool.flatMap(({ repository }) => (repository === null ? [] : [repository.toLowerCase()]))

const [MIB, GIB] = [1024 ** 2, 1024 ** 3]

/** `repo` in lower case. */
export const repositoryLimits = (settings: GitSettings, repo: string): RepositoryLimits => {
  const name = Object.keys(settings).find(key => key.toLowerCase() === repo)
  const { push, pushMiB, mirrorGiB } = (name === undefined ? undefined : settings[name]) ?? {}
  return {
    push: push ?? REPOSITORY_LIMITS.push,
    pushBytes: pushMiB === undefined ? REPOSITORY_LIMITS.pushBytes : pushMiB * MIB,
    mirrorBytes: mirrorGiB === undefined ? REPOSITORY_LIMITS.mirrorBytes : mirrorGiB * GIB,
  }
}

export const openGateway = (context: RunnerContext, { log, tokens }: { log: Log; tokens: TokenSource }): GitGateway => {
  const { home, config, registry, clock } = context
  return openGitGateway({
    ...{ home, environment: config.environment, clock: () => clock().getTime(), log, tokens, record: registry },
    limitsOf: repo => repositoryLimits(config.git, repo),
    mayFetch: (ticket, repo) =>
      poolRepository(ticket) === null
        ? served(context, ticket, repo).includes(projectOf(ticket))
        : pooled(context).includes(repo),
    remoteOf: repo => `${remoteOf(config.githubApiUrl)}${repo}.git`,
    rulesOf: (ticket, repo, told) => ({
      projects: served(context, ticket, repo, told),
      attempts: registry.attempts(ticketOf(ticket)),
      currentKey: named => resolveTicket(context, named),
    }),
    isAgentRun: (ticket, run) => {
      const agent = registry.agent(ticket)
      return agent?.state === 'running' && agent.run === run
    },
    isProjectOf: (ticket, repo) => registry.project(ticket)?.repo.toLowerCase() === repo,
    repositories: () => [
      ...[...registry.projectsByTicket().values()].flatMap(({ project }) => project?.repo ?? []),
      ...pooled(context),
    ],
  })
}

/** A bot elsewhere does not lead git to a service of this host's loopback. A bot on this host may have its GitHub there. */
const checkHost = (host: string, botUrl: string, repo: string): string => {
  const [given, bot] = [URL.parse(host), URL.parse(botUrl)]
  if (given !== null && (!isLoopback(given.hostname) || (bot !== null && isLoopback(bot.hostname)))) return host
  throw fail('refused', `the address of ${repo} that the bot gave is on this host`)
}

/** The bot's tokens. `signal` ends requests that are under way. */
export const botTokens = (
  bot: Pick<BotClient, 'post'>,
  { runnerId, botUrl }: { runnerId: string; botUrl: string },
  signal: AbortSignal,
): TokenSource => ({
  tokenFor: async ({ repo, ticket, need }) => {
    const request: GitTokenRequest = {
      ...{ runnerId, repo, to: need },
      ticket: poolRepository(ticket) === null ? ticket : null,
    }
    const answer = await bot.post('git-token', request, gitTokenResponse, { signal })
    if (answer === null) return null
    const { token, expiresAt, projects } = answer
    const host = checkHost(answer.host, botUrl, repo)
    const remoteUrl = `${host.replace(/\/$/, '')}/${repo}.git`
    return { token, username: USERNAME, expiresAt: Date.parse(expiresAt), remoteUrl, projects }
  },
})

/** A token that this home has itself. */
export const ownTokens = (apiUrl: string | null, token: (repo: string) => Promise<string | null>): TokenSource => ({
  tokenFor: async ({ repo }) => ({
    ...{ token: await token(repo), username: USERNAME, expiresAt: null },
    remoteUrl: `${remoteOf(apiUrl)}${repo}.git`,
  }),
})
