/**
 * The runner: takes actions from the bot, executes them, and reports outcomes and environments. What it was doing when it
 * died is handed out again by the queue, and continues from what is observed then.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { atMost, DAY_MS } from '../clock.ts'
import type { Ticket } from '../domain.ts'
import { failureOf } from '../errors.ts'
import { writeFileAtomic } from '../files.ts'
import type { Log } from '../log.ts'
import { tryRunnerLock } from '../registry/lock.ts'
import { watchRegistry } from '../registry/watch.ts'
import type { Action } from '../schema/action.ts'
import { openAgents } from './agent/agents.ts'
import { repositoryAgent } from './agent/repository-agent.ts'
import { sweepTranscripts } from './agent/transcript.ts'
import { openBotClient } from './bot-client.ts'
import { openClaimLoop } from './claim-loop.ts'
import type { RunnerContext } from './context.ts'
import { botTokens, openGateway } from './gateway.ts'
import { openHeartbeat } from './heartbeat.ts'
import { openIdleWatch } from './idle/watch.ts'
import { leadGitThroughLink, linkAccess, pooledAccess } from './link/access.ts'
import { openLinks } from './link/links.ts'
import type { Links } from './link/types.ts'
import { openOffer } from './offer.ts'
import { openFiller } from './pool/filler.ts'
import type { Listings } from './reconciler/look.ts'
import { openReconciler } from './reconciler/reconciler.ts'
import { recoverAll } from './recovery.ts'
import { openRequests } from './requests/requests.ts'
import { pinnedMachines } from './ssh/keys.ts'

/** How long running actions may go on after the runner is closed. The queue hands out again what has not ended by then. */
const DRAIN_MS = 5_000
const HEARTBEAT_END_MS = 500
const LINKS_END_MS = 1_500
/** Between two looks for mirrors that no machine uses, and for what is old. */
const SWEEP_MS = 10 * 60_000
/** How long the journal is kept. */
const KEPT_MS = 90 * DAY_MS

export type Runner = { close(): Promise<void> }

const RUNNER_ID = /^[A-Za-z0-9-]{1,64}$/
/** The name that this runner has for the bot outlives the registry: the bot pins tickets to it. */
const keepRunnerId = ({ home, registry }: RunnerContext): void => {
  const file = join(home, 'runner-id')
  const former = existsSync(file) ? readFileSync(file, 'utf8').trim() : null
  const id = registry.runnerId(former !== null && RUNNER_ID.test(former) ? former : null)
  if (id !== former) writeFileAtomic(file, `${id}\n`)
}

/** Recovers what an earlier process left. A hypervisor that does not answer now keeps the runner from nothing. */
const recover = async (context: RunnerContext, log: Log): Promise<void> => {
  const onFinished = (ticket: Ticket, summary: string) =>
    log.info({ ticket }, `an interrupted operation is finished: ${summary}`)
  const unrecovered = await recoverAll(context, onFinished).catch(error => [
    { ticket: null, failure: failureOf(error, 'recovering interrupted operations') },
  ])
  for (const { ticket, failure } of unrecovered)
    log.warn({ ticket, failure: failure.kind }, `an interrupted operation is not recovered yet: ${failure.message}`)
}

/** Ends what calls left in running machines whose process died. Nothing waits for it: the hypervisor may not answer. */
const settleMachines = async (context: RunnerContext, log: Log): Promise<void> => {
  for (const name of new Set(context.registry.environments().map(row => row.provider)))
    try {
      await (await context.provider(name)).settle?.()
    } catch (error) {
      const { kind, message } = failureOf(error, `looking at the machines of ${name}`)
      log.warn({ provider: name, failure: kind }, message)
    }
}

/** Removes old operations, and old transcripts of agents whose machine is gone. */
const purgeOld = async (
  { registry, home, config, clock }: RunnerContext,
  ending: AbortSignal,
  log: Log,
): Promise<void> => {
  const now = clock().getTime()
  try {
    const before = new Date(now - KEPT_MS).toISOString()
    await registry.purge({ before, pinned: pinnedMachines(home) }, () => ending.aborted)
    if (ending.aborted) return
    const exists = (vmId: string) => registry.environmentOfMachine(vmId) !== null
    sweepTranscripts(home, exists, now - config.retention.logDays * DAY_MS)
  } catch (error) {
    if (!ending.aborted) log.warn({ err: error }, 'removing old operations and transcripts')
  }
}

