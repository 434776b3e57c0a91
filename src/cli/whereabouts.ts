/** Where the machine of a ticket is that this home has none of: the bot knows, on this host or at AGENT_SWARM_BOT_URL. */
import { existsSync } from 'node:fs'
import * as v from 'valibot'
import type { Config } from '../config/config.ts'
import { registryFile, storeFile } from '../config/home.ts'
import { isEnvironmentKey, type Ticket } from '../domain.ts'
import { fail } from '../errors.ts'
import { isViaHost } from '../runner/ssh/via.ts'
import type { Failure } from '../schema/failure.ts'
import { type Whereabouts, whereResponse } from '../schema/runner-protocol.ts'
import { stripControls, type Terminal } from './terminal/output.ts'

/** A person waits for the failure of their command. */
const DEADLINE_MS = 5_000

const ownRunnerId = async (home: string): Promise<string> => {
  const { openRegistry } = await import('../registry/registry.ts')
  const registry = openRegistry(registryFile(home))
  try {
    return registry.runnerId()
  } finally {
    registry.close()
  }
}

const runsHere = async (home: string): Promise<boolean> => {
  const { findBot } = await import('../bot/http/operator.ts')
  return (await findBot(home)) !== null
}

const askHere = async (config: Config, ticket: Ticket): Promise<Whereabouts | null> => {
  const { openInbox } = await import('./inbox.ts')
  const asker = await ownRunnerId(config.home)
  const inbox = await openInbox(config)
  try {
    return await inbox.ask({ ask: 'where', ticket, asker })
  } finally {
    await inbox.close()
  }
}

const askBot = async (home: string, url: string, token: string, ticket: Ticket): Promise<Whereabouts | null> => {
  const [{ refusal, send }, runnerId] = await Promise.all([import('../runner/bot-client.ts'), ownRunnerId(home)])
  const options = { signal: new AbortController().signal, deadlineMs: DEADLINE_MS }
  const { status, ok, text } = await send({ url, token }, 'where', { runnerId, ticket }, options)
  if (!ok) throw refusal('where', status, text)
  return v.parse(v.pipe(v.string(), v.parseJson(), whereResponse), text).machine
}

/** `unasked`: there is a bot, and it could not be asked. */
type Answer = { machine: Whereabouts | null; unasked: boolean }
const ask = async (config: Config, ticket: Ticket): Promise<Answer> => {
  const { home, botUrl, runnerToken } = config
  try {
    // Beside a bot elsewhere, the store that one left here says nothing, unless it runs.
    const hasBot = existsSync(storeFile(home)) && (botUrl === null || (await runsHere(home)))
    if (hasBot) return { machine: await askHere(config, ticket), unasked: false }
    if (botUrl === null) return { machine: null, unasked: false }
    if (runnerToken === null) return { machine: null, unasked: true }
    return { machine: await askBot(home, botUrl, runnerToken, ticket), unasked: false }
  } catch {
    return { machine: null, unasked: true }
  }
}

const sentenceOf = ({ ticket, provider, status, runner, host, heardAt }: Whereabouts): string => {
  const name = runner === null ? '' : ` (runner ${runner})`
  return `${ticket} has its machine on ${provider}, on the host ${stripControls(host ?? 'of a runner without a name')}${name}: ${status}, as of ${heardAt}`
}

const wayTo = ({ ticket, host }: Whereabouts): string => {
  // A runner tells its own name, and a person may paste the line.
  const via = host !== null && isViaHost(host) ? host : 'HOST'
  return `Run the command there, or log in through that host: agent-swarm ssh --via ${via} ${ticket}`
}

/**
 * Whether another runner has the ticket's machine, where a ticket stays until it is deleted: then why none is made here. A bot that
 * cannot be asked is warned of, and not asked again.
 */
export const openElsewhere = (config: Config, warn: (text: string) => void) => {
  let isAway = false
  return async (ticket: Ticket): Promise<Failure | null> => {
    if (isAway) return null
    const { machine, unasked } = await ask(config, ticket)
    if (unasked) {
      isAway = true
      warn(`The bot could not be asked whether another host has the machine of ${ticket}: creating it all the same.`)
    }
    // The bot may not know yet that this host deleted it.
    if (machine === null || machine.yours !== false) return null
    const forget = 'If that host is gone for good, on the host of the bot: agent-swarm bot runner forget NAME'
    return fail('refused', `creating ${ticket}: ${sentenceOf(machine)}`, `${wayTo(machine)}\n${forget}`).failure
  }
}

/** `where`: the machine, in one sentence without a full stop; null when nobody knows one. `wayOn`: what to do now; null: nothing. */
export type Hint = { where: string | null; wayOn: string | null }

export const whereabouts = async (config: Config, ticket: Ticket): Promise<Hint> => {
  const { machine, unasked } = await ask(config, ticket)
  if (machine !== null) return { where: sentenceOf(machine), wayOn: wayTo(machine) }
  const how = `If another host has it: agent-swarm ssh --via HOST ${ticket}; or comment "/swarm status" on its ticket to find out.`
  return { where: null, wayOn: unasked ? `The bot could not be asked where it is. ${how}` : null }
}

/** A failure that a ticket has no machine, with where it has one. */
export const withWhereabouts = async (env: Terminal['env'], failure: Failure, ticket: Ticket): Promise<Failure> => {
  if (failure.kind !== 'no-such-environment' || !isEnvironmentKey(ticket)) return failure
  try {
    const { readConfig } = await import('../config/config.ts')
    const { where, wayOn } = await whereabouts(await readConfig({}, env), ticket)
    if (where !== null) return { ...failure, message: `${ticket} has no machine here. ${where}`, remedy: wayOn }
    return wayOn === null ? failure : { ...failure, remedy: `${failure.remedy}\n${wayOn}` }
  } catch {
    // What is wrong with the configuration, the command itself says.
    return failure
  }
}
