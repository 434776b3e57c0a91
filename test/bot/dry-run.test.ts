/** `--dry-run`: everything is decided and shown, nothing is done, and the next real start acts on what came. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Shown } from '../../src/bot/dry-run.ts'
import { type Bot, startBot } from '../../src/bot/index.ts'
import { type Config, readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { openQueue } from '../../src/store/sqlite/queue.ts'
import { compiled } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'
import { environmentOf } from './stage.ts'

const TOKEN = 'the-token-of-the-runners'
let home: string
let github: GitHubStandIn
let jira: JiraStandIn
let config: Config
let bot: Bot | null
let shown: Shown[]
const settings = () => ({
  PATH: process.env.PATH,
  HOME: home,
  AGENT_SWARM_HOME: join(home, 'state'),
  AGENT_SWARM_PROVIDER: 'synthetic',
  ...compiled,
  ...github.settings,
  ...jira.settings,
  JIRA_PROJECTS: 'DROP',
  AGENT_SWARM_RUNNER_TOKEN: TOKEN,
  PORT: '0',
})
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-dry-'))
  github = await startGitHub({ people: { dev: 'push' } })
  jira = await startJira({ issues: { 'DROP-1': 'one', 'DROP-2': 'two' } })
  config = await readConfig({}, settings())
  shown = []
  bot = null
})
afterEach(async () => {
  await bot?.close()
  await Promise.all([github.stop(), jira.stop()])
  rmSync(home, { recursive: true })
})
const start = async (dry: boolean) => {
  bot = await startBot(config, openLog('silent'), dry ? { show: one => void shown.push(one) } : {})
  github.sendTo(bot.url)
  jira.sendTo(bot.url)
}
const end = async () => {
  await bot?.close()
  bot = null
}
const runner = (path: string, body: unknown) =>
  fetch(`${bot?.url}/runner/v1/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}` },
    body: JSON.stringify(body),
  })
const heartbeat = () =>
  runner('heartbeat', {
    runnerId: 'runner-1',
    host: 'studio',
    version: '0.1.0',
    providers: [{ name: 'synthetic', live: true }],
    environments: [environmentOf('DROP-1')],
  })
const writes = () => [
  ...github.asked.filter(one => one.method !== 'GET' && !/\/access_tokens$/.test(one.path)),
  ...jira.asked.filter(one => one.method !== 'GET'),
]
/** Of the webhooks: the look for what they missed may find the same. */
const verdicts = () =>
  shown.flatMap(one => (one.what === 'delivery' && !one.id.startsWith('poll:') ? [`${one.event} ${one.verdict}`] : []))
const requests = () => shown.flatMap(one => (one.what === 'request' ? [one] : []))
/** Every row of a store, but for the deliveries and what counts them. */
const contents = (name: string) => {
  const db = new DatabaseSync(join(config.home, name), { readOnly: true })
  const tables = db
    .prepare(`select name from sqlite_master where type = 'table' and name not in ('delivery', 'sqlite_sequence')`)
    .all()
  const rows = tables.map(table => [table.name, db.prepare(`select * from "${table.name}"`).all()])
  db.close()
  return rows
}
const deliveries = () => {
  const db = new DatabaseSync(join(config.home, 'bot.db'), { readOnly: true })
  const rows = db
    .prepare(
      `select event, verdict, settled_at, attempt, body is not null as kept from delivery where id not like 'poll:%'`,
    )
    .all()
  db.close()
  return rows
}

test('a whole story is decided and shown, nothing of it is done, and the real start does it', async () => {
  // What was there before: an action that waits for a runner, and a message that waits to be published.
  await start(false)
  await jira.move('DROP-2', 'In Progress')
  await until('the action', async () => openedOnce(queue => queue.list({ state: 'pending' }).length === 1))
  await end()
  openedOnce(queue =>
    queue.outbox.put([{ key: 'jira:x', body: { kind: 'jira', ticket: 'DROP-2', about: 'x', text: 'an old word' } }]),
  )
  const before = { queue: contents('bot.db'), memory: contents('memory.db') }
  const already = writes().length

  await start(true)
  expect((await heartbeat()).ok).toBe(true)
  await jira.move('DROP-1', 'In Progress')
  const sha = await github.push('drop-1-login')
  const number = await github.open('drop-1-login', 'Log in')
  const commented = await github.comment(number, '/swarm checkpoint before')
  await github.comment(number, 'a word between people')
  await until('the comments that would be published', () => requests().length >= 4)
  await github.merge(number)
  await until('the last verdict', () => verdicts().length === 6)

  expect(verdicts().sort()).toEqual([
    'issue_comment actions',
    'issue_comment ignored',
    'jira:issue_updated ignored',
    'pull_request actions',
    'pull_request ignored',
    'push actions',
  ])
  const actions = shown.flatMap(one => (one.what === 'delivery' ? one.actions.map(({ action }) => action) : []))
  expect(actions).toMatchObject([
    { kind: 'checkpoint', ticket: 'DROP-1', name: `push-${sha.slice(0, 7)}` },
    { kind: 'checkpoint', ticket: 'DROP-1', name: 'before' },
    { kind: 'delete', ticket: 'DROP-1' },
  ])
  const comments = `/repos/${github.repo}/issues/${number}/comments`
  expect(requests()).toEqual(
    expect.arrayContaining([
      {
        what: 'request',
        to: 'Jira',
        method: 'POST',
        path: '/rest/api/3/issue/DROP-2/comment',
        body: expect.anything(),
      },
      expect.objectContaining({
        to: 'GitHub',
        method: 'POST',
        path: comments,
        body: { body: expect.stringContaining('### DROP-1: running') },
      }),
      expect.objectContaining({
        method: 'POST',
        path: `/repos/${github.repo}/issues/comments/${commented}/reactions`,
        body: { content: 'eyes' },
      }),
    ]),
  )

  // Runners get no work, and keep what they have to tell.
  for (const path of ['acquire', 'renew', 'complete', 'fail'])
    expect((await runner(path, { runnerId: 'runner-1' })).status).toBe(503)
  await end()
  expect(writes()).toHaveLength(already)
  expect({ queue: contents('bot.db'), memory: contents('memory.db') }).toEqual(before)
  expect(deliveries().slice(1)).toEqual(
    Array.from({ length: 6 }, () => expect.objectContaining({ verdict: null, settled_at: null, attempt: 0, kept: 1 })),
  )

  await start(false)
  await until('the real verdicts', () => deliveries().every(one => one.verdict !== null))
  expect(writes().length).toBeGreaterThan(already)
})

