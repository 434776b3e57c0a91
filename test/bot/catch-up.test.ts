/** What webhooks missed is found, and becomes what it would have been. */
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest'
import { environmentOf } from '../store/fixtures.ts'
import { until } from '../support/wait.ts'
import { type Desk, openDesk, tickets } from './desk.ts'
import { openStage } from './stage.ts'

let desk: Desk
let ticket = ''
let count = 0
/** Added to the clock of this process. */
let ahead = 0
beforeAll(async () => {
  desk = await openDesk({
    people: { dev: 'push', reader: 'pull' },
    issues: tickets(30),
    clock: () => Date.now() + ahead,
    before: async (github, jira) => {
      // What ends within the second after the first poll is taken for older than it.
      github.budget.behind = 2_000
      await jira.move('DROP-30', 'In Progress', { send: false })
    },
  })
  await desk.caughtUp()
  desk.github.budget.behind = 0
})
afterAll(() => desk.close())
beforeEach(() => {
  count += 1
  ticket = `DROP-${count}`
})
const machine = (more: Parameters<Desk['machine']>[1] = {}) => desk.machine(ticket, more)
const pullRequest = async () => {
  await desk.github.push(`${ticket.toLowerCase()}-work`)
  const number = await desk.github.open(`${ticket.toLowerCase()}-work`, 'work')
  await desk.decided()
  return number
}
/** Nothing of what happens in `work` arrives. `untold`: not even GitHub's list of deliveries knows of it. */
const lost = async (work: () => Promise<unknown>, how: 'untold' | 'failed' = 'untold') => {
  desk.github.lose(how)
  desk.jira.lose(true)
  await work()
  desk.github.lose(null)
  desk.jira.lose(false)
}
const missed = async (...parameters: Parameters<typeof lost>) => {
  await lost(...parameters)
  await desk.caughtUp()
}
const states = async () => (await desk.states(ticket)).filter(state => !state.startsWith('checkpoint'))
const later = async (than: number) => {
  while (Date.now() <= than) await new Promise(resolve => setImmediate(resolve))
}

test('a ticket that was moved in progress gets its machine, requested by whoever moved it, once', async () => {
  await missed(() => desk.jira.move(ticket, 'In Progress'))
  const by = { via: 'jira', who: desk.jira.me.accountId }
  expect(await desk.actionsOf(ticket)).toMatchObject([{ kind: 'create', by }])
  await desk.caughtUp()
  expect(await states()).toEqual(['create pending'])
})

test.for<[string, 'To Do' | 'Done', boolean, string[]]>([
  ['moved back to the backlog is stopped', 'To Do', false, ['stop pending']],
  ['done is deleted when it never had a pull request', 'Done', false, ['delete pending']],
  ['done is stopped when it had one', 'Done', true, ['stop pending']],
])('a ticket that was %s', async ([, to, had, expected]) => {
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  await machine()
  if (had) await pullRequest()
  await missed(() => desk.jira.move(ticket, to))
  expect(await states()).toEqual(['create pending', ...expected])
})

test('done is stopped, and not deleted, also when its pull request was opened unreported', async () => {
  await machine()
  await missed(async () => {
    await desk.github.push(`${ticket}-work`)
    await desk.github.open(`${ticket}-work`, 'work')
    await desk.jira.move(ticket, 'Done')
  })
  expect(await states()).toEqual(['stop pending'])
})

test.for<['merge' | 'close', string]>([
  ['merge', 'delete pending'],
  ['close', 'stop pending'],
])('a %s is found, once', async ([how, expected]) => {
  await machine()
  const number = await pullRequest()
  await missed(() => desk.github[how](number))
  expect(await states()).toEqual([expected])
  await missed(async () => {})
  expect(await states()).toEqual([expected])
})

test.for<['merge' | 'close', string]>([
  ['merge', 'delete pending'],
  ['close', 'stop pending'],
])('a %s is found, also when another event saw it first without acting on it', async ([how, expected]) => {
  await machine()
  const number = await pullRequest()
  await lost(() => desk.github[how](number))
  const pull_request = await desk.github.pull(number)
  const common = await desk.github.common('dev')
  await desk.github.deliver('pull_request', { action: 'edited', changes: {}, number, pull_request, ...common })
  await desk.decided()
  await missed(async () => {})
  expect(await states()).toEqual([expected])
})

