/** Jira issues that are moved to another project and get another key. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { checkFork } from '../../../src/bot/github/fork.ts'
import { type Desk, openDesk, tickets } from '../desk.ts'

let desk: Desk
let count = 0
let [from, to] = ['', '']
beforeAll(async () => {
  desk = await openDesk({ issues: { ...tickets(20), 'WEB-100': 'web', 'AWAY-100': 'away' }, projects: ['DROP', 'WEB'] })
  await desk.caughtUp()
})
afterAll(() => desk.close())
beforeEach(() => {
  count += 1
  from = `DROP-${count}`
  to = `WEB-${count}`
})
const notes = async () =>
  (await desk.store.outbox.due(1_000)).flatMap(({ body }) =>
    body.kind === 'jira-note' && [from, to].includes(body.ticket) ? [{ ticket: body.ticket, note: body.note }] : [],
  )
const lastReason = async () => (await desk.store.inbox.list([{ word: 'jira', lanes: [] }], 1))[0]?.reason

test('the machine goes along when the new project is served', async () => {
  await desk.machine(from)
  await desk.jira.rekey(from, to)
  await desk.decided()
  expect(await desk.actionsOf(to)).toMatchObject([{ kind: 'move', ticket: to, from }])
  expect([await desk.states(from), await desk.store.tickets.current(from)]).toEqual([[], to])
  expect(await notes()).toEqual([])
})

test('what is queued follows, and later events use the new key', async () => {
  await desk.jira.move(from, 'In Progress')
  await desk.decided()
  await desk.jira.rekey(from, to)
  await desk.decided()
  await desk.jira.move(to, 'To Do')
  await desk.decided()
  expect(await desk.states(to)).toEqual(['create pending', 'move pending', 'stop pending'])
})

test('a move that also goes into progress, and makes no machine, is told under the new key', async () => {
  await desk.jira.assign(from, null)
  await desk.jira.rekey(from, to, { status: 'In Progress' })
  await desk.decided()
  expect(await notes()).toEqual([{ ticket: to, note: { kind: 'no-machine', why: 'assigned-to-nobody' } }])
})

test('the previous key stays an alias in branches, titles and commands', async () => {
  await desk.machine(from)
  await desk.jira.rekey(from, to)
  await desk.decided()
  await desk.machine(to)
  await desk.github.push(`${from}-work`)
  await desk.decided()
  const number = await desk.github.open(`${from}-work`, 'work')
  await desk.github.comment(number, '/swarm status')
  await desk.decided()
  await desk.github.merge(number)
  await desk.decided()
  expect(await desk.states(to)).toEqual(['move pending', 'checkpoint pending', 'status pending', 'delete pending'])
  expect((await desk.store.pullRequests.ofTicket(to)).map(link => link.number)).toEqual([number])
  expect(await desk.states(from)).toEqual([])
})

test('the open pull request under the previous key goes along, and its merge deletes the machine', async () => {
  await desk.machine(from)
  await desk.github.push(`${from}-work`)
  const number = await desk.github.open(`${from}-work`, 'work')
  await desk.decided()
  await desk.jira.rekey(from, to)
  await desk.decided()
  expect((await desk.store.pullRequests.ofTicket(to)).map(link => link.number)).toEqual([number])
  await desk.machine(to)
  await desk.github.merge(number)
  await desk.decided()
  expect(await desk.states(to)).toEqual(['checkpoint pending', 'move pending', 'delete pending'])
  expect(await desk.states(from)).toEqual([])
})

test('an answered command on a branch with the previous key is recorded for the new one', async () => {
  await desk.machine(from)
  await desk.jira.rekey(from, to)
  await desk.decided()
  await desk.github.push(`${from}-fork`)
  const number = await desk.github.open(`${from}-fork`, 'work')
  desk.github.forks.set(number, 'a'.repeat(40))
  await desk.github.comment(number, '/swarm stop')
  await desk.decided()
  expect(await desk.store.requests.audit(to, 1)).toMatchObject([
    { what: '/swarm stop', verdict: 'refused', ticket: to },
  ])
  expect(await desk.states(to)).not.toContain('stop pending')
})

test('a command that was allowed on the commit of a fork still runs under the new key', async () => {
  const number = await desk.github.open(`${from}-fork`, 'work')
  const onlyAt = 'b'.repeat(40)
  desk.github.forks.set(number, onlyAt)
  await desk.jira.rekey(from, to)
  await desk.decided()
  const replyTo = { repo: 'acme/shop', number, commentId: 1, line: 0 }
  const stop = { kind: 'stop', ticket: to, by: { via: 'github', who: 'dev' }, replyTo, onlyAt } as const
  expect(await checkFork(desk.context, stop)).toBeNull()
  expect(await checkFork(desk.context, { ...stop, ticket: 'WEB-99' })).toMatchObject({ kind: 'refused' })
  expect(await checkFork(desk.context, { ...stop, onlyAt: 'c'.repeat(40) })).toMatchObject({ kind: 'refused' })
})

test('a machine that waits for its delete goes along too', async () => {
  await desk.machine(from)
  await desk.store.queue.enqueue({
    ...{ id: `delete-${from}`, correlation: 'merged' },
    action: { kind: 'delete', ticket: from, force: false, by: { via: 'github', who: 'dev' }, replyTo: null },
  })
  await desk.jira.rekey(from, to)
  await desk.decided()
  expect(await desk.states(to)).toEqual(['delete pending', 'move pending'])
})

test('a move that is reported after the new key got a machine makes the previous key its alias', async () => {
  await desk.machine(to)
  await desk.jira.rekey(from, to)
  await desk.decided()
  expect([await lastReason(), await desk.store.tickets.current(from)]).toEqual([`${from} is ${to} now`, to])
  expect(await desk.states(to)).toEqual([])
})

test('a late event under the previous key is about the new one', async () => {
  await desk.machine(from)
  await desk.jira.move(from, 'In Progress', { send: false })
  const late = desk.jira.payloadOf(from, [{ field: 'status' }])
  await desk.jira.rekey(from, to, { status: 'To Do' })
  await desk.decided()
  await desk.machine(to, { status: 'stopped' })
  await desk.jira.move(to, 'In Progress', { send: false })
  await desk.jira.deliver(late)
  await desk.decided()
  expect((await desk.states(to)).at(-1)).toBe('start pending')
  expect(await desk.states(from)).toEqual([])
})

test('a move that changes the status as well does both', async () => {
  await desk.machine(from)
  await desk.jira.move(from, 'In Progress')
  await desk.decided()
  await desk.jira.rekey(from, to, { status: 'To Do' })
  await desk.decided()
  expect(await desk.states(to)).toEqual(['move pending', 'stop pending'])
})

test('when both keys have a machine, the one of the previous key is stopped, with a note', async () => {
  await desk.machine(from)
  await desk.machine(to)
  await desk.jira.rekey(from, to)
  await desk.decided()
  expect([await desk.states(from), await desk.states(to)]).toEqual([['stop pending'], []])
  expect(await notes()).toEqual([{ ticket: to, note: { kind: 'not-moved', from, reason: 'two-machines' } }])
  expect(await desk.store.tickets.current(from)).toBe(from)
})

test('when the new project is not served, the machine is stopped, with a note', async () => {
  to = `AWAY-${count}`
  await desk.machine(from)
  await desk.jira.rekey(from, to)
  await desk.decided()
  expect([await desk.states(from), await desk.states(to)]).toEqual([['stop pending'], []])
  expect(await notes()).toEqual([{ ticket: to, note: { kind: 'not-moved', from, reason: 'project-not-served' } }])
})

test('an issue that comes from a project that is not served is new here', async () => {
  const away = `AWAY-${count}`
  desk.jira.create(away, 'In Progress')
  await desk.jira.rekey(away, to)
  await desk.decided()
  expect(await desk.states(to)).toEqual(['create pending'])
})

test('a move between projects that are not served is ignored, without a request', async () => {
  const before = desk.jira.requests.length
  await desk.jira.deliver({
    webhookEvent: 'jira:issue_updated',
    issue: { key: 'AWAY-2', fields: {} },
    changelog: { id: '1', items: [{ field: 'Key', fromString: 'FAR-1', toString: 'AWAY-2' }] },
  })
  await desk.decided()
  expect([await lastReason(), desk.jira.requests.length]).toEqual(['AWAY is not served here', before])
})

test('a poll finds the move that no webhook reported, once', async () => {
  await desk.machine(from)
  await desk.jira.rekey(from, to, { send: false })
  await desk.caughtUp()
  await desk.caughtUp()
  expect(await desk.states(to)).toEqual(['move pending'])
})

test('comparing finds the move to a project that no poll searches, once', async () => {
  to = `AWAY-${count}`
  await desk.machine(from)
  await desk.jira.rekey(from, to, { send: false })
  await desk.caughtUp()
  await desk.caughtUp()
  expect(await desk.states(from)).toEqual(['stop pending'])
  expect(await notes()).toHaveLength(1)
})

test('an issue that moves back gets its first key again, and late or repeated reports change nothing', async () => {
  await desk.machine(from)
  await desk.jira.rekey(from, to, { send: false })
  const first = desk.jira.payloadOf(to, desk.jira.issue(to)?.histories.at(-1)?.items ?? [])
  await desk.jira.deliver(first)
  await desk.decided()
  await desk.machine(to)
  await desk.jira.rekey(to, from)
  await desk.decided()
  expect((await desk.states(from)).filter(state => state.startsWith('move'))).toHaveLength(2)
  expect([await desk.store.tickets.current(to), await desk.store.tickets.current(from)]).toEqual([from, from])
  await desk.jira.deliver({ ...first, changelog: { ...first.changelog, id: 'another' } })
  await desk.decided()
  expect(await lastReason()).toBe(`${from} is already known as ${from}`)
  expect(await desk.store.tickets.current(to)).toBe(from)
})