export const startRunner = async (
  context: RunnerContext,
  { botUrl, token, version, log }: { botUrl: string; token: string; version: string; log: Log },
): Promise<Runner> => {
  keepRunnerId(context)
  await recover(context, log)
  void settleMachines(context, log)
  const ending = new AbortController()
  const running = new Set<Action>()
  const bot = openBotClient({ url: botUrl, token, log, onClosed: () => gateway.forget(() => true) })
  const offer = openOffer(context, running)
  const heartbeat = openHeartbeat(context, { bot, offer, version }, ending.signal)
  const tokens = botTokens(bot, { runnerId: context.registry.runnerId(), botUrl }, ending.signal)
  const gateway = openGateway(context, { log, tokens })
  // Each needs the other: the agents look for the links of their machines at once.
  let opened: Links | null = null
  const agents = openAgents(context, {
    ...{ log, links: () => opened, closed: bot.closed },
    repositoryAgent: repositoryAgent(gateway),
  })
  const onEnded = (ticket: Ticket | null = null) => {
    gateway.forget(ticket => context.registry.environment(ticket) === null)
    agents.nudge()
    offer.refresh()
    heartbeat.nudge(ticket)
    links.nudge()
  }
  const requests = openRequests({ context, log, onChange: onEnded, signal: ending.signal })
  const services = { git: gateway.handle, model: agents.model, requests: requests.handle }
  const activity = openIdleWatch({
    ...{ context, log, rule: context.config.idle, onChange: onEnded, signal: ending.signal },
    now: () => performance.now(),
  })
  const links = openLinks(context, services, { log, beforeUp: leadGitThroughLink(context), activity })
  opened = links
  const unwatch = [
    watchRegistry(context.home, () => {
      links.look()
      agents.nudge()
    }),
    watchRegistry(context.home, heartbeat.look, { gapMs: 500 }),
  ]
  const linked = { ...context, projectAccess: linkAccess(links, gateway, context.config) }
  const onLook = ({ before, listings }: Listings) => {
    for (const [name, listing] of listings) heartbeat.observe(name, before, listing)
  }
  const filler = openFiller({
    ...{ context, log, git: gateway, withAccess: pooledAccess(context, { gateway, services, log }) },
    ...{ now: () => performance.now(), onChange: onEnded },
  })
  unwatch.push(watchRegistry(context.home, filler.nudge))
  const reconciler = openReconciler(linked, { log, onChange: onEnded, onLook })
  const sweeping = setInterval(() => {
    gateway.sweep().catch(error => log.warn({ err: error }, 'sweeping the mirrors'))
    void purgeOld(context, ending.signal, log)
  }, SWEEP_MS).unref()
  // A second runner of one home is a mistake that hurts nothing.
  const release = tryRunnerLock(context.home)
  const { accepted } = heartbeat
  const claims = openClaimLoop({ context: linked, bot, offer, log, running, accepted, onEnded })
  log.info(
    { runnerId: context.registry.runnerId(), bot: botUrl, slots: context.config.runnerSlots },
    'the runner is up',
  )
  return {
    close: async () => {
      ending.abort()
      for (const end of unwatch) end()
      if (running.size > 0) log.info({ running: running.size }, 'ending: running actions get a few seconds')
      await Promise.all([
        ...[claims.close(DRAIN_MS), reconciler.close(DRAIN_MS), filler.close(DRAIN_MS)],
        atMost(DRAIN_MS, [requests.idle()]),
      ])
      clearInterval(sweeping)
      await Promise.all([agents.close(), gateway.close()])
      await atMost(LINKS_END_MS, [links.close()])
      await atMost(HEARTBEAT_END_MS, [heartbeat.ended])
      release?.()
    },
  }
}
