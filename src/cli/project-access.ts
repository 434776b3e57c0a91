/** How a command's machine reaches its repository: with a token of this home's own GitHub settings, or of the bot. */

import { atMost } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { storeFile } from '../config/home.ts'
import { openLog } from '../log.ts'
import { openBotClient } from '../runner/bot-client.ts'
import { commandAccess } from '../runner/command-access.ts'
import type { RunnerContext } from '../runner/context.ts'
import { botTokens, ownTokens } from '../runner/gateway.ts'
import type { TokenSource } from '../runner/git-gateway/tokens.ts'
import { openHeartbeat } from '../runner/heartbeat.ts'
import { openOffer } from '../runner/offer.ts'
import type { WithProjectAccess } from '../runner/project/access.ts'
import { version } from './serve.ts'

/** How long the first heartbeat may take. The bot says what it lacks. */
const TOLD_MS = 15_000

type AppSettings = Extract<Config['github'], { via: 'app' }>

/** Of the App whose settings this home has. The bot's own store knows the installations. */
const appToken = async ({ home }: RunnerContext, settings: AppSettings, repo: string): Promise<string | null> => {
  const [{ openGitHub }, { openStore }] = await Promise.all([
    import('../bot/github/open.ts'),
    import('../store/sqlite/index.ts'),
  ])
  const store = openStore(storeFile(home), Date.now)
  try {
    const log = openLog('silent')
    const github = await openGitHub(settings, { log, show: null, paced: true, repositories: store.repositories })
    return (await github.gitAccess(repo, 'read', true)).token
  } finally {
    await store.close()
  }
}

/** The bot gives tokens for machines that it knows of, so it learns of this one first. */
const tokensOfBot = (context: RunnerContext, bot: { url: string; token: string }, signal: AbortSignal): TokenSource => {
  const client = openBotClient({ ...bot, log: openLog('silent') })
  const tokens = botTokens(client, { runnerId: context.registry.runnerId(), botUrl: bot.url }, signal)
  const told = openHeartbeat(
    context,
    { bot: client, offer: openOffer(context, new Set()), version: version() },
    signal,
  ).accepted()
  return {
    tokenFor: async need => {
      await atMost(TOLD_MS, [told])
      return tokens.tokenFor(need)
    },
  }
}

const openTokens =
  (context: RunnerContext) =>
  (signal: AbortSignal): TokenSource => {
    const { github, botUrl, runnerToken } = context.config
    if (github?.via === 'token') return ownTokens(github.apiUrl, async () => github.token)
    if (github?.via === 'app') return ownTokens(github.apiUrl, repo => appToken(context, github, repo))
    if (botUrl !== null && runnerToken !== null)
      return tokensOfBot(context, { url: botUrl, token: runnerToken }, signal)
    return { tokenFor: async () => null }
  }

export const openProjectAccess = (context: RunnerContext): WithProjectAccess =>
  commandAccess(context, openTokens(context))
