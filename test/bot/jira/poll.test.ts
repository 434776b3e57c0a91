/** Jira by polling: what changed becomes what a webhook would have reported. */

import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { PolledDelivery } from '../../../src/bot/catch-up.ts'
import { openJira } from '../../../src/bot/jira/client.ts'
import { parseJira } from '../../../src/bot/jira/events.ts'
import { openJiraPoll } from '../../../src/bot/jira/poll.ts'
import type { Store } from '../../../src/store/port.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { type JiraStandIn, startJira } from '../../support/jira.ts'
import { until } from '../../support/wait.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

describe('what a poll finds', () => {
  let board: JiraStandIn
  /** Jira's clock; ours is 20 minutes ahead, as a laptop's may be. */
  let now: number
  let ahead: number
  let projects: string[]
  let messages: string[]
  let store: Store
  let found: PolledDelivery[]
  let poll: ReturnType<typeof openJiraPoll>
  /** The ids of deliveries that an earlier poll found. */
  const seen = new Set<string>()
  beforeEach(async () => {
    now = Date.parse('2026-11-24T10:00:30Z')
    board = await startJira({ issues: { 'DROP-1': 'one', 'DROP-2': 'two', 'WEB-1': 'web' }, clock: () => now })
    onTestFinished(() => board.stop())
    found = []
    seen.clear()
    ahead = 20 * 60_000
    projects = ['DROP']
    messages = []
    const clock = () => now + ahead
    const stream = new Writable({
      write: (chunk, _, done) => {
        messages.push(JSON.parse(String(chunk)).msg)
        done()
      },
    })
    store = openStore(':memory:', clock)
    const settings = {
      url: board.url,
      email: board.me.emailAddress,
      apiToken: board.token,
      webhookSecret: null,
      automationSecret: null,
    }
    poll = openJiraPoll({
      ...{ jira: openJira(settings), store, projects, assignees: 'me', everyMs: 60_000, hasWebhook: false, clock },
      log: pino(stream) as never,
      accept: async deliveries => void found.push(...deliveries),
    })
  })
  /** One poll, a minute later, and the events that it finds first. */
  const look = async (later = 60_000) => {
    now += later
    found = []
    const wait = await poll.round()
    const fresh = found.filter(({ id }) => !seen.has(id) && seen.add(id))
    const events = fresh.map(({ body }) => {
      const parsed = parseJira(JSON.parse(body))
      return 'event' in parsed ? parsed.event : parsed
    })
    return { wait, events }
  }
  const status = (ticket: string, category: string) => ({ kind: 'ticket', ticket, change: 'status', category })

  test('nothing from before the first poll, and each move after it, with who made it', async () => {
    await board.move('DROP-1', 'In Progress')
    // It is shown in the inbox, and not acted on.
    await look()
    expect(found.map(({ event, id }) => [event, id])).toEqual([['first look', 'first:DROP-1']])
    expect((await look()).events).toEqual([])
    await board.move('DROP-2', 'In Progress')
    await board.move('WEB-1', 'In Progress')
    const at = now
    const { accountId } = board.me
    expect((await look()).events).toEqual([
      {
        ...{ ...status('DROP-2', 'indeterminate'), assignee: accountId, labels: [], at },
        ...{ by: { via: 'jira', who: accountId, name: 'Dev' }, fromStatus: '10000', statusName: 'In Progress' },
      },
    ])
    expect((await look()).events).toEqual([])
  })

  test('each step of a way through several statuses between two polls', async () => {
    await look()
    await board.move('DROP-1', 'Done')
    await board.move('DROP-1', 'To Do')
    await board.move('DROP-1', 'In Progress')
    expect((await look()).events).toMatchObject([
      status('DROP-1', 'done'),
      status('DROP-1', 'new'),
      status('DROP-1', 'indeterminate'),
    ])
  })

  test('an assignment, and an issue that is created in progress', async () => {
    await look()
    await board.assign('DROP-1', 'somebody')
    board.create('DROP-3', 'In Progress')
    expect((await look()).events).toMatchObject([
      { ticket: 'DROP-1', change: 'assignee', category: 'new', assignee: 'somebody' },
      status('DROP-3', 'indeterminate'),
    ])
  })

  test('an issue that was moved to the project, under its new key, with its previous one', async () => {
    await look()
    await board.rekey('WEB-1', 'DROP-9', { status: 'In Progress' })
    expect((await look()).events).toMatchObject([
      { ticket: 'DROP-9', change: 'moved', from: 'WEB-1', statusChanged: true, category: 'indeterminate' },
    ])
  })

  test('everything of hours without a poll, or without Jira', async () => {
    await look()
    await board.move('DROP-1', 'In Progress')
    board.setDown(true)
    expect((await look(3 * 60 * 60_000)).events).toEqual([])
    board.setDown(false)
    await board.move('DROP-2', 'In Progress')
    expect((await look(3 * 60 * 60_000)).events).toMatchObject([
      status('DROP-1', 'indeterminate'),
      status('DROP-2', 'indeterminate'),
    ])
  })

  test('everything, although our clock is corrected in between', async () => {
    await look()
    ahead += 2 * 60 * 60_000
    await look()
    await board.move('DROP-1', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-1', 'indeterminate')])
    ahead -= 4 * 60 * 60_000
    await board.move('DROP-2', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-2', 'indeterminate')])
  })

  test('a project that is gone does not hide the others', async () => {
    await look()
    projects.push('GONE')
    await board.move('DROP-1', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-1', 'indeterminate')])
    await store.cursors.set('jira', { at: now, began: { DROP: 0, GONE: 0 } })
    await board.move('DROP-2', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-2', 'indeterminate')])
    // When it exists, its changes are found.
    board.create('GONE-1')
    await look()
    await board.move('GONE-1', 'In Progress')
    expect((await look()).events).toMatchObject([status('GONE-1', 'indeterminate')])
  })

  test('an issue that only the search still shows does not hide the others', async () => {
    await look()
    for (let n = 0; n < 25; n += 1) await board.write('DROP-1', `/swarm status ${n}`, { send: false })
    await board.move('DROP-2', 'In Progress')
    board.haunt('DROP-1')
    expect((await look()).events).toMatchObject([status('DROP-2', 'indeterminate')])
  })

  test("a clock that differs from Jira's is reported, once", async () => {
    await look()
    await look()
    const reports = () => messages.filter(message => message.includes('the clock of this host'))
    expect(reports()).toEqual([
      "the clock of this host is 1200 s ahead of Jira's: the order of a move there and a command here may be judged wrong",
    ])
    ahead = 0
    await look()
    expect(reports().at(-1)).toBe('the clock of this host: works again')
  })

  test('changes beyond those that a search shows are read from the issue', async () => {
    await look()
    for (let n = 0; n < 60; n += 1) await board.move('DROP-1', n % 2 === 0 ? 'In Progress' : 'To Do')
    expect((await look()).events).toHaveLength(60)
  })

  test('two small requests, and one more after the first move', async () => {
    await look()
    const paths = async () => {
      const before = board.requests.length
      await look()
      return board.requests.slice(before).map(({ path }) => path.split('?')[0])
    }
    expect(await paths()).toEqual(['/rest/api/3/serverInfo', '/rest/api/3/search/jql'])
    await board.move('DROP-1', 'In Progress')
    expect(await paths()).toEqual(['/rest/api/3/serverInfo', '/rest/api/3/search/jql', '/rest/api/3/status'])
    expect(await paths()).toEqual(['/rest/api/3/serverInfo', '/rest/api/3/search/jql'])
  })
})

describe('a whole bot without a webhook', () => {
  let stage: Stage
  const polls = () => stage.jira.requests.filter(({ path }) => path.includes('/search/jql')).length
  beforeAll(async () => {
    stage = await openStage({
      people: {},
      issues: { 'DROP-1': 'one', 'DROP-2': 'two' },
      before: async (_github, jira) => {
        await jira.move('DROP-2', 'In Progress', { send: false })
      },
      settings: { JIRA_WEBHOOK_SECRET: null },
    })
    await until('the second poll', () => polls() > 1)
  })
  afterAll(() => stage.close())

  test('a move makes a machine; what was in progress before is left alone', async () => {
    await stage.jira.move('DROP-1', 'In Progress')
    await until('the create', async () => (await stage.states('DROP-1')).length > 0)
    const [row] = await stage.actionsOf('DROP-1')
    expect(row?.action).toMatchObject({ kind: 'create', by: { via: 'jira', who: stage.jira.me.accountId } })
    expect(await stage.states('DROP-2')).toEqual([])
  })

  test('a webhook about the same change has no second effect, nor one that arrives while the bot is away', async () => {
    const payload = stage.jira.payloadOf('DROP-1', [{ field: 'status' }])
    const delivery = { source: 'jira', event: 'jira:issue_updated', lane: 'jira:DROP-1' } as const
    await stage.store.inbox.accept([
      { ...delivery, id: 'a-webhook', body: JSON.stringify(payload), receivedAt: Date.now() },
    ])
    await stage.stopBot()
    await stage.jira.move('DROP-2', 'To Do')
    await stage.jira.move('DROP-2', 'In Progress')
    await stage.startBot()
    expect(await stage.verdict('a-webhook')).toEqual({
      verdict: 'ignored',
      reason: 'another delivery reported this change',
    })
    await until('the other create', async () => (await stage.states('DROP-2')).length > 0)
    expect(await stage.states('DROP-1')).toEqual(['create pending'])
  })
})

describe('a whole bot by a token with scopes', () => {
  let stage: Stage
  beforeAll(async () => {
    stage = await openStage({
      people: {},
      issues: { 'DROP-1': 'one' },
      settings: ({ scoped }) => ({ JIRA_HOST: scoped.url, JIRA_API_TOKEN: scoped.token, JIRA_WEBHOOK_SECRET: null }),
    })
    const polls = () => stage.jira.requests.filter(({ path }) => path.includes('/search/jql')).length
    await until('the second poll', () => polls() > 1)
  })
  afterAll(() => stage.close())

  test('finds a move and reports the machine, all of it through the gateway', async () => {
    await stage.jira.move('DROP-1', 'In Progress')
    await until('the create', async () => (await stage.states('DROP-1')).length > 0)
    await stage.heartbeat([])
    await stage.work(() => ({ result: 'done', environment: environmentOf('DROP-1'), summary: 'made', seconds: 1 }))
    await until('the comment', () => stage.jira.comments('DROP-1').find(text => text.includes('DROP-1')))
    const { pathname } = new URL(stage.jira.scoped.url)
    expect(stage.jira.requests.filter(({ path }) => !path.startsWith(`${pathname}/rest/api/3/`))).toEqual([])
  })
})

describe('a refused token', () => {
  let board: JiraStandIn
  beforeAll(async () => {
    board = await startJira({ issues: { 'DROP-1': 'one' } })
  })
  afterAll(() => board.stop())
  const failureOf = async (url: string, apiToken: string) => {
    const jira = openJira({ url, email: board.me.emailAddress, apiToken, webhookSecret: null, automationSecret: null })
    const error = await jira.me().catch(error => error)
    expect(error).toMatchObject({ failure: { kind: 'permission' }, status: 401 })
    return `${error.failure.message}. ${error.failure.remedy}`
  }

  test('at the site: a token with scopes works elsewhere, and how to find out where', async () => {
    const text = await failureOf(board.url, board.scoped.token)
    expect(text).toContain('set JIRA_HOST to https://api.atlassian.com/ex/jira/<cloudId>')
    expect(text).toContain(`${board.url}/_edge/tenant_info`)
    expect(text).toContain('agent-swarm init')
  })
  test('at the gateway: a token without scopes works at the site', async () => {
    expect(await failureOf(board.scoped.url, board.token)).toContain(
      'set JIRA_HOST to it, for example example.atlassian.net',
    )
  })
  test('for a missing scope: which scopes are needed', async () => {
    board.scoped.scopes.delete('read:jira-user')
    expect(await failureOf(board.scoped.url, board.scoped.token)).toMatch(
      /the token lacks a scope\. .*read:jira-user, read:jira-work and write:jira-work/,
    )
  })
})