test('done is found, also when an assignment saw it first, and long after the search shows it', async () => {
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  await machine()
  await lost(() => desk.jira.move(ticket, 'Done'))
  await desk.jira.assign(ticket, 'somebody-else')
  await desk.decided()
  // The search looks back a few minutes only.
  const cursor = await desk.store.cursors.get<object>('jira')
  await desk.store.cursors.set('jira', { ...cursor, at: Date.now() + 60 * 60_000 })
  await missed(async () => {})
  await desk.store.cursors.set('jira', cursor)
  expect(await states()).toEqual(['create pending', 'delete pending'])
})

test('the merge of a pull request that nobody reported is found', async () => {
  await machine()
  await missed(async () => {
    await desk.github.push(`${ticket}-quiet`)
    await desk.github.merge(await desk.github.open(`${ticket}-quiet`, 'quiet'))
  })
  expect(await states()).toEqual(['delete pending'])
})

test('a pull request that was reopened starts the machine that its close stopped', async () => {
  await machine()
  const number = await pullRequest()
  await desk.github.close(number)
  await desk.decided()
  await missed(() => desk.github.reopen(number))
  expect(await states()).toEqual(['stop pending', 'start pending'])
})

test('what a person did by hand later wins', async () => {
  const by = { via: 'cli', who: 'dev' } as const
  await missed(async () => {
    await desk.jira.move(ticket, 'In Progress')
    await later(desk.jira.issue(ticket)?.histories.at(-1)?.at ?? 0)
    await desk.heartbeat([{ id: count, ticket, kind: 'delete', by, at: new Date().toISOString() }])
  })
  expect(await states()).toEqual([])
  const [row] = await desk.store.inbox.list([{ word: 'ignored', lanes: [`jira:${ticket}`] }], 9)
  expect(row?.reason).toBe('dev requested delete after that')
})

test('that a search or a list does not show something proves nothing', async () => {
  await machine()
  desk.jira.hide(ticket)
  await desk.machine('DROP-777')
  await missed(async () => {})
  expect([await states(), await desk.states('DROP-777')]).toEqual([[], []])
})

test('with Jira and GitHub out of reach nothing happens, and afterwards everything', async () => {
  await machine()
  const number = await pullRequest()
  await missed(async () => {
    await desk.github.merge(number)
    desk.jira.setDown(true)
    for (let n = 0; n < 40; n += 1) desk.github.faults.push({ match: /^GET /, answer: { status: 502 } })
  })
  expect(await states()).toEqual([])
  desk.jira.setDown(false)
  desk.github.faults.length = 0
  await desk.caughtUp()
  expect(await states()).toEqual(['delete pending'])
})

test('failed deliveries are delivered again, and take effect once', async () => {
  await machine()
  const number = await pullRequest()
  const before = desk.github.deliveries.length
  await missed(async () => {
    await desk.github.push(`${ticket.toLowerCase()}-work`)
    await desk.github.comment(number, '/swarm stop')
    await desk.github.comment(number, 'talk between people')
  }, 'failed')
  const redeliveries = () => desk.github.deliveries.slice(before).filter(({ redelivery }) => redelivery)
  await until('the redeliveries', () => redeliveries().length === 3)
  await desk.decided()
  expect(redeliveries().map(({ event, status_code }) => [event, status_code])).toEqual([
    ['push', 202],
    ['issue_comment', 202],
    ['issue_comment', 202],
  ])
  const last = async () => (await desk.states(ticket)).slice(-2).sort()
  expect(await last()).toEqual(['checkpoint pending', 'stop pending'])
  await missed(async () => {})
  expect(redeliveries()).toHaveLength(3)
  expect(await last()).toEqual(['checkpoint pending', 'stop pending'])
})

