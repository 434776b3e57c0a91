/** The checks of a runner on a host of its own: whether the bot can be reached, knows its token and speaks its protocol. */
import * as v from 'valibot'
import { type Finding, ok, problem, warning } from '../check.ts'
import { isWithin } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { MIN_SECRET_LENGTH } from '../config/secrets.ts'
import { failureOf } from '../errors.ts'
import { isRunnerRunning } from '../registry/lock.ts'
import { refusal, send } from '../runner/bot-client.ts'
import { lastHeartbeatAt, NOTE_MS } from '../runner/last-heartbeat.ts'
import { leaseResponse, type RenewRequest } from '../schema/runner-protocol.ts'
import { ago } from '../words.ts'
import type { Row } from './rows.ts'

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
const UNAUTHORIZED = 401
const BAD_REQUEST = 400

const askBot = async (bot: { url: string; token: string }, signal: AbortSignal): Promise<Finding> => {
  const answer = await send(bot, 'renew', NO_LEASE, { signal })
  if (answer.ok)
    return v.safeParse(v.pipe(v.string(), v.parseJson(), leaseResponse), answer.text).success
      ? ok(`the bot at ${bot.url} answers, knows this token and speaks this protocol`)
      : problem(
          `what answers at ${bot.url} is not a bot of this version`,
          'Install the same version of agent-swarm on both hosts, and check AGENT_SWARM_BOT_URL.',
        )
  // A token that no runner has shown yet belongs to nobody: the bot reads its requests, and refuses one that says nothing.
  const isNew = answer.status === UNAUTHORIZED && (await send(bot, 'renew', {}, { signal })).status === BAD_REQUEST
  if (isNew) return ok(`the bot at ${bot.url} answers and knows this token, which no runner has used yet`)
  throw refusal('renew', answer.status, answer.text)
}

const checkBot = async ({ botUrl, runnerToken }: Config, signal: AbortSignal): Promise<Finding | null> => {
  if (botUrl === null || runnerToken === null) return null
  try {
    return await askBot({ url: botUrl, token: runnerToken }, signal)
  } catch (error) {
    const { kind, message, remedy } = failureOf(error, 'asking the bot')
    const text = `the bot at ${botUrl} ${kind === 'network' ? 'cannot be reached' : 'refuses this runner'}: ${message}`
    return problem(text, remedy ?? `Try it: curl -i -X POST ${new URL('/runner/v1/renew', botUrl).href}`)
  }
}

const checkProcess = ({ home }: Config, now: number): Finding => {
  const at = lastHeartbeatAt(home)
  const last =
    at === null ? 'the bot has accepted no heartbeat of it yet' : `the bot accepted its heartbeat ${ago(at, now)}`
  if (at !== null && isWithin(at, 2 * NOTE_MS, now)) return ok(`the runner runs: ${last}`)
  if (isRunnerRunning(home))
    return problem(`the runner runs, but ${last}`, 'See its log. As a service: agent-swarm service logs')
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
