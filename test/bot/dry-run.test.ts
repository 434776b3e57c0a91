/** A dry run: everything is decided and shown, nothing is done, and the next real start acts on what arrived. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Shown } from '../../src/bot/dry-run.ts'
import { type Bot, startBot } from '../../src/bot/index.ts'
import { type Config, readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { jiraNoteMessage } from '../../src/store/messages.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { heartbeatOf } from '../store/fixtures.ts'
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
  bot = await startBot(config, openLog('silent'), dry ? { show: entry => void shown.push(entry) } : {})
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
const heartbeat = () => runner('heartbeat', heartbeatOf([environmentOf('DROP-1', { provider: 'kvm' })]))
const writes = () => [
  ...github.requests.filter(({ method, path }) => method !== 'GET' && !/\/access_tokens$/.test(path)),
  ...jira.requests.filter(({ method }) => method !== 'GET'),
]
/** Of the webhooks: catching up may find the same. */
const verdicts = () =>
  shown.flatMap(entry =>
    entry.what === 'delivery' && !entry.id.startsWith('poll:') ? [`${entry.event} ${entry.verdict}`] : [],
  )
const requests = () => shown.flatMap(entry => (entry.what === 'request' ? [entry] : []))
/** Every row of the store except deliveries and their counter. */
const contents = () => {
  const db = new DatabaseSync(join(config.home, 'bot.db'), { readOnly: true })
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

test('a whole story is decided and shown, none of it is done, and the real start does it', async () => {
  // From before: an action that waits for a runner, and a message that waits to be published.
  await start(false)
  await jira.move('DROP-2', 'In Progress')
  await until('the action', () => inStore(async ({ queue }) => (await queue.list({ state: 'pending' })).length === 1))
  await end()
  await inStore(({ outbox }) => outbox.put([jiraNoteMessage('DROP-2', 'x', { kind: 'text', text: 'an old note' })]))
  const before = contents()
  const already = writes().length

  await start(true)
  // The look for what was missed at the start is over: it finds nothing of the story.
  await bot?.catchUp()
  expect((await heartbeat()).ok).toBe(true)
  await jira.move('DROP-1', 'In Progress')
  const sha = await github.push('drop-1-login')
  const number = await github.open('drop-1-login', 'Log in')
  const commented = await github.comment(number, '/swarm checkpoint before')
  await github.comment(number, 'people talk')
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
  const actions = shown.flatMap(entry => (entry.what === 'delivery' ? entry.actions.map(({ action }) => action) : []))
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

  // Runners get no work, and keep their outcomes.
  for (const path of ['acquire', 'renew', 'complete', 'fail'])
    expect((await runner(path, { runnerId: 'runner-1' })).status).toBe(503)
  await end()
  expect(writes()).toHaveLength(already)
  expect(contents()).toEqual(before)
  expect(deliveries().slice(1)).toEqual(
    Array.from({ length: 6 }, () => expect.objectContaining({ verdict: null, settled_at: null, attempt: 0, kept: 1 })),
  )

  await start(false)
  await until('the real verdicts', () => deliveries().every(({ verdict }) => verdict !== null))
  expect(writes().length).toBeGreaterThan(already)
})

test('catching up is shown, and the real start does it', async () => {
  const caughtUp = async () => {
    await bot?.catchUp()
    await until('all of it decided', () => deliveries().every(({ verdict }) => verdict !== null))
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
    shown.some(entry => entry.what === 'delivery' && entry.actions[0]?.action.kind === 'create'),
  )
  await end()
  expect(github.deliveries).toHaveLength(before)
  expect(await inStore(({ queue }) => queue.list())).toEqual([])

  await start(false)
  await caughtUp()
  expect(github.deliveries.at(-1)).toMatchObject({ event: 'push', redelivery: true, status_code: 202 })
  expect(await inStore(({ queue }) => queue.list())).toMatchObject([{ action: { kind: 'create', ticket: 'DROP-2' } }])
})

/** Reads or writes the real store, while no bot runs or beside it. */
const inStore = async <T>(work: (store: Store) => Promise<T>): Promise<T> => {
  const store = openStore(join(config.home, 'bot.db'), Date.now)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}
