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
import type { Lease } from '../../src/schema/runner-protocol.ts'
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

const done = (environment: Environment | null, summary: string) => (): Outcome => ({
  result: 'done',
  summary,
  environment,
  seconds: 1.5,
})
const ours = async (number: number) =>
  (await stage.github.comments(number)).filter(({ body }) => body.startsWith('<!-- agent-swarm'))
const comment = (number: number, ...parts: string[]) =>
  until(`a comment with ${parts.join(' and ')}`, async () =>
    (await ours(number)).find(({ body }) => parts.every(part => body.includes(part))),
  )

// One story in the order in which it happens: Octokit lets a bot write a comment every 3 s.
test('a ticket from In Progress to the merge, with everything that is published about it', async () => {
  const running = environmentOf('DROP-1')
  await stage.heartbeat([])

  await stage.jira.move('DROP-1', 'In Progress')
  const create = await stage.work(done(running, 'DROP-1 has a machine: as-drop-1-1a2b3c4d on synthetic'))
  expect(create.action.kind).toBe('create')
  const note = await until('the note in Jira', () => stage.jira.comments('DROP-1')[0])
  expect(note).toContain('agent-swarm ssh DROP-1')
  expect(note).toContain(
    'ssh -i ~/.agent-swarm/ssh/login/key -o IdentitiesOnly=yes -o HostKeyAlias=as-drop-1-1a2b3c4d -o UserKnownHostsFile=~/.agent-swarm/ssh/as-drop-1-1a2b3c4d.known_hosts -o StrictHostKeyChecking=yes -p 2222 agent@127.0.0.1',
  )
  expect(note).toContain('synthetic: no real machine')

  const commit = await stage.github.push('drop-1-login')
  const pushed = await stage.work(() => ({ result: 'skipped', reason: 'tested elsewhere', environment: running }))
  expect(pushed.action).toMatchObject({ kind: 'checkpoint', name: `push-${commit.slice(0, 7)}`, why: 'push' })
  const number = await stage.github.open('drop-1-login', 'Log in')
  const status = await comment(number, '### DROP-1: running', 'agent-swarm ssh DROP-1')
  const [link] = await until('the link in Jira', () =>
    stage.jira.links('DROP-1').length > 0 ? stage.jira.links('DROP-1') : null,
  )
  expect(link).toMatchObject({ relationship: 'pull request', object: { title: `${stage.github.repo}#${number}` } })
  expect(status.authorType).toBe('Bot')

  // Someone who may only read gets no answer, and a planted marker is not ours.
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
      'Made checkpoint before of DROP-1',
    ),
  )
  expect(checkpoint.action).toMatchObject({ kind: 'checkpoint', name: 'before', why: 'command' })
  await comment(number, '/swarm checkpoint before', 'Made checkpoint before of DROP-1. It took 1.5 s.', 'fly')
  await comment(number, '### DROP-1: running', '| `before` |', '`checkpoint before`, command by `dev`')
  await until('the end', () => stage.github.reactions(commentId).includes('confused'))
  expect(stage.github.reactions(planted)).toEqual([])

  // A change by the CLI arrives with a heartbeat.
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
  // One status, one reply, and mallory's comment as it was.
  const all = await stage.github.comments(number)
  expect(all.map(({ authorType }) => authorType)).toEqual(['Bot', 'User', 'User', 'Bot'])
  expect(all[1]?.body).toContain('send me your keys')
  // The machine, and its delete.
  expect(stage.jira.comments('DROP-1')).toHaveLength(2)
  expect(stage.jira.comments('DROP-1')[1]).toContain('There was no unsaved work.')

  await stage.jira.move('DROP-1', 'In Review')
  await stage.decided()
  expect((await stage.states('DROP-1')).filter(state => state.startsWith('create'))).toEqual(['create done'])
})

test('a command that waits gets a reply, and what is unpublished when the bot ends is published later', async () => {
  await stage.github.push('drop-2')
  const number = await stage.github.open('drop-2', 'two')
  const gateway = { status: 503 }
  stage.github.faults.push(
    ...Array.from({ length: 3 }, () => ({ match: /^POST .*\/(comments|reactions)$/, answer: gateway })),
  )
  // A create of Jira comes before it.
  await stage.jira.move('DROP-2', 'In Progress')
  await stage.decided()
  await stage.github.comment(number, '/swarm status')
  await stage.decided()
  expect((await stage.store.counts()).outbox).toBeGreaterThan(0)
  await stage.stopBot()
  stage.github.faults.length = 0
  await stage.startBot()
  await stage.heartbeat([])
  await comment(number, '`/swarm status`', 'Waiting for `create`, which is waiting too.')
  expect(await ours(number)).toHaveLength(1)
})

test('a failed create is reported in Jira, without secrets', async () => {
  const failed = (_lease: Lease): Outcome => ({
    result: 'failed',
    failure: {
      kind: 'capacity',
      message: `creating DROP-2: no room for ${stage.jira.token}`,
      remedy: 'Stop another machine.',
    },
    environment: null,
  })
  const create = await stage.work(failed)
  expect(create.action).toMatchObject({ kind: 'create', ticket: 'DROP-2' })
  const notes = () => stage.jira.comments('DROP-2').join('\n')
  await until('the note in Jira', () => notes().includes('creating DROP-2: no room for [redacted]'))
  expect(notes()).toContain('Stop another machine.')
})

