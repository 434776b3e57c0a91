/** Bot, runner and `up` as whole processes: started, killed, started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { compiled } from '../support/cli.ts'
import { JIRA_SECRET, type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
let home: string
let jira: JiraStandIn
let running: ChildProcess[]
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-processes-'))
  jira = await startJira({ issues: { 'DROP-1': 'one', 'DROP-2': 'two', 'DROP-3': 'three' } })
  running = []
})
afterEach(async () => {
  for (const child of running) child.kill('SIGKILL')
  await jira.stop()
  rmSync(home, { recursive: true, force: true })
})

const environment = (more: Record<string, string> = {}) => ({
  PATH: process.env.PATH,
  HOME: home,
  AGENT_SWARM_HOME: join(home, 'state'),
  AGENT_SWARM_PROVIDER: 'synthetic',
  ...compiled,
  AGENT_SWARM_RUNNER_TOKEN: 'a-token-for-tests',
  PORT: '0',
  ...jira.settings,
  JIRA_PROJECTS: 'DROP',
  ...more,
})
const start = async (words: string[], more: Record<string, string> = {}) => {
  const child = spawn(process.execPath, [entry, ...words], {
    env: environment(more),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  running.push(child)
  let said = ''
  child.stderr.on('data', chunk => {
    said += chunk
  })
  const began = performance.now()
  const url = await until(`${words[0]} to be up`, () => said.match(/(?:listens on|asks) (http:[^\s,]+)/)?.[1])
  const upAfter = performance.now() - began
  return { child, url, upAfter, said: () => said }
}
const ended = (child: ChildProcess) =>
  new Promise<{ code: number | null; milliseconds: number }>(done => {
    const began = performance.now()
    child.once('exit', code => done({ code, milliseconds: performance.now() - began }))
  })
const kill = async (child: ChildProcess) => {
  const gone = ended(child)
  child.kill('SIGKILL')
  await gone
}
const machines = () => {
  try {
    return readdirSync(join(home, 'state', 'synthetic'))
  } catch {
    return []
  }
}

describe('up', () => {
  test('is healthy though GitHub and Jira cannot be reached, and ends in time', async () => {
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'pkcs1', format: 'pem' },
    })
    const { child, url, upAfter } = await start(['up'], {
      JIRA_HOST: 'http://127.0.0.1:9',
      GITHUB_API_URL: 'http://127.0.0.1:9',
      APP_ID: '7',
      PRIVATE_KEY: privateKey,
      WEBHOOK_SECRET: 'x-secret',
      NODE_ENV: 'production',
    })
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    expect(upAfter).toBeLessThan(10_000)
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    // Probot's pages for setting up, of which one takes credentials from anybody, are not there.
    for (const path of ['/probot', '/probot/setup', '/probot/import', '/probot/success'])
      for (const method of ['GET', 'POST'])
        expect([method, path, (await fetch(`${url}${path}`, { method })).status]).toEqual([method, path, 404])
    jira.sendTo(url)
    // What is to be published has nowhere to go, and keeps nobody.
    expect(await jira.move('DROP-1', 'In Progress')).toBe(202)
    const gone = ended(child)
    child.kill('SIGTERM')
    const { code, milliseconds } = await gone
    expect(code).toBe(0)
    expect(milliseconds).toBeLessThan(8_000)
  })

  test('killed (-9) and started again, it goes on where it was', async () => {
    const first = await start(['up'])
    jira.sendTo(first.url)
    await jira.move('DROP-1', 'In Progress')
    await until('the first machine', () => jira.comments('DROP-1')[0])
    await jira.move('DROP-2', 'In Progress')
    await kill(first.child)
    const second = await start(['up'])
    jira.sendTo(second.url)
    await until('the second machine', () => jira.comments('DROP-2')[0], { within: 25_000 })
    expect(machines()).toHaveLength(2)
    // A retry of what was done does nothing again.
    expect(jira.comments('DROP-1')).toHaveLength(1)
  }, 40_000)

  test('one id leads through its log, from the delivery to the command on the hypervisor and to the comment', async () => {
    const { said, url } = await start(['up'], { LOG_LEVEL: 'debug' })
    jira.sendTo(url)
    await jira.move('DROP-1', 'In Progress')
    // The runner's last line and the bot's come in either order.
    await until('the comment', () => said().includes('"published"') && said().includes('"ended"'))
    const lines = said()
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line))
    const { correlation } = lines.find(line => line.msg === 'accepted')
    const way = lines.filter(line => line.correlation === correlation).map(line => line.msg)
    // No pull request is there that its status could stand on.
    expect([...new Set(way)].filter(one => one !== 'nothing new to publish').sort()).toEqual(
      ['accepted', 'decided', 'leased', 'begins', 'phase', 'command', 'ended', 'has its outcome', 'published'].sort(),
    )
    expect(lines.find(line => line.msg === 'command')).toMatchObject({
      program: expect.any(String),
      argv: expect.any(String),
      exitCode: 0,
      ticket: 'DROP-1',
      kind: 'create',
    })
    expect(lines.every(line => line.body === undefined && line.payload === undefined)).toBe(true)
  })

  test('a secret is in no line of its log', async () => {
    const { said, url } = await start(['up'], { LOG_LEVEL: 'trace' })
    jira.sendTo(url)
    await jira.move('DROP-1', 'In Progress')
    await until('the machine', () => jira.comments('DROP-1')[0])
    for (const secret of [JIRA_SECRET, jira.token, 'a-token-for-tests']) expect(said()).not.toContain(secret)
  })
})

describe('bot and runner apart', () => {
  test('the bot dies and comes back: nothing that was accepted is lost, and the runner goes on', async () => {
    const first = await start(['bot'])
    const port = new URL(first.url).port
    jira.sendTo(first.url)
    for (const ticket of ['DROP-1', 'DROP-2']) expect(await jira.move(ticket, 'In Progress')).toBe(202)
    await kill(first.child)
    const runner = await start(['runner'], { AGENT_SWARM_BOT_URL: first.url })
    await until('why it has no work', () =>
      /no work from the bot: [^"]*: fetch failed: connect ECONNREFUSED 127\.0\.0\.1/.test(runner.said()),
    )
    const second = await start(['bot'], { PORT: port })
    await until('its runner is told', () => second.said().includes('a runner is here'))
    for (const ticket of ['DROP-1', 'DROP-2'])
      await until(`the machine of ${ticket}`, () => jira.comments(ticket)[0], { within: 25_000 })
    expect(machines()).toHaveLength(2)
  }, 40_000)

  test('the runner dies and comes back: what it was given is done, once', async () => {
    const bot = await start(['bot'])
    jira.sendTo(bot.url)
    const runner = await start(['runner'], { AGENT_SWARM_BOT_URL: bot.url })
    for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3']) await jira.move(ticket, 'In Progress')
    await kill(runner.child)
    await start(['runner'], { AGENT_SWARM_BOT_URL: bot.url })
    for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3'])
      await until(`the machine of ${ticket}`, () => jira.comments(ticket)[0], { within: 30_000 })
    expect(machines()).toHaveLength(3)
  }, 45_000)

  test('a runner with a wrong token gets nothing, and says why', async () => {
    const bot = await start(['bot'])
    const runner = await start(['runner'], { AGENT_SWARM_BOT_URL: bot.url, AGENT_SWARM_RUNNER_TOKEN: 'another-token' })
    await until('a word about it', () =>
      runner.said().includes('AGENT_SWARM_RUNNER_TOKEN is not the one that the bot knows'),
    )
    const gone = ended(runner.child)
    runner.child.kill('SIGTERM')
    expect(await gone).toMatchObject({ code: 0 })
  })

  test('what the CLI does beside them reaches the bot, and the lock is one', async () => {
    const up = await start(['up'])
    jira.sendTo(up.url)
    await jira.move('DROP-1', 'In Progress')
    await until('the machine', () => jira.comments('DROP-1')[0])
    const child = spawn(process.execPath, [entry, 'stop', 'DROP-1'], { env: environment(), stdio: 'ignore' })
    expect(await ended(child)).toMatchObject({ code: 0 })
    const metrics = await until('the bot to know', async () => {
      const text = await (await fetch(`${up.url}/metrics`)).text()
      return text.includes('agent_swarm_runners_alive 1') ? text : null
    })
    expect(metrics).toContain('agent_swarm_actions_total{kind="create",outcome="done"} 1')
  })
})
