/** What doctor says of a bot: its accounts, whether it is reached, whether deliveries arrive, and what waits. */
import { utimesSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest'
import { startBot } from '../../src/bot/index.ts'
import type { Check } from '../../src/check.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { openRunnerContext } from '../../src/runner/context.ts'
import { lastHeartbeatAt } from '../../src/runner/last-heartbeat.ts'
import { startRunner } from '../../src/runner/runner.ts'
import { statusMessage } from '../../src/store/messages.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { openCli } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

const HOUR_MS = 60 * 60_000

let github: GitHubStandIn
let jira: JiraStandIn
let cli: ReturnType<typeof openCli>
beforeAll(async () => {
  github = await startGitHub()
  jira = await startJira({ issues: { 'DROP-1': 'To Do' } })
})
afterAll(async () => {
  await github.stop()
  await jira.stop()
})
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

type Environment = Record<string, string>
const asApp = (): Environment => ({ ...github.settings, ...jira.settings, JIRA_PROJECTS: 'DROP' })
const withToken = (): Environment => ({
  GITHUB_TOKEN: 'token-dev',
  GITHUB_REPOSITORIES: 'acme/shop',
  GITHUB_API_URL: github.url,
  JIRA_PROJECTS: 'DROP',
})
/** On a host without another hypervisor. The lines, and the remedy of each. */
const doctor = async (environment: Environment) => {
  const { code, stdout } = await cli.swarm(['doctor', '--json'], { PATH: '/nowhere', ...environment })
  const checks: Check[] = JSON.parse(stdout).checks
  for (const { status, text, remedy } of checks) if (status === 'error') expect(remedy, text).toMatch(/\w/)
  return {
    code,
    lines: checks.map(({ subject, status, text }) => `${status} ${subject}: ${text}`),
    remedyOf: (text: string) => checks.find(check => check.text.includes(text))?.remedy,
  }
}
const known = async (work: (store: Store) => Promise<unknown>, ageMs = 0) => {
  await cli.swarm(['list'])
  const store = openStore(join(cli.home, 'state', 'bot.db'), () => Date.now() - ageMs)
  await work(store)
  await store.close()
}

test('without a bot and a runner, nothing is said of them', async () => {
  const { code, lines } = await doctor({})
  expect(code).toBe(0)
  expect(lines.join('\n')).not.toMatch(/Bot|GitHub|Jira|Runner|Queue|Webhooks/)
})

test('a bot that is configured by half: everything missing is named', async () => {
  const { code, lines, remedyOf } = await doctor({ APP_ID: '1', JIRA_HOST: 'example.atlassian.net' })
  expect(code).toBe(1)
  for (const text of ['WEBHOOK_SECRET is missing', 'PRIVATE_KEY', 'JIRA_API_TOKEN is missing'])
    expect(lines.join('\n')).toContain(text)
  expect(remedyOf('WEBHOOK_SECRET')).toBe('agent-swarm init')
})

test('credentials that work, and some that do not', async () => {
  const good = await doctor({ ...withToken(), ...jira.settings })
  expect(good.lines).toEqual(
    expect.arrayContaining([
      'ok GitHub: signed in as dev with a token that has the scope repo',
      'ok GitHub: acme/shop can be read and written',
      expect.stringMatching(/^ok Jira: .* is signed in at/),
      'warning Bot: no bot runs with this home',
    ]),
  )
  const bad = await doctor({ ...withToken(), GITHUB_TOKEN: 'token-nobody', ...jira.settings, JIRA_API_TOKEN: 'wrong' })
  expect(bad.code).toBe(1)
  expect(bad.lines).toEqual(
    expect.arrayContaining([
      'error GitHub: GitHub does not know this token',
      expect.stringMatching(/^error Jira: .*(accepts|does not accept) this token/),
    ]),
  )
  expect(bad.lines.join('\n')).not.toContain('acme/shop')
})

test('a bot that runs: ready, reached at its public address, and known to GitHub', async () => {
  const config = await readConfig(
    {},
    cli.environment({ ...asApp(), PORT: '0', AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runner' }),
  )
  const bot = await startBot(config, openLog('silent'))
  onTestFinished(bot.close)
  github.sendTo(bot.url)
  await github.push('DROP-1-x')
  const environment = { ...asApp(), PORT: String(bot.port), AGENT_SWARM_PUBLIC_URL: bot.url }
  const { lines } = await doctor(environment)
  expect(lines.filter(line => line.startsWith('error'))).toEqual([])
  expect(lines).toEqual(
    expect.arrayContaining([
      `ok Bot: the bot runs, and is ready at ${bot.url}/readyz`,
      `ok Webhooks: ${bot.url}/api/github/webhooks leads to the bot`,
      `ok Webhooks: ${bot.url}/jira/webhook leads to the bot`,
      expect.stringMatching(/^ok GitHub: the last delivery of GitHub \(push, .*\) arrived/),
      expect.stringMatching(/^ok Queue: the newest delivery of GitHub came \d+ s ago$/),
      'warning Queue: no delivery of Jira ever arrived',
      'warning Queue: no runner is connected',
    ]),
  )
  github.lose('failed')
  await github.push('DROP-1-y')
  expect((await doctor(environment)).lines).toContainEqual(
    expect.stringMatching(/^error GitHub: the last delivery of GitHub \(push, .*\) did not arrive/),
  )
  github.lose(null)
})

test('an address that leads to something else, or nowhere', async () => {
  const page = createServer(
    (_, response) => void response.setHeader('content-type', 'text/html').end('<h1>Welcome</h1>'),
  )
  await new Promise<void>(resolve => page.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void page.close())
  const url = `http://127.0.0.1:${(page.address() as AddressInfo).port}`
  const { lines, remedyOf } = await doctor({ ...asApp(), AGENT_SWARM_PUBLIC_URL: url })
  expect(lines).toContain(`error Webhooks: ${url}/jira/webhook does not lead to the bot: it answers HTTP 200`)
  expect(remedyOf('does not lead')).toContain(`curl -i -X POST ${url}`)
  page.close()
  page.closeAllConnections()
  expect((await doctor({ ...asApp(), AGENT_SWARM_PUBLIC_URL: url })).lines).toContain(
    `warning Webhooks: ${url}/jira/webhook cannot be reached from this host`,
  )
})

test('what waits: actions that nobody takes, comments that cannot be published, deliveries that failed', async () => {
  const by = { via: 'jira' as const, who: null }
  await known(async store => {
    await store.inbox.accept([
      {
        source: 'jira',
        id: 'one',
        event: 'issue',
        lane: 'DROP-1',
        body: 'CANARY',
        receivedAt: Date.now() - 2 * HOUR_MS,
      },
      { source: 'github', id: 'two', event: 'push', lane: 'x', body: '{}', receivedAt: Date.now() - 2 * HOUR_MS },
    ])
    const [first, second] = await store.inbox.due(2)
    if (first === undefined || second === undefined) throw new Error('nothing is due')
    const nothing = { actions: [], messages: [], requests: [], effects: [] }
    await store.inbox.settle([{ seq: first.seq, verdict: 'failed', reason: 'it broke', ...nothing }])
    await store.inbox.postpone(second.seq, Date.now() + HOUR_MS, 'GitHub cannot be reached')
    // However many came after it.
    await store.inbox.accept(
      Array.from({ length: 300 }, (_, index) => ({
        ...{
          source: 'github' as const,
          id: `later-${index}`,
          event: 'push',
          lane: 'y',
          body: '{}',
          receivedAt: Date.now(),
        },
      })),
    )
    await store.queue.enqueue({
      id: 'a',
      correlation: 'one',
      action: { kind: 'stop', ticket: 'DROP-1', by, at: new Date().toISOString(), replyTo: null },
    })
    await store.outbox.put([statusMessage('DROP-1')])
  }, 2 * HOUR_MS)
  const { code, lines, remedyOf } = await doctor({ ...withToken(), ...jira.settings })
  expect(code).toBe(1)
  expect(lines).toEqual(
    expect.arrayContaining([
      'error Queue: 1 action waiting; the oldest is stop DROP-1, since 2 h ago',
      'warning Queue: 1 delivery failed for good, the newest 2 h ago',
      'warning Queue: 1 delivery could not be decided yet: GitHub cannot be reached',
      expect.stringMatching(/^warning Queue: 1 comment waiting to be published, the oldest since 2 h ago/),
    ]),
  )
  expect(remedyOf('failed for good')).toContain('agent-swarm bot inbox failed')
  expect(lines.join('\n')).not.toContain('CANARY')
})

test('a runner: its token, the bot that it asks, and its heartbeat', async () => {
  const token = 'the-token-of-the-runner'
  const config = await readConfig(
    {},
    {
      ...cli.environment({ ...withToken(), PORT: '0', AGENT_SWARM_RUNNER_TOKEN: token }),
      AGENT_SWARM_HOME: join(cli.home, 'bot'),
    },
  )
  const bot = await startBot(config, openLog('silent'))
  let isClosed = false
  const close = async () => {
    if (!isClosed) await bot.close()
    isClosed = true
  }
  onTestFinished(close)
  const runner = { AGENT_SWARM_BOT_URL: bot.url, AGENT_SWARM_RUNNER_TOKEN: token }
  expect((await doctor(runner)).lines).toEqual(
    expect.arrayContaining([
      'ok Runner: the runner has a token',
      `ok Runner: the bot at ${bot.url} answers and knows this token, which no runner has used yet`,
      'warning Runner: no runner runs with this home; the bot has accepted no heartbeat of it yet',
    ]),
  )
  const context = openRunnerContext(await readConfig({}, cli.environment(runner)))
  const running = await startRunner(context, { botUrl: bot.url, token, version: '1', log: openLog('silent') })
  onTestFinished(async () => {
    await running.close()
    context.close()
  })
  await until('a heartbeat', () => lastHeartbeatAt(context.home) !== null)
  expect((await doctor(runner)).lines).toEqual(
    expect.arrayContaining([
      `ok Runner: the bot at ${bot.url} answers, knows this token and speaks this protocol`,
      expect.stringMatching(/^ok Runner: the runner runs: the bot accepted its heartbeat \d+ s ago$/),
    ]),
  )
  // It runs on, and nobody hears it.
  const long = new Date(Date.now() - HOUR_MS)
  utimesSync(join(context.home, 'runner-heard'), long, long)
  expect((await doctor(runner)).lines).toContainEqual(
    'error Runner: the runner runs, but the bot accepted its heartbeat 1 h ago',
  )
  const future = new Date(Date.now() + HOUR_MS)
  utimesSync(join(context.home, 'runner-heard'), future, future)
  expect((await doctor(runner)).lines).toContainEqual(expect.stringMatching(/^error Runner: the runner runs, but /))
  const unknown = await doctor({ ...runner, AGENT_SWARM_RUNNER_TOKEN: 'another-token-of-nobody' })
  expect(unknown.code).toBe(1)
  expect(unknown.remedyOf('refuses')).toContain('agent-swarm bot runner add')
  expect((await doctor({ ...runner, AGENT_SWARM_RUNNER_TOKEN: 'short' })).lines).toContain(
    'error Runner: AGENT_SWARM_RUNNER_TOKEN has 5 characters, and needs 16',
  )
  await close()
  expect((await doctor(runner)).lines).toContainEqual(
    expect.stringMatching(/^error Runner: the bot at .* cannot be reached/),
  )
})
