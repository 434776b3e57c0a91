/** Bot, runner and `up` as whole processes: started, killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { compiled } from '../support/cli.ts'
import { JIRA_SECRET, type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

vi.setConfig({ testTimeout: 300_000 })
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
  let stderr = ''
  child.stderr.on('data', chunk => {
    stderr += chunk
  })
  const address = () => stderr.match(/(?:listens on|takes work from) (http:[^\s,]+)/)?.[1]
  const url = await until(`${words[0]} to be up`, address)
  return { child, url, stderr: () => stderr }
}
const exitCode = (child: ChildProcess) => new Promise<number | null>(resolve => child.once('exit', resolve))
const end = async (child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL') => {
  const code = exitCode(child)
  child.kill(signal)
  return code
}
const noteOn = (ticket: string) =>
  until(`the machine of ${ticket}`, () => jira.comments(ticket).find(text => text.includes('has a machine')))
const machines = () => {
  try {
    return readdirSync(join(home, 'state', 'synthetic'))
  } catch {
    return []
  }
}

describe('up', () => {
  test('is healthy when GitHub and Jira cannot be reached, and ends when it is told to', async () => {
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'pkcs1', format: 'pem' },
    })
    const { child, url } = await start(['up'], {
      JIRA_HOST: 'http://127.0.0.1:9',
      GITHUB_API_URL: 'http://127.0.0.1:9',
      APP_ID: '7',
      PRIVATE_KEY: privateKey,
      WEBHOOK_SECRET: 'x-secret-of-16-characters',
      GITHUB_REPOSITORIES: 'acme/shop',
      NODE_ENV: 'production',
    })
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    // Probot has pages for its set-up, one of which takes credentials from anybody.
    for (const path of ['/probot', '/probot/setup', '/probot/import', '/probot/success'])
      for (const method of ['GET', 'POST'])
        expect([method, path, (await fetch(`${url}${path}`, { method })).status]).toEqual([method, path, 404])
    jira.sendTo(url)
    // Its messages cannot be published, and do not delay the end.
    expect(await jira.move('DROP-1', 'In Progress')).toBe(202)
    expect(await end(child, 'SIGTERM')).toBe(0)
  })

  test('continues where it was when it is killed (-9) and started again', async () => {
    const first = await start(['up'])
    jira.sendTo(first.url)
    await jira.move('DROP-1', 'In Progress')
    await noteOn('DROP-1')
    await jira.move('DROP-2', 'In Progress')
    await end(first.child, 'SIGKILL')
    const second = await start(['up'])
    jira.sendTo(second.url)
    await noteOn('DROP-2')
    expect(machines()).toHaveLength(2)
    // An action that was done has no second effect.
    expect(jira.comments('DROP-1')).toHaveLength(1)
  })

  test('has one id in its log from the delivery to the command on the hypervisor and to the comment', async () => {
    const { stderr, url } = await start(['up'], { LOG_LEVEL: 'debug' })
    jira.sendTo(url)
    await jira.move('DROP-1', 'In Progress')
    // The runner's last line and the bot's come in either order.
    await until('the comment', () => stderr().includes('"published"') && stderr().includes('"ended"'))
    const lines = stderr()
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line))
    const { correlation } = lines.find(line => line.msg === 'accepted')
    const messages = lines.filter(line => line.correlation === correlation).map(line => line.msg)
    // Without a pull request there is no status comment.
    expect([...new Set(messages)].filter(message => message !== 'nothing new to publish').sort()).toEqual(
      ['accepted', 'decided', 'leased', 'begins', 'phase', 'command', 'ended', 'outcome recorded', 'published'].sort(),
    )
    expect(lines.find(line => line.msg === 'command' && line.correlation === correlation)).toMatchObject({
      program: expect.any(String),
      argv: expect.any(String),
      exitCode: 0,
      ticket: 'DROP-1',
      kind: 'create',
    })
    expect(lines.every(line => line.body === undefined && line.payload === undefined)).toBe(true)
  })

  test('has no secret in its log', async () => {
    const { stderr, url } = await start(['up'], { LOG_LEVEL: 'trace' })
    jira.sendTo(url)
    await jira.move('DROP-1', 'In Progress')
    await noteOn('DROP-1')
    for (const secret of [JIRA_SECRET, jira.token, 'a-token-for-tests']) expect(stderr()).not.toContain(secret)
  })
})

describe('bot and runner apart', () => {
  test('when the bot is killed and started again, no accepted delivery is lost, and the runner continues', async () => {
    const first = await start(['bot'])
    const port = new URL(first.url).port
    jira.sendTo(first.url)
    for (const ticket of ['DROP-1', 'DROP-2']) expect(await jira.move(ticket, 'In Progress')).toBe(202)
    await end(first.child, 'SIGKILL')
    const runner = await start(['runner'], { AGENT_SWARM_BOT_URL: first.url })
    await until('why the runner has no work', () => /connect ECONNREFUSED 127\.0\.0\.1/.test(runner.stderr()))
    const second = await start(['bot'], { PORT: port })
    await until('its runner', () => second.stderr().includes('a runner is connected'))
    for (const ticket of ['DROP-1', 'DROP-2']) await noteOn(ticket)
    expect(machines()).toHaveLength(2)
  })

  test('when the runner is killed and started again, its actions are done, once', async () => {
    const bot = await start(['bot'])
    jira.sendTo(bot.url)
    const runner = await start(['runner'], { AGENT_SWARM_BOT_URL: bot.url })
    for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3']) await jira.move(ticket, 'In Progress')
    await end(runner.child, 'SIGKILL')
    await start(['runner'], { AGENT_SWARM_BOT_URL: bot.url })
    for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3']) await noteOn(ticket)
    expect(machines()).toHaveLength(3)
  })

  test('a runner with a wrong token gets no work, and logs why', async () => {
    const bot = await start(['bot'])
    const runner = await start(['runner'], {
      AGENT_SWARM_BOT_URL: bot.url,
      AGENT_SWARM_RUNNER_TOKEN: 'another-token-of-a-runner',
    })
    await until('the reason', () => runner.stderr().includes('AGENT_SWARM_RUNNER_TOKEN'))
    expect(await end(runner.child, 'SIGTERM')).toBe(0)
  })

  test('a command of the CLI beside them takes the same lock, and the bot learns of it', async () => {
    const up = await start(['up'])
    jira.sendTo(up.url)
    await jira.move('DROP-1', 'In Progress')
    await noteOn('DROP-1')
    const child = spawn(process.execPath, [entry, 'stop', 'DROP-1'], { env: environment(), stdio: 'ignore' })
    expect(await exitCode(child)).toBe(0)
    const metrics = await until('the bot to know', async () => {
      const text = await (await fetch(`${up.url}/metrics`)).text()
      return text.includes('agent_swarm_runners_alive 1') ? text : null
    })
    expect(metrics).toContain('agent_swarm_actions_total{kind="create",outcome="done"} 1')
  })
})
