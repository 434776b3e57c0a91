/** A whole bot between a GitHub, a Jira and a runner played by the test, in a folder of its own. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { startBot } from '../../src/bot/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import type { Environment } from '../../src/schema/environment.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import type { HeartbeatRequest } from '../../src/schema/runner-protocol.ts'
import type { ActionRow, Lease } from '../../src/store/port.ts'
import { openQueue } from '../../src/store/sqlite/queue.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

const TOKEN = 'token-between-runner-and-bot'

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
  before = async () => {},
}: {
  people: Parameters<typeof startGitHub>[0] extends { people?: infer P } | undefined ? P : never
  issues: Record<string, string>
  level?: string
  clock?: () => number
  /** More of the environment; null takes a variable away. */
  settings?: Settings | ((jira: JiraStandIn) => Settings)
  /** What there is before the bot is started for the first time. */
  before?: (github: GitHubStandIn, jira: JiraStandIn) => Promise<void>
}) => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-bot-'))
  const github: GitHubStandIn = await startGitHub({ ...(people === undefined ? {} : { people }) })
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
  const environment = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null))
  const config = await readConfig({}, environment as Record<string, string>)
  const log = openLog(level)
  let bot = await startBot(config, log, { clock })
  /** Those that are polled send nothing. */
  const introduce = () => {
    if (config.github?.via === 'app') github.sendTo(bot.url)
    if (config.jira?.webhookSecret !== null) jira.sendTo(bot.url)
  }
  introduce()
  // What it asks at its start is over: tests count requests.
  await bot.catchUp()
  // Looks at what is stored, and changes nothing.
  const queue = openQueue(join(home, 'bot.db'), Date.now)
  const db = new DatabaseSync(join(home, 'bot.db'), { readOnly: true })

  const runner = async (path: string, body: unknown): Promise<Response> =>
    fetch(new URL(`/runner/v1/${path}`, bot.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })

  const actionsOf = (ticket: string): ActionRow[] => queue.list({ ticket })
  return {
    github,
    jira,
    config,
    home,
    queue,
    url: () => bot.url,
    actionsOf,
    /** `create done`, `delete pending`, … in their order. */
    told: (ticket: string) => actionsOf(ticket).map(one => `${one.action.kind} ${one.state}`),
    /** What became of a delivery; waits for it. */
    verdict: (id: string): Promise<{ verdict: string; reason: string | null }> =>
      until(`a verdict on ${id}`, () => {
        const row = db.prepare('select verdict, reason from delivery where id = ? and verdict is not null').get(id)
        return row as { verdict: string; reason: string | null } | undefined
      }),
    /** All that came is decided. */
    decided: () => until('an empty inbox', () => queue.counts().inbox === 0),
    published: (within = 30_000) => until('an empty outbox', () => queue.counts().outbox === 0, { within }),
    postponed: () => db.prepare('select reason from delivery where verdict is null and attempt > 0').all(),
    heartbeat: (environments: Environment[], more: Partial<HeartbeatRequest> = {}) =>
      runner('heartbeat', {
        runnerId: 'runner-1',
        host: 'studio',
        version: '0.1.0',
        providers: [{ name: 'synthetic', live: true }],
        environments,
        ...more,
      }),
    /** Takes the next action and ends it with `outcome`. */
    work: async (outcome: (lease: Lease) => Outcome): Promise<Lease> => {
      const response = await runner('acquire', { runnerId: 'runner-1' })
      const lease = (await response.json()) as Lease
      const ended = outcome(lease)
      const { id, token } = lease
      await (ended.result === 'failed'
        ? runner('fail', { id, token, failure: ended.failure, retry: false, environment: ended.environment })
        : runner('complete', { id, token, outcome: ended }))
      return lease
    },
    /** The bot has looked for what it missed, and decided all of it. */
    caughtUp: async () => {
      await bot.catchUp()
      await until('an empty inbox', () => queue.counts().inbox === 0)
    },
    stopBot: () => bot.close(),
    startBot: async () => {
      bot = await startBot(config, log, { clock })
      introduce()
    },
    close: async () => {
      db.close()
      queue.close()
      await bot.close().catch(() => {})
      await Promise.all([github.stop(), jira.stop()])
      rmSync(home, { recursive: true, force: true })
    },
  }
}
