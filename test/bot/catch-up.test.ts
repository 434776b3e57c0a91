/** What webhooks missed is found at the next start, and becomes what it would have been. */
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openCatchUp } from '../../src/bot/catch-up.ts'
import { openGitHub } from '../../src/bot/github/open.ts'
import { openLog } from '../../src/log.ts'
import type { ManualOperation } from '../../src/schema/runner-protocol.ts'
import { openMemory } from '../../src/store/sqlite/memory.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { until } from '../support/wait.ts'
import { environmentOf, openStage, type Stage } from './stage.ts'

describe('a bot that was away', () => {
  let stage: Stage
  let ticket = ''
  let next = 0
  const known = new Map<string, ReturnType<typeof environmentOf>>()
  beforeAll(async () => {
    stage = await openStage({
      people: { dev: 'push', reader: 'pull' },
      issues: Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`DROP-${n + 1}`, 'a ticket'])),
      before: async (_github, jira) => {
        await jira.move('DROP-30', 'In Progress', { send: false })
      },
    })
    await stage.caughtUp()
  })
  afterAll(() => stage.close())
  beforeEach(() => {
    next += 1
    ticket = `DROP-${next}`
  })
  const heartbeat = (asked: ManualOperation[] = []) => stage.heartbeat([...known.values()], { asked })
  const machine = async (more: Parameters<typeof environmentOf>[1] = {}) => {
    known.set(ticket, environmentOf(ticket, more))
    expect((await heartbeat()).ok).toBe(true)
  }
  const pullRequest = async () => {
    await stage.github.push(`${ticket.toLowerCase()}-work`)
    const number = await stage.github.open(`${ticket.toLowerCase()}-work`, 'work')
    await stage.decided()
    return number
  }
  /** Nothing arrives of what happens `meanwhile`; `untold`: not even GitHub's list of deliveries knows of it. */
  const lost = async (meanwhile: () => Promise<unknown>, how: 'untold' | 'failed' = 'untold') => {
    stage.github.lose(how)
    stage.jira.lose(true)
    await meanwhile()
    stage.github.lose(null)
    stage.jira.lose(false)
  }
  const missed = async (...how: Parameters<typeof lost>) => {
    await lost(...how)
    await stage.caughtUp()
  }
  const asked = () => stage.told(ticket).filter(one => !one.startsWith('checkpoint'))

  test('a ticket that was moved in progress while it was away gets its machine, asked for by whoever moved it', async () => {
    await stage.stopBot()
    await lost(() => stage.jira.move(ticket, 'In Progress'))
    await stage.startBot()
    await until('the create', () => asked().length > 0)
    expect(stage.actionsOf(ticket).map(one => one.action)).toMatchObject([
      { kind: 'create', by: { via: 'jira', who: stage.jira.me.accountId } },
    ])
    await stage.caughtUp()
    expect(asked()).toEqual(['create pending'])
  })

  test.for<[string, 'To Do' | 'Done', boolean, string[]]>([
    ['moved back to the backlog is stopped', 'To Do', false, ['stop pending']],
    ['done is deleted when it never had a pull request', 'Done', false, ['delete pending']],
    ['done is stopped when it had one', 'Done', true, ['stop pending']],
  ])('a ticket that was %s', async ([, to, had, expected]) => {
    await stage.jira.move(ticket, 'In Progress')
    await stage.decided()
    await machine()
    if (had) await pullRequest()
    await missed(() => stage.jira.move(ticket, to))
    expect(asked()).toEqual(['create pending', ...expected])
  })

  test('done is stopped, and not deleted, also when its pull request was opened while nobody looked', async () => {
    await machine()
    await missed(async () => {
      await stage.github.push(`${ticket}-work`)
      await stage.github.open(`${ticket}-work`, 'work')
      await stage.jira.move(ticket, 'Done')
    })
    expect(asked()).toEqual(['stop pending'])
  })

  test.for<['merge' | 'close', string]>([
    ['merge', 'delete pending'],
    ['close', 'stop pending'],
  ])('a %s is found', async ([how, expected]) => {
    await machine()
    const number = await pullRequest()
    await missed(() => stage.github[how](number))
    expect(asked()).toEqual([expected])
    await missed(async () => {})
    expect(asked()).toEqual([expected])
  })

  test.for<['merge' | 'close', string]>([
    ['merge', 'delete pending'],
    ['close', 'stop pending'],
  ])('a %s is found, also when an event that asks for nothing saw it first', async ([how, expected]) => {
    await machine()
    const number = await pullRequest()
    await lost(() => stage.github[how](number))
    const pull_request = await stage.github.pull(number)
    const common = await stage.github.common('dev')
    await stage.github.deliver('pull_request', { action: 'edited', changes: {}, number, pull_request, ...common })
    await stage.decided()
    await missed(async () => {})
    expect(asked()).toEqual([expected])
  })

  test('done is found, also when an assignment saw it first', async () => {
    await stage.jira.move(ticket, 'In Progress')
    await stage.decided()
    await machine()
    await lost(() => stage.jira.move(ticket, 'Done'))
    await stage.jira.assign(ticket, 'somebody-else')
    await stage.decided()
    // The search looks back for some minutes only.
    const memory = openMemory(join(stage.home, 'memory.db'), Date.now)
    memory.setPlace('jira', { ...memory.place<object>('jira'), at: Date.now() + 60 * 60_000 })
    memory.close()
    await missed(async () => {})
    expect(asked()).toEqual(['create pending', 'delete pending'])
  })

  test('a merge of a pull request that nobody told of is found', async () => {
    await machine()
    await missed(async () => {
      await stage.github.push(`${ticket}-quiet`)
      await stage.github.merge(await stage.github.open(`${ticket}-quiet`, 'quiet'))
    })
    expect(asked()).toEqual(['delete pending'])
  })

  test('a pull request that was reopened starts its machine', async () => {
    await machine({ status: 'stopped' })
    const number = await pullRequest()
    await stage.github.close(number)
    await stage.decided()
    await missed(() => stage.github.reopen(number))
    expect(asked()).toEqual(['start pending'])
  })

  test('what a person did by hand after that holds', async () => {
    const by = { via: 'cli', who: 'dev' } as const
    await missed(async () => {
      await stage.jira.move(ticket, 'In Progress')
      const moved = stage.jira.issue(ticket)?.histories.at(-1)?.at ?? 0
      await until('a later moment', () => Date.now() > moved)
      await heartbeat([{ id: next, ticket, kind: 'delete', by, at: new Date().toISOString() }])
    })
    expect(asked()).toEqual([])
    const rows = stage.queue.deliveries({ words: ['ignored'], limit: 9 })
    expect(rows.map(one => one.reason)).toContain('dev asked for delete after that')
  })

  test('that a search or a list does not show something is no evidence', async () => {
    await machine()
    stage.jira.hide(ticket)
    ticket = 'DROP-777'
    await machine()
    await missed(async () => {})
    expect([asked(), stage.told(`DROP-${next}`)]).toEqual([[], []])
  })

  test('with Jira and GitHub out of reach nothing is done, and afterwards all of it', async () => {
    await machine()
    const number = await pullRequest()
    await missed(async () => {
      await stage.github.merge(number)
      stage.jira.setDown(true)
      for (let n = 0; n < 40; n += 1) stage.github.faults.push({ match: /^GET /, answer: { status: 502 } })
    })
    expect(asked()).toEqual([])
    stage.jira.setDown(false)
    stage.github.faults.length = 0
    await stage.caughtUp()
    expect(asked()).toEqual(['delete pending'])
  })

  test('deliveries that failed are sent again, and take effect once', async () => {
    await machine()
    const number = await pullRequest()
    const before = stage.github.deliveries.length
    await missed(async () => {
      await stage.github.push(`${ticket.toLowerCase()}-work`)
      await stage.github.comment(number, '/swarm stop')
      await stage.github.comment(number, 'a word between people')
    }, 'failed')
    const again = () => stage.github.deliveries.slice(before).filter(one => one.redelivery)
    expect(again().map(one => [one.event, one.status_code])).toEqual([
      ['push', 202],
      ['issue_comment', 202],
      ['issue_comment', 202],
    ])
    await stage.decided()
    expect(stage.told(ticket).slice(-2)).toEqual(['checkpoint pending', 'stop pending'])
    await missed(async () => {})
    expect(again()).toHaveLength(3)
    expect(stage.told(ticket).slice(-2)).toEqual(['checkpoint pending', 'stop pending'])
  })

  test('a command that comes late does nothing against what was asked for after it', async () => {
    await machine()
    const number = await pullRequest()
    await lost(() => stage.github.comment(number, '/swarm delete'))
    const late = stage.github.lost().at(-1) ?? {}
    const { created_at } = late.comment as { created_at: string }
    await until('another second', () => Date.now() > Date.parse(created_at) + 1_000)
    await stage.github.comment(number, '/swarm stop')
    await stage.decided()
    await stage.github.deliver('issue_comment', late)
    await stage.decided()
    expect(asked()).toEqual(['stop pending'])
  })

  test('what was refused takes effect when it is sent again and may be now', async () => {
    await machine()
    const number = await pullRequest()
    await stage.github.comment(number, '/swarm stop', 'reader')
    const { guid, payload } = stage.github.deliveries.at(-1) ?? { guid: '', payload: {} }
    expect(await stage.verdict(guid)).toMatchObject({ verdict: 'refused' })
    await stage.github.api('acme', 'PUT', `/repos/${stage.github.repo}/collaborators/reader`, { permission: 'push' })
    await stage.github.deliverBroken('issue_comment', payload, guid)
    await stage.decided()
    expect(asked()).toEqual(['stop pending'])
  })

  test('what was in progress before the first start is told with what would be made, and made when somebody wants it', async () => {
    const rows = stage.queue.deliveries({ words: ['first:DROP-30'], limit: 1 })
    expect(rows).toMatchObject([{ event: 'first look', verdict: 'ignored', reason: /^would create DROP-30; / }])
    expect(stage.told('DROP-30')).toEqual([])
    await stage.stopBot()
    expect(stage.queue.replay('first:DROP-30')).toBe('again')
    await stage.startBot()
    await stage.caughtUp()
    expect(stage.told('DROP-30')).toEqual(['create pending'])
  })

  test('a look at an idle world costs GitHub nothing, and Jira its clock and a request for each hundred tickets', async () => {
    const from = { github: stage.github.asked.length, jira: stage.jira.asked.length }
    await stage.caughtUp()
    await stage.caughtUp()
    // Comments that are still published are the publisher's.
    const spent = stage.github.asked
      .slice(from.github)
      .filter(one => one.status !== 304 && !one.path.includes('/issues/'))
    expect(new Set(spent.map(one => one.path.split('?')[0]))).toEqual(new Set(['/app/hook/deliveries']))
    expect(stage.jira.asked.slice(from.jira).map(one => one.path.split('?')[0])).toEqual([
      ...['/rest/api/3/serverInfo', '/rest/api/3/search/jql'],
      ...['/rest/api/3/search/jql', '/rest/api/3/issue/bulkfetch'],
      ...['/rest/api/3/serverInfo', '/rest/api/3/search/jql'],
      ...['/rest/api/3/search/jql', '/rest/api/3/issue/bulkfetch'],
    ])
  })
})

