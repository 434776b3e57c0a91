/** The bot, put together: it listens first, and everything that is slow to load or far away comes after. */
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import cron from 'node-cron'
import type { Config } from '../config/config.ts'
import { fail, failureOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Failure } from '../schema/failure.ts'
import { openCopy, openStore } from '../sqlite.ts'
import type { Delivery } from '../store/port.ts'
import { openMemory } from '../store/sqlite/memory.ts'
import { openQueue } from '../store/sqlite/queue.ts'
import { openCatchUp } from './catch-up.ts'
import { queueBeside, type Show } from './dry-run.ts'
import { type GitHub, githubFailure, openGitHub, webUrlOf } from './github/client.ts'
import { githubLane } from './github/events.ts'
import { openGitHubPoll } from './github/poll.ts'
import { openMetrics } from './http/metrics.ts'
import { findBot, openOperator } from './http/operator.ts'
import { openServer } from './http/server.ts'
import { clockDelivery, openDecide } from './inbox/decide.ts'
import { forkMoved, type Sources } from './inbox/facts.ts'
import { openInbox } from './inbox/inbox.ts'
import { openJira } from './jira/client.ts'
import { jiraLane } from './jira/events.ts'
import { openJiraPoll } from './jira/poll.ts'
import { openPollLoop, type PollLoop } from './poll-loop.ts'
import { statusMessage } from './publish/messages.ts'
import { openPublisher } from './publish/publisher.ts'
import { standardRules } from './rules/repository-file.ts'
import { openRepositoryRules } from './rules/repository-rules.ts'
import { openRunnerApi } from './runners/api.ts'
import { openOutcomes } from './runners/outcomes.ts'

const DAY_MS = 24 * 60 * 60_000
/** How long what is settled is kept: GitHub sends a delivery again for at most three days. */
const KEPT_MS = { queue: 14 * DAY_MS, memory: 90 * DAY_MS }
/** How much of the payloads of deliveries without an effect is kept for a replay, in bytes. */
export const KEPT_PAYLOADS = 64 * 1024 * 1024
const CLOSE_MS = 2_500
/** When is looked for what was missed, beside the start. */
const CATCH_UP = '7,22,37,52 * * * *'
/** How often is looked for what was put off, and at the clock. */
const TICK_MS = 5_000
/** So much more than that between two looks: the machine slept, or its clock was set. */
const GAP_MS = 60_000

export type Bot = {
  url: string
  port: number
  /** Looks for what was missed, now: ends when it is in the inbox. */
  catchUp(): Promise<void>
  close(): Promise<void>
}

/**
 * Throws `not-configured` with everything that is missing. `runnerToken` stands in for the configured one. With `show` it
 * is a dry run, which is shown there.
 */
