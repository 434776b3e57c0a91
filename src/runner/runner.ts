/**
 * The runner: takes actions from the bot, executes them, and reports outcomes and environments. What it was doing when it
 * died is handed out again by the queue, and continues from what is observed then.
 */
import { atMost } from '../clock.ts'
import { failureOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Action } from '../schema/action.ts'
import { openBotClient } from './bot-client.ts'
import { openClaimLoop } from './claim-loop.ts'
import type { RunnerContext } from './context.ts'
import { openHeartbeat } from './heartbeat.ts'
import { openLinks } from './link/links.ts'
import type { LinkHandler } from './link/types.ts'
import { openOffer } from './offer.ts'
import { recoverAll } from './recovery.ts'
import { openRequests } from './requests/requests.ts'

/** How long running actions may go on after the runner is closed. The queue hands out again what has not ended by then. */
const DRAIN_MS = 5_000
const HEARTBEAT_END_MS = 500
const LINKS_END_MS = 1_500

export type Runner = { close(): Promise<void> }

/** Recovers what an earlier process left. A hypervisor that does not answer now keeps the runner from nothing. */
const recover = async (context: RunnerContext, log: Log): Promise<void> => {
  const unrecovered = await recoverAll(context).catch(error => [
    { ticket: null, failure: failureOf(error, 'recovering interrupted operations') },
  ])
  for (const { ticket, failure } of unrecovered)
    log.warn({ ticket, failure: failure.kind }, `an interrupted operation is not recovered yet: ${failure.message}`)
}

/** Answers for a service that this runner does not have. */
const notHere: LinkHandler = (_machine, _request, response) => {
  response.writeHead(503, { 'content-type': 'text/plain', connection: 'close' })
  response.end('not part of this runner\n')
}

export const startRunner = async (
  context: RunnerContext,
  { botUrl, token, version, log }: { botUrl: string; token: string; version: string; log: Log },
): Promise<Runner> => {
  await recover(context, log)
  const ending = new AbortController()
  const running = new Set<Action>()
  const bot = openBotClient({ url: botUrl, token, log })
  const offer = openOffer(context, running)
  const heartbeat = openHeartbeat(context, { bot, offer, version }, ending.signal)
  const onEnded = () => {
    offer.refresh()
    heartbeat.nudge()
    links.nudge()
  }
  const requests = openRequests({ context, log, onChange: onEnded, signal: ending.signal })
  const links = openLinks(context, { git: notHere, model: notHere, requests: requests.handle }, { log })
  const { accepted } = heartbeat
  const claims = openClaimLoop({ context, bot, offer, log, running, accepted, onEnded })
  log.info(
    { runnerId: context.registry.runnerId(), bot: botUrl, slots: context.config.runnerSlots },
    'the runner is up',
  )
  return {
    close: async () => {
      ending.abort()
      if (running.size > 0) log.info({ running: running.size }, 'ending: running actions get a few seconds')
      await Promise.all([claims.close(DRAIN_MS), atMost(DRAIN_MS, [requests.idle()])])
      await atMost(LINKS_END_MS, [links.close()])
      await atMost(HEARTBEAT_END_MS, [heartbeat.ended])
    },
  }
}
