/** Jira by polling: what changed becomes what a webhook would have told. */
import { Writable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { openJira } from '../../../src/bot/jira/client.ts'
import { jiraEvent } from '../../../src/bot/jira/events.ts'
import { openJiraPoll } from '../../../src/bot/jira/poll.ts'
import type { Delivery } from '../../../src/store/port.ts'
import { openMemory } from '../../../src/store/sqlite/memory.ts'
import { type JiraStandIn, startJira } from '../../support/jira.ts'
import { until } from '../../support/wait.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

describe('what a look finds', () => {
  let board: JiraStandIn
  /** Jira's clock; ours is 20 minutes ahead, as that of a laptop may be. */
  let now: number
  let off: number
  let projects: string[]
  let said: string[]
  let memory: ReturnType<typeof openMemory>
  let found: Delivery[]
  let poll: ReturnType<typeof openJiraPoll>
  beforeEach(async () => {
    now = Date.parse('2026-11-24T10:00:30Z')
    board = await startJira({ issues: { 'DROP-1': 'one', 'DROP-2': 'two', 'WEB-1': 'web' }, clock: () => now })
    onTestFinished(() => board.stop())
    found = []
    seen.clear()
    off = 20 * 60_000
    const ours = () => now + off
    projects = ['DROP']
    said = []
    const log = pino(
      new Writable({
        write: (chunk, _, done) => {
          said.push(JSON.parse(String(chunk)).msg)
          done()
        },
      }),
    ) as never
    memory = openMemory(':memory:', ours)
    poll = openJiraPoll({
      jira: openJira({
        ...{ url: board.url, email: board.me.emailAddress, apiToken: board.token, webhookSecret: null },
      }),
      projects,
      assignees: 'me',
      memory,
      everyMs: 60_000,
      clock: ours,
      log,
      accept: deliveries => found.push(...deliveries),
    })
  })
  /** What a look finds that none found before, as events of ours. */
  const seen = new Set<string>()
  const look = async (later = 60_000) => {
    now += later
    found = []
    const wait = await poll.round()
    return {
      wait,
      events: found
        .filter(one => !seen.has(one.id) && seen.add(one.id))
        .map(one => {
          const read = jiraEvent(JSON.parse(one.body))
          return 'event' in read ? read.event : read.ignored
        }),
    }
  }
  const status = (ticket: string, category: string) => ({ kind: 'ticket', ticket, change: 'status', category })

  test('nothing of what was before the first look, and each move after it, with who made it', async () => {
    await board.move('DROP-1', 'In Progress')
    // That is told, so that it can be seen, and is not acted on.
    await look()
    expect(found.map(one => [one.event, one.id])).toEqual([['first look', 'first:DROP-1']])
    expect((await look()).events).toEqual([])
    await board.move('DROP-2', 'In Progress')
    await board.move('WEB-1', 'In Progress')
    const at = now
    expect((await look()).events).toEqual([
      {
        ...status('DROP-2', 'indeterminate'),
        assignee: board.me.accountId,
        labels: [],
        by: board.me.accountId,
        at,
      },
    ])
    expect((await look()).events).toEqual([])
  })

  test('a way through several statuses between two looks is told step by step', async () => {
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

  test('an assignment is told, and an issue that is made in progress', async () => {
    await look()
    await board.assign('DROP-1', 'somebody')
    board.create('DROP-3', 'In Progress')
    expect((await look()).events).toMatchObject([
      { ticket: 'DROP-1', change: 'assignee', category: 'new', assignee: 'somebody' },
      status('DROP-3', 'indeterminate'),
    ])
  })

  test('hours away lose nothing, and neither does Jira being away', async () => {
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

  test('a clock of ours that is put right meanwhile loses nothing', async () => {
    await look()
    off += 2 * 60 * 60_000
    await look()
    await board.move('DROP-1', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-1', 'indeterminate')])
    off -= 4 * 60 * 60_000
    await board.move('DROP-2', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-2', 'indeterminate')])
  })

  test('a project that is gone keeps the others from nothing', async () => {
    await look()
    projects.push('GONE')
    await board.move('DROP-1', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-1', 'indeterminate')])
    memory.setPlace('jira', { at: now, began: { DROP: 0, GONE: 0 } })
    await board.move('DROP-2', 'In Progress')
    expect((await look()).events).toMatchObject([status('DROP-2', 'indeterminate')])
    // When it is there, what happens in it is found.
    board.create('GONE-1')
    await look()
    await board.move('GONE-1', 'In Progress')
    expect((await look()).events).toMatchObject([status('GONE-1', 'indeterminate')])
  })

  test('an issue that only the search still shows keeps the others from nothing', async () => {
    await look()
    for (let n = 0; n < 25; n += 1) await board.write('DROP-1', `/swarm status ${n}`, { send: false })
    await board.move('DROP-2', 'In Progress')
    board.haunt('DROP-1')
    expect((await look()).events).toMatchObject([status('DROP-2', 'indeterminate')])
  })

  test('a clock that is far from that of Jira is told, once', async () => {
    await look()
    await look()
    const about = () => said.filter(one => one.includes('the clock of this machine'))
    expect(about()).toEqual([
      'the clock of this machine is 1200 s ahead of that of Jira: what came first, a move there or a command here, may be judged wrong',
    ])
    off = 0
    await look()
    expect(about().at(-1)).toBe('the clock of this machine: well again')
  })

  test('more changes than a search shows are read one by one', async () => {
    await look()
    for (let n = 0; n < 60; n += 1) await board.move('DROP-1', n % 2 === 0 ? 'In Progress' : 'To Do')
    expect((await look()).events).toHaveLength(60)
  })

  test('a look costs two small requests, and one more when something moved for the first time', async () => {
    await look()
    const asked = async () => {
      const before = board.asked.length
      await look()
      return board.asked.slice(before).map(one => one.path.split('?')[0])
    }
    expect(await asked()).toEqual(['/rest/api/3/serverInfo', '/rest/api/3/search/jql'])
    await board.move('DROP-1', 'In Progress')
    expect(await asked()).toEqual([...['/rest/api/3/serverInfo', '/rest/api/3/search/jql', '/rest/api/3/status']])
    expect(await asked()).toEqual(['/rest/api/3/serverInfo', '/rest/api/3/search/jql'])
  })
})

describe('a whole bot without a webhook', () => {
  let stage: Stage
  beforeAll(async () => {
    stage = await openStage({
      people: {},
      issues: { 'DROP-1': 'one', 'DROP-2': 'two' },
      before: async (_github, jira) => {
        await jira.move('DROP-2', 'In Progress', { send: false })
      },
      settings: { JIRA_WEBHOOK_SECRET: null },
    })
    const looks = () => stage.jira.asked.filter(one => one.path.includes('/search/jql')).length
    await until('the second look', () => looks() > 1)
  })
  afterAll(() => stage.close())

  test('a move makes its machine; what was in progress before is left alone', async () => {
    await stage.jira.move('DROP-1', 'In Progress')
    await until('the create', () => stage.told('DROP-1').length > 0)
    expect(stage.actionsOf('DROP-1')[0]?.action).toMatchObject({
      kind: 'create',
      by: { via: 'jira', who: stage.jira.me.accountId },
    })
    expect(stage.told('DROP-2')).toEqual([])
  })

  test('a webhook of the same change has no second effect, nor one that comes while the bot is away', async () => {
    const payload = stage.jira.payloadOf('DROP-1', [{ field: 'status' }])
    const delivery = { source: 'jira', event: 'jira:issue_updated', lane: 'jira:DROP-1' } as const
    stage.queue.accept([{ ...delivery, id: 'a-webhook', body: JSON.stringify(payload), receivedAt: Date.now() }])
    await stage.stopBot()
    await stage.jira.move('DROP-2', 'To Do')
    await stage.jira.move('DROP-2', 'In Progress')
    await stage.startBot()
    expect(await stage.verdict('a-webhook')).toEqual({
      verdict: 'ignored',
      reason: 'another delivery told of this change',
    })
    await until('the other create', () => stage.told('DROP-2').length > 0)
    expect(stage.told('DROP-1')).toEqual(['create pending'])
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
    const looks = () => stage.jira.asked.filter(one => one.path.includes('/search/jql')).length
    await until('the second look', () => looks() > 1)
  })
  afterAll(() => stage.close())

  test('finds a move and tells that the machine is there, all of it through the gateway', async () => {
    await stage.jira.move('DROP-1', 'In Progress')
    await until('the create', () => stage.told('DROP-1').length > 0)
    await stage.heartbeat([])
    await stage.work(() => ({ result: 'done', environment: environmentOf('DROP-1'), summary: 'made', seconds: 1 }))
    await until('the comment', () => stage.jira.comments('DROP-1').find(one => one.includes('DROP-1 has its machine')))
    const { pathname } = new URL(stage.jira.scoped.url)
    expect(stage.jira.asked.filter(one => !one.path.startsWith(`${pathname}/rest/api/3/`))).toEqual([])
  })
})

describe('a token that is refused', () => {
  let board: JiraStandIn
  beforeAll(async () => {
    board = await startJira({ issues: { 'DROP-1': 'one' } })
  })
  afterAll(() => board.stop())
  const said = async (url: string, apiToken: string) => {
    const jira = openJira({ url, email: board.me.emailAddress, apiToken, webhookSecret: null })
    const error = await jira.me().catch(error => error)
    expect(error).toMatchObject({ failure: { kind: 'permission' }, status: 401 })
    return `${error.failure.message}. ${error.failure.remedy}`
  }

  test('at the site: one with scopes belongs elsewhere, and how that is found', async () => {
    const told = await said(board.url, board.scoped.token)
    expect(told).toContain('set JIRA_HOST to https://api.atlassian.com/ex/jira/<cloudId>')
    expect(told).toContain(`${board.url}/_edge/tenant_info`)
    expect(told).toContain('agent-swarm init')
  })
  test('at the gateway: one without scopes belongs to the site', async () => {
    expect(await said(board.scoped.url, board.token)).toContain('set JIRA_HOST to that, as example.atlassian.net')
  })
  test('for a scope: which ones are needed', async () => {
    board.scoped.scopes.delete('read:jira-user')
    expect(await said(board.scoped.url, board.scoped.token)).toMatch(
      /the token lacks a scope\. .*read:jira-user, read:jira-work and write:jira-work/,
    )
  })
})