test('a bot that could not look at GitHub since its first start deletes nothing of what is done', async () => {
  const stage = await openStage({
    people: {},
    issues: { 'DROP-1': 'one' },
    before: async github => {
      for (let n = 0; n < 40; n += 1)
        github.faults.push({ match: /^GET \/(app|installation)/, answer: { status: 502 } })
    },
  })
  onTestFinished(() => stage.close())
  await stage.caughtUp()
  expect((await stage.heartbeat([environmentOf('DROP-1')])).ok).toBe(true)
  await stage.jira.move('DROP-1', 'Done')
  await stage.decided()
  expect(stage.told('DROP-1')).toEqual(['stop pending'])
})

describe('deliveries that failed', () => {
  let hub: GitHubStandIn
  let now: number
  let memory: ReturnType<typeof openMemory>
  const taken = new Set<string>()
  beforeEach(async () => {
    hub = await startGitHub()
    onTestFinished(() => hub.stop())
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    now = Date.now()
    memory = openMemory(':memory:', () => now)
    taken.clear()
  })
  const round = async () => {
    vi.setSystemTime(now)
    const log = openLog('silent')
    const github = await openGitHub(
      { via: 'app', appId: hub.app.id, privateKey: hub.app.privateKey, webhookSecret: WEBHOOK_SECRET, apiUrl: hub.url },
      {
        ...{ log, paced: false, installationOf: () => null },
        decide: async () => {
          throw new Error('nothing is decided here')
        },
      },
    )
    const queue = { taken: ({ id }: { id: string }) => taken.has(id) }
    const before = hub.asked.length
    await openCatchUp({ github, looks: [], queue, memory, clock: () => now, log }).round()
    const attempts = hub.asked.slice(before).flatMap(one => one.path.match(/deliveries\/(\d+)\/attempts$/)?.[1] ?? [])
    const lists = hub.asked.slice(before).filter(one => one.path.includes('/hook/deliveries?'))
    return { attempts: attempts.map(Number), lists: lists.length }
  }
  /** A delivery as GitHub's list shows it. */
  const listed = (guid: string, status_code: number, event = 'push', at = now) => {
    const id = hub.deliveries.length + 1_000
    const delivered_at = new Date(at).toISOString()
    hub.deliveries.push({ id, guid, delivered_at, redelivery: false, status: '', status_code, event, payload: {} })
    return id
  }

  test('are those that never arrived, in their order; not what we have, what arrived later, or what means nothing', async () => {
    listed('before the first start', 502)
    now += 60_000
    expect((await round()).attempts).toEqual([])
    now += 60_000
    const first = listed('one', 502)
    listed('had', 502)
    listed('arrived', 504)
    listed('arrived', 202)
    listed('a star', 502, 'star')
    listed('twice', 0)
    const second = listed('twice', 0)
    taken.add('had')
    expect((await round()).attempts).toEqual([first, second])
  })

  test('are asked for three times, and not for ever', async () => {
    await round()
    const asked: number[] = []
    for (let n = 0; n < 6; n += 1) {
      now += 15 * 60_000
      listed('bad', 500)
      asked.push((await round()).attempts.length)
    }
    expect(asked).toEqual([1, 1, 1, 0, 0, 0])
  })

  test('are found over many pages, and asked for some at a time; what is three days old is let go', async () => {
    await round()
    now += 5 * 24 * 60 * 60_000
    listed('long ago', 502, 'push', now - 4 * 24 * 60 * 60_000)
    for (let n = 0; n < 130; n += 1) listed(`lost ${n}`, 502)
    const first = await round()
    expect(first.attempts).toHaveLength(100)
    expect(first.lists).toBe(2)
    now += 15 * 60_000
    for (const { guid } of hub.deliveries.slice(0, 101)) taken.add(guid)
    expect((await round()).attempts).toHaveLength(30)
    now += 15 * 60_000
    for (const { guid } of hub.deliveries) taken.add(guid)
    expect((await round()).attempts).toEqual([])
  })
})
