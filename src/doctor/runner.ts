/** The checks of a runner on a host of its own: whether the bot can be reached, knows its token and speaks its protocol. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Finding, ok, problem, warning } from '../bot/check.ts'
import type { Config } from '../config/config.ts'
import { MIN_SECRET_LENGTH } from '../config/secrets.ts'
import { failureOf, isFailure } from '../errors.ts'
import { openLog } from '../log.ts'
import { tryRunnerLock } from '../registry/lock.ts'
import { openBotClient } from '../runner/bot-client.ts'
import { heardAt, NOTE_MS } from '../runner/heard.ts'
import { leaseResponse, type RenewRequest } from '../schema/runner-protocol.ts'
import type { Row } from './rows.ts'
import { ago } from './words.ts'

const MAKE_TOKEN =
  "On the bot's host: agent-swarm bot runner add NAME. Set what it prints as AGENT_SWARM_RUNNER_TOKEN here."

const checkToken = ({ runnerToken }: Config): Finding => {
  if (runnerToken === null) return problem('AGENT_SWARM_RUNNER_TOKEN is missing', MAKE_TOKEN)
  return runnerToken.length < MIN_SECRET_LENGTH
    ? problem(
        `AGENT_SWARM_RUNNER_TOKEN has ${runnerToken.length} characters, and needs ${MIN_SECRET_LENGTH}`,
        MAKE_TOKEN,
      )
    : ok('the runner has a token')
}

/** A lease that nobody has: the bot says so to a runner that it knows, and changes nothing. */
const NO_LEASE: RenewRequest = { id: 'doctor', token: 'doctor', progress: null }

const checkBot = async ({ botUrl, runnerToken }: Config, signal: AbortSignal): Promise<Finding[]> => {
  if (botUrl === null || runnerToken === null) return []
  const bot = openBotClient({ url: botUrl, token: runnerToken, log: openLog('silent') })
  try {
    await bot.post('renew', NO_LEASE, leaseResponse, { signal })
    return [ok(`the bot at ${botUrl} answers, knows this token and speaks this protocol`)]
  } catch (error) {
    const { message, remedy } = failureOf(error, `asking the bot at ${botUrl}`)
    const isAway = isFailure(error) && error.failure.kind === 'network'
    const text = isAway
      ? `the bot at ${botUrl} cannot be reached: ${message}`
      : `the bot at ${botUrl} refuses: ${message}`
    return [problem(text, remedy ?? `Try it: curl -i -X POST ${new URL('/runner/v1/renew', botUrl).href}`)]
  }
}

const checkProcess = ({ home }: Config, now: number): Finding => {
  const heard = heardAt(home)
  const last =
    heard === null ? 'the bot has accepted no heartbeat of it yet' : `the bot accepted its heartbeat ${ago(heard, now)}`
  if (heard !== null && now - heard < 2 * NOTE_MS) return ok(`the runner runs: ${last}`)
  const release = existsSync(join(home, 'runner.lock')) ? tryRunnerLock(home) : () => {}
  if (release === null)
    return problem(`the runner runs, but ${last}`, 'See its log. As a service: journalctl -u agent-swarm -n 50')
  release()
  return warning(`no runner runs with this home; ${last}`, 'agent-swarm runner')
}

/** With `up`, the runner and its bot are one process. */
export const runnerRows = (config: Config): Row[] =>
  config.botUrl === null
    ? []
    : [
        { subject: 'Runner', doing: "looking at the runner's token", run: () => checkToken(config) },
        { subject: 'Runner', doing: 'asking the bot', run: signal => checkBot(config, signal) },
        { subject: 'Runner', doing: 'looking for the runner', run: () => checkProcess(config, Date.now()) },
      ]
