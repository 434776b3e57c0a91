/** A whole bot with a GitHub, a Jira and a runner that the test plays, in a home of its own. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startBot } from '../../src/bot/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import type { Environment } from '../../src/schema/environment.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import type { HeartbeatRequest, Lease, Offer } from '../../src/schema/runner-protocol.ts'
import type { ActionRow, Verdict } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import * as fixtures from '../store/fixtures.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

const TOKEN = 'token-between-runner-and-bot'
const offer: Offer = {
  ...fixtures.offer,
  providers: [{ name: 'synthetic', label: 'synthetic', live: true, images: null }],
  defaults: { ...fixtures.offer.defaults, provider: 'synthetic' },
}

export const environmentOf = (ticket: string, more: Partial<Environment> = {}): Environment => ({
  ticket,
  provider: 'synthetic',
  vmId: `as-${ticket.toLowerCase()}-1a2b3c4d`,
  ip: null,
  status: 'running',
  baseImage: 'agent-swarm-base',
  createdAt: '2026-11-24T09:00:00.000Z',
  createdBy: { via: 'cli', who: null },
  ssh: { host: '127.0.0.1', port: 2222, user: 'agent' },
  checkpoints: [],
  unsavedWork: null,
  observedAt: new Date().toISOString(),
  ...more,
})

type Settings = Record<string, string | null>
export type Stage = Awaited<ReturnType<typeof openStage>>

export const openStage = async ({
  people,
  issues,
  level = 'silent',
  clock = Date.now,
  settings = {},
  file = null,
  permissions = {},
  before = async () => {},
}: {
  people: Parameters<typeof startGitHub>[0] extends { people?: infer P } | undefined ? P : never
  issues: Record<string, string>
  level?: string
  clock?: () => number
  /** More of the environment; null takes a variable away. */
  settings?: Settings | ((jira: JiraStandIn) => Settings)
  /** The content of config.yaml. */
  file?: string | null
  /** Of the App, besides those of app.yml. */
  permissions?: Record<string, string>
  /** Runs before the bot starts for the first time. */
  before?: (github: GitHubStandIn, jira: JiraStandIn) => Promise<void>
}) => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-bot-'))
  const github: GitHubStandIn = await startGitHub({ ...(people === undefined ? {} : { people }), permissions })
  const jira: JiraStandIn = await startJira({ issues })
  await before(github, jira)
  const given: Record<string, string | null> = {
    AGENT_SWARM_HOME: home,
    ...github.settings,
    ...jira.settings,
    JIRA_PROJECTS: 'DROP',
    AGENT_SWARM_RUNNER_TOKEN: TOKEN,
    PORT: '0',
    AGENT_SWARM_POLL_SECONDS: '1',
    ...(typeof settings === 'function' ? settings(jira) : settings),
  }
  if (file !== null) writeFileSync(join(home, 'config.yaml'), file, { mode: 0o600 })
  const environment = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null))
  const config = await readConfig({}, environment as Record<string, string>)
  const log = openLog(level)
  let bot = await startBot(config, log, { clock })
  /** A side that is polled sends nothing. */
  const connect = () => {
    if (config.github?.via === 'app') github.sendTo(bot.url)
    if (config.jira?.webhookSecret !== null || config.jira.automationSecret !== null) jira.sendTo(bot.url)
  }
  connect()
  // Its requests at the start are over: tests count requests.
  await bot.catchUp()
  // Another connection to the same file.
  const store = openStore(join(home, 'bot.db'), clock)

  const runner = async (path: string, body: unknown): Promise<Response> =>
    fetch(new URL(`/runner/v1/${path}`, bot.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  const deliveries = () => store.inbox.list([], 1_000)
  const decided = () => until('an empty inbox', async () => (await store.counts()).inbox === 0)

  return {
    github,
    jira,
    config,
    home,
    store,
    url: () => bot.url,
    actionsOf: (ticket: string): Promise<ActionRow[]> => store.queue.list({ ticket }),
    /** `create done`, `delete pending`, … in their order. */
    states: async (ticket: string): Promise<string[]> =>
      (await store.queue.list({ ticket })).map(({ action, state }) => `${action.kind} ${state}`),
    /** How a delivery was decided; waits for it. */
    verdict: (id: string): Promise<{ verdict: Verdict; reason: string | null }> =>
      until(`a verdict on ${id}`, async () => {
        const row = (await deliveries()).find(delivery => delivery.id === id)
        return row === undefined || row.verdict === 'waiting' ? null : { verdict: row.verdict, reason: row.reason }
      }),
    /** Everything that arrived is decided. */
    decided,
    published: () => until('an empty outbox', async () => (await store.counts()).outbox === 0),
    /** The deliveries that could not be decided yet. */
    postponed: async () => (await deliveries()).filter(({ verdict, attempt }) => verdict === 'waiting' && attempt > 0),
    runner,
    heartbeat: (environments: Environment[], more: Partial<HeartbeatRequest> = {}) =>
      runner('heartbeat', fixtures.heartbeatOf(environments, { offer, ...more })),
    /** Takes the next action and ends it with `outcome`. */
    work: async (outcome: (lease: Lease) => Outcome | Promise<Outcome>): Promise<Lease> => {
      const response = await runner('acquire', { runnerId: 'runner-1', offer })
      const lease = (await response.json()) as Lease
      const ended = await outcome(lease)
      const { id, token } = lease
      await (ended.result === 'failed'
        ? runner('fail', { id, token, failure: ended.failure, retry: false, environment: ended.environment })
        : runner('complete', { id, token, outcome: ended }))
      return lease
    },
    /** The bot has looked for what it missed, and decided all of it. */
    caughtUp: async () => {
      await bot.catchUp()
      await decided()
    },
    stopBot: () => bot.close(),
    startBot: async () => {
      bot = await startBot(config, log, { clock })
      connect()
    },
    close: async () => {
      await store.close()
      await bot.close().catch(() => {})
      await Promise.all([github.stop(), jira.stop()])
      rmSync(home, { recursive: true, force: true })
    },
  }
}