export const startBot = async (
  config: Config,
  log: Log,
  {
    runnerToken = null,
    show = null,
    clock = Date.now,
  }: { runnerToken?: string | null; show?: Show | null; clock?: () => number } = {},
): Promise<Bot> => {
  const token = runnerToken ?? config.runnerToken
  const app = config.github?.via === 'app' ? config.github : null
  const problems = [
    ...config.botProblems,
    ...(token === null ? ['AGENT_SWARM_RUNNER_TOKEN is missing: runners could not connect.'] : []),
  ]
  if (problems.length > 0 || token === null)
    throw fail(
      'not-configured',
      `starting the bot:\n${problems.map(one => `  - ${one}`).join('\n')}`,
      config.botProblems.length > 0
        ? 'Set it up, with each answer tried: agent-swarm init'
        : 'Set it to the same on both, as of: openssl rand -hex 32. On one machine, agent-swarm up needs none.',
    )

  mkdirSync(config.home, { recursive: true, mode: 0o700 })
  chmodSync(config.home, 0o700)
  // Two would both publish what is to be said.
  if (show === null && (await findBot(config.home).catch(() => null)) !== null)
    throw fail(
      'busy',
      `starting the bot: another one runs with AGENT_SWARM_HOME ${config.home}`,
      'End that one first, or give this one a folder of its own.',
    )
  const store = openQueue(join(config.home, 'bot.db'), clock)
  const queue = show === null ? store : queueBeside(store, openQueue(join(config.home, 'bot.db'), clock, openCopy))
  const memory = openMemory(join(config.home, 'memory.db'), clock, show === null ? openStore : openCopy)
  const secrets = [...config.secrets, token]
  const jira = config.jira === null ? null : openJira(config.jira, show)
  let inbox: ReturnType<typeof openInbox> | null = null
  let publisher: ReturnType<typeof openPublisher> | null = null
  let github: GitHub | null = null

  const octokitFor = async (repo: string) => (await github?.clientFor(repo)) ?? null
  const { rulesOf, rulesOfTicket, changed } = openRepositoryRules({
    memory,
    standard: standardRules(config),
    clientFor: octokitFor,
    onProblems: repo => {
      queue.outbox.put(memory.ticketsOf(repo).map(statusMessage))
      publisher?.nudge()
    },
    clock,
    log,
  })
  const sources: Sources = {
    memory,
    queue,
    jira,
    rulesOf,
    clock,
    hasGitHub: config.github !== null,
    octokitFor,
  }
  const metrics = openMetrics({
    queue,
    runnersAlive: () => memory.runners().filter(one => one.connected).length,
    rate: () => github?.rate() ?? null,
    clock,
  })
  const runnerApi = openRunnerApi({
    queue,
    token,
    clock,
    metrics,
    ...openOutcomes({ memory, toJira: jira !== null, secrets, clock }),
    mayNotBegin: action => forkMoved(sources, action),
    onMessages: () => publisher?.nudge(),
    dryRun: show !== null,
    log,
  })
  const server = await openServer({
    host: config.host,
    port: config.port,
    github: app === null ? null : { secret: app.webhookSecret },
    jira: typeof config.jira?.webhookSecret === 'string' ? { secret: config.jira.webhookSecret } : null,
    lanes: { github: githubLane, jira: jiraLane },
    queue,
    runnerApi,
    metrics,
    clock,
    log,
    onAccepted: () => inbox?.nudge(),
  }).catch(error => {
    queue.close()
    memory.close()
    throw error
  })

  const decide = openDecide({ ...sources, rulesOfTicket, rulesChanged: changed })
  if (config.github !== null)
    github = await openGitHub(config.github, {
      log,
      decide: decide.github,
      installationOf: memory.installationOf,
      onInstallation: memory.setInstallation,
      onRepository: memory.nameRepository,
      show,
      // What is shown disturbs nobody.
      paced: show === null,
    })

  publisher = openPublisher({
    queue,
    memory,
    github,
    jira,
    webUrl: webUrlOf(config.github?.apiUrl ?? null),
    dryRun: show !== null,
    clock,
    log,
  })
  inbox = openInbox({
    queue,
    clock,
    log,
    busy: () => server.busy(),
    decide: async delivery => {
      if (delivery.source === 'jira') return decide.jira(delivery)
      if (delivery.source === 'clock') return decide.later(delivery)
      if (github === null) throw fail('not-configured', 'deciding a delivery of GitHub, which is not configured')
      return github.receive(delivery)
    },
    onSettled: ({ source, event, id }, { verdict, actions }) => {
      show?.({ what: 'delivery', source, event, id, ...verdict, actions })
      metrics.decided(source, event, verdict.verdict)
      runnerApi.dispatch()
      publisher?.nudge()
    },
  })

  const operator = await openOperator({ home: config.home, queue, memory, onReplay: () => inbox?.nudge(), log })

  // Wrong credentials are told now, not with the first event. What is only out of reach is tried again when it is needed.
  const warn = ({ message, remedy }: Failure) => log.warn({ remedy }, message)
  const asking = 'asking GitHub who we are'
  github?.login().catch(error => warn(githubFailure(error, asking, clock()).failure))
  jira?.me().catch(error => warn(failureOf(error, 'asking Jira who we are')))

  const tend = { noOverlap: true, unref: true, logger: { info() {}, debug() {}, warn() {}, error() {} } }
  const doing = (what: string, work: () => void) => () => {
    try {
      work()
    } catch (error) {
      log.error({ err: error }, what)
    }
  }
  const tasks = [
    cron.schedule(
      '17 * * * *',
      doing('forgetting what is old', () => {
        queue.purge(clock() - KEPT_MS.queue, KEPT_PAYLOADS)
        memory.purge(clock() - KEPT_MS.memory)
      }),
      tend,
    ),
  ]
  const accept = (deliveries: readonly Delivery[]) => {
    // A look finds again what the one before found: nobody sent it again.
    const fresh = deliveries.filter(one => !queue.taken(one))
    if (fresh.length === 0) return
    queue.accept(fresh)
    inbox?.nudge()
  }
  const everyMs = config.pollSeconds * 1000
  const polls: PollLoop[] = []
  const looks: (() => Promise<unknown>)[] = []
  if (github !== null) {
    const polled = config.github?.via === 'token'
    const poll = openGitHubPoll({
      ...{ github, memory, rulesOf, rulesChanged: changed, everyMs, clock, log, accept },
      parts: polled ? ['pushes', 'comments', 'pulls'] : ['pulls'],
    })
    if (polled) polls.push(openPollLoop('polling GitHub', poll.round, log))
    else looks.push(poll.round)
    looks.push(poll.compare)
  }
  if (jira !== null) {
    const { projects, assignees } = config
    const poll = openJiraPoll({ jira, projects, assignees, memory, everyMs, clock, log, accept })
    if (config.jira?.webhookSecret === null) polls.push(openPollLoop('polling Jira', poll.round, log))
    else looks.push(poll.round)
    looks.push(poll.compare)
  }
  const catchUp = openCatchUp({ github, looks, queue, memory, clock, log })
  const caughtUp = () => catchUp.round().catch(error => log.error({ err: error }, 'catching up'))
  tasks.push(cron.schedule(CATCH_UP, caughtUp, tend))
  caughtUp()

  let looked = Date.now()
  const tick = setInterval(
    doing('taking up what was put off', () => {
      const gap = Date.now() - looked
      looked += gap
      if (gap < 0 || gap > GAP_MS) {
        // What is scheduled would wait until the time of before comes again, or go one by one through what has passed.
        for (const task of tasks) {
          task.stop()
          task.start()
        }
        caughtUp()
      }
      for (const { ticket, event, at } of memory.planned(clock())) {
        queue.accept([clockDelivery(ticket, event, at)])
        memory.unplan(ticket)
        inbox?.nudge()
      }
    }),
    TICK_MS,
  )
  tick.unref()
  log.info({ url: server.url, github: github !== null, jira: jira !== null }, 'the bot is up')

  return {
    url: server.url,
    port: server.port,
    catchUp: catchUp.round,
    close: async () => {
      clearInterval(tick)
      for (const task of tasks) await task.stop()
      await Promise.all([
        ...[...polls, catchUp].map(one => one.close(CLOSE_MS)),
        server.close(),
        operator.close(),
        inbox?.close(CLOSE_MS),
        publisher?.close(),
      ])
      queue.close()
      memory.close()
    },
  }
}
