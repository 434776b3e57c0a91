/** What operators see of bot and runner, two processes, in a story that is full of secrets: their logs, and the metrics. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
// @ts-expect-error It brings no types.
import parse from 'parse-prometheus-text-format'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { githubEventNames } from '../../src/bot/github/events.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { JIRA_SECRET, type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

type Line = Record<string, unknown> & { msg: string; time: string; correlation?: string }
type Process = { child: ChildProcess; url: string; said: () => string; lines: () => Line[] }
const RUNNER_TOKEN = 'canary-of-the-runner-0123456789'
const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
let home: string
let github: GitHubStandIn
let jira: JiraStandIn
let bot: Process
let runner: Process
let metrics: string
let hostile: string
const running: ChildProcess[] = []

const start = async (command: 'bot' | 'runner', more: Record<string, string>): Promise<Process> => {
  const child = spawn(process.execPath, [entry, command], {
    env: {
      PATH: process.env.PATH,
      HOME: home,
      AGENT_SWARM_HOME: join(home, command),
      AGENT_SWARM_PROVIDER: 'synthetic',
      AGENT_SWARM_RUNNER_TOKEN: RUNNER_TOKEN,
      LOG_LEVEL: 'trace',
      ...more,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.push(child)
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', chunk => {
      said += chunk
    })
  const lines = (): Line[] =>
    said
      .split('\n')
      .slice(0, -1)
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line))
  const url = await until(command, () => said.match(/(?:listens on|asks) (http:[^\s,]+)/)?.[1], { within: 60_000 })
  return { child, url, said: () => said, lines }
}
const scrape = async () => (await fetch(`${bot.url}/metrics`)).text()

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-operators-'))
  github = await startGitHub()
  jira = await startJira({ issues: { 'DROP-1': 'canary of a summary', 'DROP-2': 'canary of a summary' } })
  bot = await start('bot', {
    ...github.settings,
    ...jira.settings,
    JIRA_PROJECTS: 'DROP',
    PORT: '0',
  })
  runner = await start('runner', { AGENT_SWARM_BOT_URL: bot.url })
  github.sendTo(bot.url)
  jira.sendTo(bot.url)

  // Trouble tells what it was asked with, as servers do.
  const told = `canary of an answer: ${WEBHOOK_SECRET} ${jira.token} https://me:canary@example.org/?access_token=canary`
  const trouble = { status: 500, body: { message: told, errors: [{ token: 'canary', nested: { message: told } }] } }
  await jira.move('DROP-2', 'In Progress')
  await github.push('drop-1')
  const number = await github.open('drop-1', 'DROP-1 canary of a title')
  github.faults.push({ match: /\/permission$/, answer: trouble }, { match: /^POST .*\/comments$/, answer: trouble })
  await github.comment(number, 'canary of a comment\n\n/swarm create')
  await github.deliverBroken('push', { canary: 'canary of a payload' }, 'badly-signed', 'another secret')
  await github.deliverBroken('push', Buffer.from('{"canary of a payload"'), 'broken')
  await github.deliverBroken('push', { ref: { canary: 'canary of a payload' } }, 'meaningless')
  await until(
    'the reply and the comment in Jira',
    async () => {
      const comments = await github.comments(number)
      return comments.some(one => one.body.includes('DROP-1 has a machine')) && jira.comments('DROP-2')[0] !== undefined
    },
    { within: 60_000 },
  )
  await until('all to be published', async () => {
    metrics = await scrape()
    return (
      /agent_swarm_outbox_messages 0\n/.test(metrics) && /agent_swarm_queue_actions\{state="active"\} 0\n/.test(metrics)
    )
  })
  for (let n = 0; n < 30; n += 1) {
    await github.deliverBroken(`evil"}${n}\\`, {})
    await jira.deliver({ webhookEvent: `evil"} 1\n${n}` })
  }
  await until('all to be decided', async () => {
    hostile = await scrape()
    return /agent_swarm_inbox_deliveries 0\n/.test(hostile)
  })
}, 180_000)
afterAll(async () => {
  for (const child of running) child.kill('SIGKILL')
  await Promise.all([github.stop(), jira.stop()])
  rmSync(home, { recursive: true, force: true })
})

test('one id leads from a comment to the command on the hypervisor and back to the reply, through both logs', () => {
  const commented = bot.lines().find(line => line.msg === 'accepted' && line.event === 'issue_comment')
  const of = (process: Process) => process.lines().filter(line => line.correlation === commented?.correlation)
  const first = (process: Process, msg: string) =>
    of(process).find(line => line.msg === msg)?.time ?? `no line "${msg}"`
  const way = [
    ...['accepted', 'decided', 'leased'].map(msg => first(bot, msg)),
    ...['begins', 'command'].map(msg => first(runner, msg)),
    first(bot, 'has its outcome'),
    of(bot).findLast(line => line.msg === 'published')?.time ?? 'nothing was published',
  ]
  expect(way.every(time => /^2\d{3}-/.test(time))).toBe(true)
  expect(way).toEqual([...way].sort())
  // The trouble on the way is under it too.
  expect(of(bot).some(line => line.msg.includes('reading what dev may do'))).toBe(true)
  expect(of(runner).find(line => line.msg === 'ended')).toMatchObject({ ticket: 'DROP-1', kind: 'create' })
})

test('no payload and no secret is in any line of either, at the level trace', () => {
  const login = readFileSync(join(home, 'runner', 'ssh', 'login', 'key'), 'utf8')
  const keys = [login, github.app.privateKey].flatMap(key =>
    key.split('\n').filter(line => /^[A-Za-z0-9+/]{40,}/.test(line)),
  )
  expect(keys.length).toBeGreaterThan(4)
  const basic = Buffer.from(`${jira.me.emailAddress}:${jira.token}`).toString('base64')
  for (const { said } of [bot, runner]) {
    expect(said().length).toBeGreaterThan(1_000)
    for (const secret of [WEBHOOK_SECRET, JIRA_SECRET, jira.token, RUNNER_TOKEN, basic, ...keys])
      expect(said()).not.toContain(secret)
    expect(said()).not.toMatch(/canary of a (title|comment|payload|summary)|canary@|=canary|gh[opsu]_\w|bearer \S/i)
  }
  // The trouble was logged, and is readable without them.
  expect(bot.said()).toContain(
    'canary of an answer: [redacted] [redacted] https://[redacted]@example.org/?access_token=[redacted]',
  )
})

type Family = { name: string; type: string; metrics: { labels?: Record<string, string>; value?: string }[] }
const familiesOf = (text: string) => new Map((parse(text) as Family[]).map(one => [one.name, one]))
const value = (families: Map<string, Family>, name: string, labels: Record<string, string> = {}) => {
  const found = families
    .get(`agent_swarm_${name}`)
    ?.metrics.find(one => Object.entries(labels).every(([label, held]) => one.labels?.[label] === held))
  return found?.value === undefined ? null : Number(found.value)
}

test('the metrics tell the story', () => {
  const families = familiesOf(metrics)
  expect(value(families, 'deliveries_total', { source: 'github', result: 'bad_signature' })).toBe(1)
  expect(value(families, 'deliveries_total', { source: 'github', result: 'bad_request' })).toBe(1)
  expect(value(families, 'deliveries_total', { source: 'jira', result: 'accepted' })).toBe(1)
  expect(value(families, 'events_total', { source: 'github', event: 'issue_comment', verdict: 'actions' })).toBe(1)
  expect(value(families, 'events_total', { source: 'jira', event: 'jira:issue_updated', verdict: 'actions' })).toBe(1)
  expect(value(families, 'actions_total', { kind: 'create', outcome: 'done' })).toBe(2)
  expect(metrics).toMatch(/agent_swarm_action_duration_seconds_count\{kind="create",outcome="done"\} 2\n/)
  expect(metrics).toMatch(/agent_swarm_action_duration_seconds_bucket\{le="\+Inf",kind="create",outcome="done"\} 2\n/)
  for (const name of ['inbox_deliveries', 'inbox_oldest_age_seconds', 'queue_oldest_age_seconds', 'outbox_messages'])
    expect([name, value(families, name)]).toEqual([name, 0])
  expect(value(families, 'queue_actions', { state: 'pending' })).toBe(0)
  expect(value(families, 'runners_alive')).toBe(1)
  expect(value(families, 'github_rate_limit_remaining', { resource: 'core' })).toBeGreaterThan(4_900)
  expect(value(families, 'github_rate_limit_limit', { resource: 'core' })).toBe(5_000)
})

test('no label has a value that somebody outside chose', () => {
  const allowed: Record<string, readonly string[]> = {
    source: ['github', 'jira', 'clock'],
    result: ['accepted', 'bad_signature', 'bad_request', 'too_large', 'store_failed'],
    event: [...githubEventNames, 'jira:issue_created', 'jira:issue_updated', 'jira:issue_deleted', 'later', 'other'],
    verdict: ['actions', 'ignored', 'refused', 'failed'],
    kind: ['create', 'start', 'stop', 'checkpoint', 'restore', 'delete', 'status', 'ssh'],
    outcome: ['done', 'skipped', 'failed'],
    state: ['pending', 'active'],
    resource: ['core'],
  }
  const families = familiesOf(hostile)
  for (const { name, type, metrics } of families.values()) {
    // The parser takes a histogram's labels for one; its text is read below.
    if (type === 'HISTOGRAM') continue
    for (const [label, held] of metrics.flatMap(one => Object.entries(one.labels ?? {})))
      expect([name, label, allowed[label] ?? []]).toEqual([name, label, expect.arrayContaining([held])])
  }
  for (const [, label = '', held] of hostile.matchAll(/[{,](\w+)="([^"]*)"/g))
    if (label !== 'le') expect([label, allowed[label] ?? []]).toEqual([label, expect.arrayContaining([held])])
  expect(value(families, 'events_total', { source: 'github', event: 'other', verdict: 'ignored' })).toBe(30)
  expect(hostile).not.toContain('evil')
  // 60 more events, and at most one more series for each source.
  expect(hostile.split('\n').length).toBeLessThanOrEqual(metrics.split('\n').length + 2)
})
