import { spawn } from 'node:child_process'
import { mkdtempSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { startBot } from '../../src/bot/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import type { Environment } from '../../src/schema/environment.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import type { Lease } from '../../src/store/port.ts'
import { compiled } from '../support/cli.ts'
import { WEBHOOK_SECRET } from '../support/github.ts'
import { until } from '../support/wait.ts'
import { environmentOf, openStage, type Stage } from './stage.ts'

let stage: Stage
beforeAll(async () => {
  stage = await openStage({
    people: { dev: 'push', mallory: 'pull' },
    issues: { 'DROP-1': 'one', 'DROP-2': 'two', 'DROP-3': 'three' },
  })
})
afterAll(() => stage.close())

const done = (environment: Environment | null, said: string) => (): Outcome => ({
  result: 'done',
  summary,
  environment,
  seconds: 1.5,
})
const ours = async (number: number) =>
  (await stage.github.comments(number)).filter(one => one.body.startsWith('<!-- agent-swarm'))
const comment = (number: number, ...parts: string[]) =>
  until(
    `a comment with ${parts.join(' and ')}`,
    async () => (await ours(number)).find(one => parts.every(part => one.body.includes(part))),
    { within: 20_000 },
  )

// One story, told in the order in which it happens: GitHub lets a bot write a comment every 3 s.
test('a ticket from In Progress to the merge, with every word that is said about it', async () => {
  const running = environmentOf('DROP-1')
  await stage.heartbeat([])

  await stage.jira.move('DROP-1', 'In Progress')
  const create = await stage.work(done(running, 'DROP-1 has a machine: as-drop-1-1a2b3c4d on synthetic'))
  expect(create.action.kind).toBe('create')
  const told = await until('the Jira comment', () => stage.jira.comments('DROP-1')[0])
  expect(told).toContain('agent-swarm ssh DROP-1')
  expect(told).toContain(
    'ssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes -p 2222 agent@127.0.0.1',
  )
  expect(told).toContain('synthetic: no real machine')

  const commit = await stage.github.push('drop-1-login')
  const pushed = await stage.work(() => ({ result: 'skipped', reason: 'it is tried elsewhere', environment: running }))
  expect(pushed.action).toMatchObject({ kind: 'checkpoint', name: `push-${commit.slice(0, 7)}`, why: 'push' })
  const number = await stage.github.open('drop-1-login', 'Log in')
  const status = await comment(number, '### DROP-1: running', 'agent-swarm ssh DROP-1')
  const [link] = await until('the link in Jira', () =>
    stage.jira.links('DROP-1').length > 0 ? stage.jira.links('DROP-1') : null,
  )
  expect(link).toMatchObject({ relationship: 'pull request', object: { title: `${stage.github.repo}#${number}` } })
  expect(status.authorType).toBe('Bot')

  // Who may only read is not even answered, and a planted marker is not ours.
  const planted = await stage.github.comment(
    number,
    '<!-- agent-swarm:status:DROP-1 -->\nsend me your keys\n\n/swarm delete',
    'mallory',
  )
  const commentId = await stage.github.comment(number, '/swarm checkpoint before\n/swarm fly')
  await until('the eyes', () => stage.github.reactions(commentId).includes('eyes'))
  const checkpoint = await stage.work(
    done(
      {
        ...running,
        checkpoints: [
          {
            name: 'before',
            why: 'command',
            commit: null,
            createdAt: '2026-11-24T09:30:00.000Z',
            withMemory: false,
            sizeBytes: null,
          },
        ],
        observedAt: new Date().toISOString(),
      },
      'checkpoint before of DROP-1 is made',
    ),
  )
  expect(checkpoint.action).toMatchObject({ kind: 'checkpoint', name: 'before', why: 'command' })
  await comment(number, '/swarm checkpoint before', 'checkpoint before of DROP-1 is made. It took 1.5 s.', 'fly')
  await comment(number, '### DROP-1: running', '| `before` |', '`checkpoint before`, asked for on GitHub by `dev`')
  await until('the end', () => stage.github.reactions(commentId).includes('confused'))
  expect(stage.github.reactions(planted)).toEqual([])

  // What somebody does by the CLI comes with the heartbeat.
  await stage.heartbeat([{ ...running, status: 'stopped', ssh: null, observedAt: new Date().toISOString() }])
  await comment(number, '### DROP-1: stopped')

  await stage.github.merge(number)
  const merged = await stage.work(done(null, 'DROP-1 is deleted'))
  expect(merged.action).toMatchObject({ kind: 'delete', force: false })
  await comment(number, '### DROP-1: deleted')
  await stage.published()
  expect(stage.jira.links('DROP-1')).toMatchObject([
    { object: { summary: 'drop-1-login (merged)', status: { resolved: true } } },
  ])
  // One status, one reply, and what mallory wrote, as it was.
  const all = await stage.github.comments(number)
  expect(all.map(one => one.authorType)).toEqual(['Bot', 'User', 'User', 'Bot'])
  expect(all[1]?.body).toContain('send me your keys')
  expect(stage.jira.comments('DROP-1')).toHaveLength(1)

  await stage.jira.move('DROP-1', 'In Review')
  await stage.decided()
  expect(stage.told('DROP-1').filter(one => one.startsWith('create'))).toEqual(['create done'])
}, 60_000)

test('a command that waits for a runner is told so, and what is unpublished when the bot ends is published later', async () => {
  await stage.github.push('drop-2')
  const number = await stage.github.open('drop-2', 'two')
  const gateway = { status: 503 }
  stage.github.faults.push(
    ...Array.from({ length: 3 }, () => ({ match: /^POST .*\/(comments|reactions)$/, answer: gateway })),
  )
  // A create of Jira is before it.
  await stage.jira.move('DROP-2', 'In Progress')
  await stage.decided()
  await stage.github.comment(number, '/swarm status')
  await stage.decided()
  expect(stage.queue.counts().outbox).toBeGreaterThan(0)
  const began = performance.now()
  await stage.stopBot()
  expect(performance.now() - began).toBeLessThan(6_000)
  stage.github.faults.length = 0
  await stage.startBot()
  await stage.heartbeat([])
  await comment(number, '`/swarm status`', 'It waits for `create`, which waits too.')
  expect(await ours(number)).toHaveLength(1)
}, 60_000)

test('a failed create, and work that keeps a machine, are told in Jira', async () => {
  const failed =
    (kind: 'capacity' | 'unsaved-work', message: string) =>
    (_lease: Lease): Outcome => ({
      result: 'failed',
      failure: { kind, message, remedy: 'Look after it.' },
      environment: null,
    })
  const create = await stage.work(failed('capacity', `creating DROP-2: no room for ${stage.jira.token}`))
  expect(create.action).toMatchObject({ kind: 'create', ticket: 'DROP-2' })
  const words = () => stage.jira.comments('DROP-2').join('\n')
  await until('the word in Jira', () => words().includes('creating DROP-2: no room for [redacted]'))
  expect(words()).toContain('What helps: Look after it.')
})

const lines = () => {
  const written: string[] = []
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(line => written.push(String(line)) > 0)
  onTestFinished(() => write.mockRestore())
  return written
}

test('no payload and no secret comes into the log or a comment, not even by an error', async () => {
  const written = lines()
  const other = await openStage({ people: { dev: 'push' }, issues: {}, level: 'debug' })
  const secret = WEBHOOK_SECRET
  const log = openLog('debug', [secret])
  await other.stopBot()
  const bot = await startBot(other.config, log)
  other.github.sendTo(bot.url)
  await other.github.push('drop-9')
  const number = await other.github.open('drop-9', 'nine of Lothlorien')
  // The app throws on the event, with all that Octokit's error carries.
  other.github.faults.push({ match: /permission/, answer: { status: 500, body: { message: `oh: ${secret}` } } })
  await other.github.comment(number, '/swarm status')
  await until('the trouble in the log', () => written.join('').includes('reading what dev may do'))
  await bot.close()
  await other.close()
  const all = written.join('')
  expect(all).toContain('[redacted]')
  for (const hidden of ['Lothlorien', secret, 'token-between', 'bearer', 'Bearer', 'ghs_'])
    expect(all).not.toContain(hidden)
  expect(Math.max(...written.map(line => line.length))).toBeLessThan(6_000)
}, 60_000)

const settings = (home: string, more: Record<string, string> = {}) => ({
  AGENT_SWARM_HOME: home,
  JIRA_HOST: 'http://127.0.0.1:1',
  JIRA_EMAIL: 'dev@example.org',
  JIRA_API_TOKEN: 'jira-token',
  JIRA_PROJECTS: 'DROP',
  JIRA_WEBHOOK_SECRET: 'a secret',
  PORT: '0',
  ...more,
})
const homeOf = () => join(mkdtempSync(join(tmpdir(), 'agent-swarm-bot-')), 'home')

test('with GitHub and Jira out of reach the bot is healthy all the same, and ends in time', async () => {
  // Takes every connection, and never answers.
  const hole = createServer(() => {}).listen(0, '127.0.0.1')
  onTestFinished(() => void hole.close())
  await until('the hole', () => hole.listening)
  const address = hole.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const home = homeOf()
  const config = await readConfig(
    {},
    settings(home, {
      APP_ID: '7',
      PRIVATE_KEY: stage.github.app.privateKey,
      WEBHOOK_SECRET: 'a secret',
      GITHUB_API_URL: `http://127.0.0.1:${port}`,
      JIRA_HOST: `http://127.0.0.1:${port}`,
    }),
  )
  const began = performance.now()
  const bot = await startBot(config, openLog('silent'), { runnerToken: 'token' })
  expect((await fetch(`${bot.url}/healthz`)).status).toBe(200)
  expect((await fetch(`${bot.url}/readyz`)).status).toBe(200)
  expect(performance.now() - began).toBeLessThan(10_000)
  expect(statSync(home).mode & 0o777).toBe(0o700)
  const ending = performance.now()
  await bot.close()
  expect(performance.now() - ending).toBeLessThan(6_000)
})

test('a bot that is killed with a comment posted and not noted posts no second one', async () => {
  const { github } = stage
  const home = homeOf()
  const environment = settings(home, {
    PATH: process.env.PATH ?? '',
    ...compiled,
    APP_ID: String(github.app.id),
    PRIVATE_KEY: github.app.privateKey,
    WEBHOOK_SECRET,
    GITHUB_API_URL: github.url,
    AGENT_SWARM_RUNNER_TOKEN: 'token-of-another-bot',
  })
  const start = async () => {
    const child = spawn(process.execPath, ['bin/agent-swarm.js', 'bot'], { env: environment })
    onTestFinished(() => void child.kill('SIGKILL'))
    let said = ''
    child.stderr.on('data', chunk => {
      said += chunk
    })
    const url = await until('the bot', () => said.match(/listens on (http\S+)/)?.[1])
    return { child, url }
  }
  const first = await start()
  github.sendTo(first.url)
  await fetch(`${first.url}/runner/v1/heartbeat`, {
    method: 'POST',
    headers: { authorization: 'Bearer token-of-another-bot', 'content-type': 'application/json' },
    body: JSON.stringify({
      runnerId: 'runner-1',
      host: 'studio',
      version: '0.1.0',
      providers: [],
      environments: [environmentOf('DROP-3')],
    }),
  })
  github.faults.push({ match: /^POST .*\/issues\/\d+\/comments$/, answer: 'do-and-cut' })
  await github.push('drop-3')
  const number = await github.open('drop-3', 'three')
  await until('the first post', async () => (await ours(number)).length > 0)
  first.child.kill('SIGKILL')
  await until('its end', () => first.child.signalCode)
  const asked = github.asked.length
  const second = await start()
  github.sendTo(second.url)
  await until('the edit', () =>
    github.asked.slice(asked).some(one => one.method === 'PATCH' && one.path.includes('/issues/comments/')),
  )
  expect(await ours(number)).toHaveLength(1)
  second.child.kill('SIGTERM')
  await until('the end', () => second.child.exitCode === 0)
}, 60_000)

test.for([
  ['a runner token', settings(homeOf()), 'AGENT_SWARM_RUNNER_TOKEN is missing'],
  [
    'a webhook secret that is not empty',
    settings(homeOf(), { AGENT_SWARM_RUNNER_TOKEN: 'token', JIRA_WEBHOOK_SECRET: '' }),
    'JIRA_WEBHOOK_SECRET is empty',
  ],
] as [string, Record<string, string>, string][])('the bot does not start without %s', async ([, environment, said]) => {
  const config = await readConfig({}, environment)
  await expect(startBot(config, openLog('silent'))).rejects.toMatchObject({
    failure: {
      ...{ kind: 'not-configured', message: expect.stringContaining(said) },
      // A set-up asks for no runner token.
      remedy: expect.stringContaining(said.includes('RUNNER') ? 'openssl rand -hex 32' : 'agent-swarm init'),
    },
  })
})

test('a machine that slept for weeks, or whose clock is set back, goes on at once', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
  const own = await openStage({ people: { dev: 'push' }, issues: { 'DROP-1': 'one' } })
  onTestFinished(() => own.close())
  const looks = () => own.github.asked.filter(one => one.path.includes('/app/hook/deliveries')).length
  let longest = 0
  let last = performance.now()
  const watch = setInterval(() => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }, 20)
  onTestFinished(() => clearInterval(watch))
  const pull = await own.github.open('DROP-1-x', 'One')
  for (const days of [20, -20]) {
    const before = looks()
    vi.setSystemTime(Date.now() + days * 24 * 60 * 60_000)
    await until('a look for what was missed', () => looks() > before, { within: 15_000 })
    // What paces our writes goes by the clock as well.
    const asked = await own.github.comment(pull, '/swarm help')
    await until('the answer', () => own.github.reactions(asked).includes('rocket'), { within: 15_000 })
  }
  expect(longest).toBeLessThan(5_000)
}, 40_000)
