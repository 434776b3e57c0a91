/** The logs and metrics of bot and runner, two processes, in a story full of secrets. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
// @ts-expect-error It has no types.
import parse from 'parse-prometheus-text-format'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { githubEventNames } from '../../src/bot/github/events.ts'
import { compiled } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { JIRA_SECRET, type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

type Line = Record<string, unknown> & { msg: string; time: string; correlation?: string }
type Process = { url: string; output: () => string; lines: () => Line[] }
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
      ...compiled,
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
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', chunk => {
      output += chunk
    })
  const lines = (): Line[] =>
    output
      .split('\n')
      .slice(0, -1)
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line))
  const address = () => output.match(/(?:listens on|takes work from) (http:[^\s,]+)/)?.[1]
  const url = await until(`the ${command} to be up`, address)
  return { url, output: () => output, lines }
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

  // The failures echo the request, as servers do.
  const echo = `canary of an answer: ${WEBHOOK_SECRET} ${jira.token} https://me:canary@example.org/?access_token=canary`
  const fault = { status: 500, body: { message: echo, errors: [{ token: 'canary', nested: { message: echo } }] } }
  await jira.move('DROP-2', 'In Progress')
  await github.push('drop-1')
  const number = await github.open('drop-1', 'DROP-1 canary of a title')
  github.faults.push({ match: /\/permission$/, answer: fault }, { match: /^POST .*\/comments$/, answer: fault })
  await github.comment(number, 'canary of a comment\n\n/swarm create')
  await github.deliverBroken('push', { canary: 'canary of a payload' }, 'badly-signed', 'another secret')
  await github.deliverBroken('push', Buffer.from('{"canary of a payload"'), 'broken')
  await github.deliverBroken('push', { ref: { canary: 'canary of a payload' } }, 'meaningless')
  await until('the reply and the comment in Jira', async () => {
    const comments = await github.comments(number)
    return comments.some(({ body }) => body.includes('DROP-1 has a machine')) && jira.comments('DROP-2').length > 0
  })
  const EMPTY = [
    'inbox_deliveries',
    'queue_actions{state="pending"}',
    'queue_actions{state="active"}',
    'outbox_messages',
  ]
  await until('empty queues', async () => {
    metrics = await scrape()
    return EMPTY.every(name => metrics.includes(`agent_swarm_${name} 0\n`))
  })
  for (let n = 0; n < 30; n += 1) {
    await github.deliverBroken(`evil"}${n}\\`, {})
    await jira.deliver({ webhookEvent: `evil"} 1\n${n}` })
  }
  await until('an empty inbox', async () => {
    hostile = await scrape()
    return /agent_swarm_inbox_deliveries 0\n/.test(hostile)
  })
})
afterAll(async () => {
  for (const child of running) child.kill('SIGKILL')
  await Promise.all([github.stop(), jira.stop()])
  rmSync(home, { recursive: true, force: true })
})

test('one id leads from a comment to the command on the hypervisor and back to the reply, in both logs', () => {
  const accepted = bot.lines().find(line => line.msg === 'accepted' && line.event === 'issue_comment')
  const of = (process: Process) => process.lines().filter(line => line.correlation === accepted?.correlation)
  const first = (process: Process, msg: string) =>
    of(process).find(line => line.msg === msg)?.time ?? `no line "${msg}"`
  const times = [
    ...['accepted', 'decided', 'leased'].map(msg => first(bot, msg)),
    ...['begins', 'command'].map(msg => first(runner, msg)),
    first(bot, 'outcome recorded'),
    of(bot).findLast(line => line.msg === 'published')?.time ?? 'nothing was published',
  ]
  expect(times.every(time => /^2\d{3}-/.test(time))).toBe(true)
  expect(times).toEqual([...times].sort())
  // So does the failure in between.
  expect(of(bot).some(line => line.msg.includes('reading the permission of dev'))).toBe(true)
  expect(of(runner).find(line => line.msg === 'ended')).toMatchObject({ ticket: 'DROP-1', kind: 'create' })
})

test('neither log has a payload or a secret, at the level trace', () => {
  const login = readFileSync(join(home, 'runner', 'ssh', 'login', 'key'), 'utf8')
  const keys = [login, github.app.privateKey].flatMap(key =>
    key.split('\n').filter(line => /^[A-Za-z0-9+/]{40,}/.test(line)),
  )
  expect(keys.length).toBeGreaterThan(4)
  const basic = Buffer.from(`${jira.me.emailAddress}:${jira.token}`).toString('base64')
  for (const { output } of [bot, runner]) {
    expect(output().length).toBeGreaterThan(1_000)
    for (const secret of [WEBHOOK_SECRET, JIRA_SECRET, jira.token, RUNNER_TOKEN, basic, ...keys])
      expect(output()).not.toContain(secret)
    expect(output()).not.toMatch(/canary of a (title|comment|payload|summary)|canary@|=canary|gh[opsu]_\w|bearer \S/i)
  }
  // The failure was logged, and is readable without them.
  expect(bot.output()).toContain(
    'canary of an answer: [redacted] [redacted] https://[redacted]@example.org/?access_token=[redacted]',
  )
})

type Family = { name: string; type: string; metrics: { labels?: Record<string, string>; value?: string }[] }
const familiesOf = (text: string) => new Map((parse(text) as Family[]).map(family => [family.name, family]))
const value = (families: Map<string, Family>, name: string, labels: Record<string, string> = {}) => {
  const metric = families
    .get(`agent_swarm_${name}`)
    ?.metrics.find(({ labels: own }) => Object.entries(labels).every(([label, value]) => own?.[label] === value))
  return metric?.value === undefined ? null : Number(metric.value)
}

test('the metrics show the story', () => {
  const families = familiesOf(metrics)
  expect(value(families, 'deliveries_total', { source: 'github', result: 'bad_signature' })).toBe(1)
  // It is asked for again when the look for failed deliveries comes in time.
  expect(value(families, 'deliveries_total', { source: 'github', result: 'bad_request' })).toBeGreaterThanOrEqual(1)
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

test('no label has a value that an outsider chose', () => {
  const allowed: Record<string, readonly string[]> = {
    source: ['github', 'jira', 'clock'],
    result: ['accepted', 'bad_signature', 'bad_request', 'too_large', 'store_failed'],
    event: [
      ...githubEventNames,
      'jira:issue_created',
      'jira:issue_updated',
      'jira:issue_deleted',
      'first look',
      'later',
      'other',
    ],
    verdict: ['actions', 'ignored', 'refused', 'failed'],
    kind: ['create', 'start', 'stop', 'checkpoint', 'restore', 'delete', 'status', 'ssh'],
    outcome: ['done', 'skipped', 'failed'],
    state: ['pending', 'active'],
    resource: ['core'],
  }
  const families = familiesOf(hostile)
  for (const { name, type, metrics } of families.values()) {
    // The parser merges a histogram's labels; its text is checked below.
    if (type === 'HISTOGRAM') continue
    for (const [label, value] of metrics.flatMap(({ labels }) => Object.entries(labels ?? {})))
      expect([name, label, allowed[label] ?? []]).toEqual([name, label, expect.arrayContaining([value])])
  }
  for (const [, label = '', value] of hostile.matchAll(/[{,](\w+)="([^"]*)"/g))
    if (label !== 'le') expect([label, allowed[label] ?? []]).toEqual([label, expect.arrayContaining([value])])
  expect(value(families, 'events_total', { source: 'github', event: 'other', verdict: 'ignored' })).toBe(30)
  expect(hostile).not.toContain('evil')
  // 60 more events make at most one more series for each source.
  expect(hostile.split('\n').length).toBeLessThanOrEqual(metrics.split('\n').length + 2)
})