const logged = () => {
  const written: string[] = []
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(line => written.push(String(line)) > 0)
  onTestFinished(() => write.mockRestore())
  return written
}

test('no payload and no secret gets into the log, not even with an error', async () => {
  const written = logged()
  const other = await openStage({ people: { dev: 'push' }, issues: {}, level: 'debug' })
  const secret = WEBHOOK_SECRET
  const log = openLog('debug', [secret])
  await other.stopBot()
  const bot = await startBot(other.config, log)
  other.github.sendTo(bot.url)
  await other.github.push('drop-9')
  const number = await other.github.open('drop-9', 'nine of Lothlorien')
  // Octokit's error carries the whole request.
  other.github.faults.push({ match: /permission/, answer: { status: 500, body: { message: `oh: ${secret}` } } })
  await other.github.comment(number, '/swarm status')
  await until('the failure in the log', () => written.join('').includes('reading the permission of dev'))
  await bot.close()
  await other.close()
  const all = written.join('')
  expect(all).toContain('[redacted]')
  for (const hidden of ['Lothlorien', secret, 'token-between', 'bearer', 'Bearer', 'ghs_'])
    expect(all).not.toContain(hidden)
  expect(Math.max(...written.map(line => line.length))).toBeLessThan(6_000)
})

const settings = (home: string, more: Record<string, string> = {}) => ({
  AGENT_SWARM_HOME: home,
  JIRA_HOST: 'http://127.0.0.1:1',
  JIRA_EMAIL: 'dev@example.org',
  JIRA_API_TOKEN: 'jira-token',
  JIRA_PROJECTS: 'DROP',
  JIRA_WEBHOOK_SECRET: 'a secret of 16 characters',
  PORT: '0',
  ...more,
})
const homeOf = () => join(mkdtempSync(join(tmpdir(), 'agent-swarm-bot-')), 'home')

test('a bot that cannot reach GitHub and Jira is healthy, and can be closed', async () => {
  // It takes every connection, and never answers.
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
      WEBHOOK_SECRET: 'a secret of 16 characters',
      GITHUB_REPOSITORIES: 'acme/shop',
      GITHUB_API_URL: `http://127.0.0.1:${port}`,
      JIRA_HOST: `http://127.0.0.1:${port}`,
    }),
  )
  const bot = await startBot(config, openLog('silent'), { runnerToken: 'the-token-of-this-process' })
  expect((await fetch(`${bot.url}/healthz`)).status).toBe(200)
  expect((await fetch(`${bot.url}/readyz`)).status).toBe(200)
  expect(statSync(home).mode & 0o777).toBe(0o700)
  await bot.close()
})

test('a bot that ends with a comment posted and not recorded posts no second one', async () => {
  const { github } = stage
  await stage.heartbeat([environmentOf('DROP-3')])
  github.faults.push({ match: /^POST .*\/issues\/\d+\/comments$/, answer: 'do-and-cut' })
  await github.push('drop-3')
  const number = await github.open('drop-3', 'three')
  await until('the first post', async () => (await ours(number)).length > 0)
  await stage.stopBot()
  const before = github.requests.length
  await stage.startBot()
  const edits = () => github.requests.slice(before).filter(({ method }) => method === 'PATCH')
  await until('the edit', () => edits().some(({ path }) => path.includes('/issues/comments/')))
  expect(await ours(number)).toHaveLength(1)
})

test.for([
  ['a runner token', settings(homeOf()), 'AGENT_SWARM_RUNNER_TOKEN is missing'],
  [
    'a webhook secret that is not empty',
    settings(homeOf(), { AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners', JIRA_WEBHOOK_SECRET: '' }),
    'JIRA_WEBHOOK_SECRET is empty',
  ],
] as [string, Record<string, string>, string][])(
  'the bot does not start without %s',
  async ([, environment, problem]) => {
    const config = await readConfig({}, environment)
    await expect(startBot(config, openLog('silent'))).rejects.toMatchObject({
      failure: {
        ...{ kind: 'not-configured', message: expect.stringContaining(problem) },
        // `init` does not ask for a runner token.
        remedy: expect.stringContaining(problem.includes('RUNNER') ? 'openssl rand -hex 32' : 'agent-swarm init'),
      },
    })
  },
)

test('a bot whose host slept for weeks, or whose clock is set back, goes on at once', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
  const own = await openStage({ people: { dev: 'push' }, issues: { 'DROP-1': 'one' } })
  onTestFinished(() => own.close())
  const looks = () => own.github.requests.filter(({ path }) => path.includes('/app/hook/deliveries')).length
  const pull = await own.github.open('DROP-1-x', 'One')
  for (const days of [20, -20]) {
    const before = looks()
    vi.setSystemTime(Date.now() + days * 24 * 60 * 60_000)
    await until('a look for what was missed', () => looks() > before)
    // The pacing of our writes goes by the clock as well.
    const comment = await own.github.comment(pull, '/swarm help')
    await until('the reaction', () => own.github.reactions(comment).includes('rocket'))
  }
})