test('what catching up would do is shown, and done by the real start', async () => {
  const caughtUp = async () => {
    await bot?.catchUp()
    await until('all of it decided', () => deliveries().every(one => one.verdict !== null))
  }
  await start(false)
  await caughtUp()
  await end()
  github.lose('failed')
  await github.push('drop-1-login')
  github.lose(null)
  await jira.move('DROP-2', 'In Progress', { send: false })
  const before = github.deliveries.length

  await start(true)
  await bot?.catchUp()
  const again = `/app/hook/deliveries/${github.deliveries.at(-1)?.id}/attempts`
  expect(requests()).toEqual([{ what: 'request', to: 'GitHub', method: 'POST', path: again, body: null }])
  await until('the create', () =>
    shown.some(one => one.what === 'delivery' && one.actions[0]?.action.kind === 'create'),
  )
  await end()
  expect(github.deliveries).toHaveLength(before)
  expect(openedOnce(queue => queue.list())).toEqual([])

  await start(false)
  await caughtUp()
  expect(github.deliveries.at(-1)).toMatchObject({ event: 'push', redelivery: true, status_code: 202 })
  expect(openedOnce(queue => queue.list())).toMatchObject([{ action: { kind: 'create', ticket: 'DROP-2' } }])
})

const openedOnce = <T>(look: (queue: ReturnType<typeof openQueue>) => T): T => {
  const queue = openQueue(join(config.home, 'bot.db'), Date.now)
  try {
    return look(queue)
  } finally {
    queue.close()
  }
}

test('up --dry-run shows it on its output, and its runner does nothing', async () => {
  const child = spawn(process.execPath, [resolve(import.meta.dirname, '../../bin/agent-swarm.js'), 'up', '--dry-run'], {
    env: settings(),
  })
  let [out, errors] = ['', '']
  child.stdout.on('data', chunk => {
    out += chunk
  })
  child.stderr.on('data', chunk => {
    errors += chunk
  })
  try {
    jira.sendTo(await until('up', () => errors.match(/listens on (http:[^\s,]+)/)?.[1]))
    expect(await jira.move('DROP-1', 'In Progress')).toBe(202)
    await until('the action', () => /would queue: \{"kind":"create","ticket":"DROP-1"/.test(out))
    expect(out).toMatch(/^jira jira:issue_updated \S+: actions\n/)
    expect(errors).toContain('This is a dry run')
    // As people would read it, and not as Jira takes it.
    const asked = await jira.write('DROP-1', '/swarm fly')
    await until('the answer', () => out.includes('would send Jira: POST /rest/api/3/issue/DROP-1/comment\n'))
    expect(out).toContain(`\n    Answer to comment ${asked}:\n    There is no command fly.\n    ---\n`)
    expect(out).toMatch(/\n {4}\| \/swarm stop \| Shuts the machine down\. .* \| \/swarm stop \|\n/)
    await until('its line in the log', () => errors.includes('shown, and not published'))
    expect(errors).not.toContain('"published"')
    const gone = new Promise(done => child.once('exit', done))
    child.kill('SIGTERM')
    expect(await gone).toBe(0)
  } finally {
    child.kill('SIGKILL')
  }
  expect(existsSync(join(config.home, 'synthetic'))).toBe(false)
  expect(existsSync(join(config.home, 'registry.db'))).toBe(false)
  expect([jira.comments('DROP-1'), writes()]).toEqual([['/swarm fly'], []])
  const kept = expect.objectContaining({ verdict: null, kept: 1 })
  expect(deliveries()).toEqual([kept, kept])
})