test('a command that arrives late does nothing against what was requested after it', async () => {
  await machine()
  const number = await pullRequest()
  await lost(() => desk.github.comment(number, '/swarm delete'))
  const late = desk.github.lost().at(-1) ?? {}
  const comment = late.comment as { created_at: string }
  await desk.github.comment(number, '/swarm stop')
  await desk.decided()
  // Comments have whole seconds: it was written a second earlier.
  const created_at = new Date(Date.parse(comment.created_at) - 1_000).toISOString()
  await desk.github.deliver('issue_comment', { ...late, comment: { ...comment, created_at } })
  await desk.decided()
  expect(await states()).toEqual(['stop pending'])
})

test('a refused command takes effect when it is delivered again and permitted by then, and is answered', async () => {
  await machine()
  const number = await pullRequest()
  const commentId = await desk.github.comment(number, '/swarm stop', 'reader')
  await desk.decided()
  const { guid, payload } = desk.github.deliveries.at(-1) ?? { guid: '', payload: {} }
  expect(await desk.verdict(guid)).toMatchObject({ verdict: 'refused' })
  await desk.github.api('acme', 'PUT', `/repos/${desk.github.repo}/collaborators/reader`, { permission: 'push' })
  // A permission is remembered for ten minutes.
  ahead += 10 * 60_000 + 1_000
  await desk.github.deliverBroken('issue_comment', payload, guid)
  await desk.decided()
  expect(await states()).toEqual(['stop pending'])
  const requests = await desk.store.requests.ofComment({ repo: desk.github.repo, number, commentId })
  expect(requests.map(({ verdict }) => verdict)).toEqual(['allowed'])
})

test('what was in progress before the first start is shown with what it would lead to, and done on request', async () => {
  expect(await desk.verdict('first:DROP-30')).toMatchObject({
    verdict: 'ignored',
    reason: expect.stringMatching(/^would create DROP-30; /),
  })
  expect(await desk.states('DROP-30')).toEqual([])
  expect(await desk.store.inbox.replay('first:DROP-30')).toBe('again')
  await desk.decided()
  expect(await desk.states('DROP-30')).toEqual(['create pending'])
})

test('a look without news costs GitHub nothing, and Jira its clock and one request per hundred tickets', async () => {
  await desk.caughtUp()
  const before = { github: desk.github.requests.length, jira: desk.jira.requests.length }
  await desk.caughtUp()
  await desk.caughtUp()
  const counted = desk.github.requests.slice(before.github).filter(({ status }) => status !== 304)
  expect(new Set(counted.map(({ path }) => path.split('?')[0]))).toEqual(new Set(['/app/hook/deliveries']))
  expect(desk.jira.requests.slice(before.jira).map(({ path }) => path.split('?')[0])).toEqual([
    ...['/rest/api/3/serverInfo', '/rest/api/3/search/jql'],
    ...['/rest/api/3/search/jql', '/rest/api/3/issue/bulkfetch'],
    ...['/rest/api/3/serverInfo', '/rest/api/3/search/jql'],
    ...['/rest/api/3/search/jql', '/rest/api/3/issue/bulkfetch'],
  ])
})

test('a bot catches up at its start', async () => {
  const stage = await openStage({ people: { dev: 'push' }, issues: tickets(1) })
  onTestFinished(() => stage.close())
  await stage.caughtUp()
  await stage.stopBot()
  stage.jira.lose(true)
  await stage.jira.move('DROP-1', 'In Progress')
  stage.jira.lose(false)
  await stage.startBot()
  await until('the create', async () => (await stage.states('DROP-1')).length > 0)
  await stage.caughtUp()
  expect(await stage.states('DROP-1')).toEqual(['create pending'])
})

test('a bot that could not reach GitHub since its first start deletes nothing that is done', async () => {
  const offline = await openDesk({ people: {}, issues: tickets(1) })
  onTestFinished(() => offline.close())
  for (let n = 0; n < 40; n += 1)
    offline.github.faults.push({ match: /^GET \/(app|installation)/, answer: { status: 502 } })
  await offline.caughtUp()
  await offline.machine('DROP-1', environmentOf('DROP-1'))
  await offline.jira.move('DROP-1', 'Done')
  await offline.decided()
  expect(await offline.states('DROP-1')).toEqual(['stop pending'])
})
