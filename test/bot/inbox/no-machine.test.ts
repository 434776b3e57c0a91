/** Moves into progress: which of them make a machine, and what people are told where none comes of one. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { decide } from '../../../src/bot/inbox/decide.ts'
import { fail } from '../../../src/errors.ts'
import { type Desk, openDesk, tickets } from '../desk.ts'

let desk: Desk
let count = 0
let ticket = ''
let ahead = 0
beforeAll(async () => {
  desk = await openDesk({ issues: tickets(40), clock: () => Date.now() + ahead })
  await desk.caughtUp()
})
afterAll(() => desk.close())
beforeEach(() => {
  count += 1
  ticket = `DROP-${count}`
})

const notes = async () =>
  (await desk.store.outbox.due(1_000)).flatMap(({ body }) =>
    body.kind === 'jira-note' && body.ticket === ticket && body.note.kind === 'no-machine' ? body.note.why : [],
  )
const states = () => desk.states(ticket)
const lastItems = () => desk.jira.issue(ticket)?.histories.at(-1)?.items ?? []
/** The webhook of the last change, by somebody else or with other members. */
const deliver = async (more: object = {}) => {
  await desk.jira.deliver({ ...desk.jira.payloadOf(ticket, lastItems()), ...more })
  await desk.decided()
}
const automate = async () => {
  await desk.jira.deliver({ issue: { key: ticket } })
  await desk.decided()
}
const ofOther = { user: { accountId: 'other', displayName: 'Other' } }
/** A machine that somebody made by hand and deleted by hand while the ticket was in its status. */
const tryOut = async () => {
  await desk.machine(ticket)
  await desk.gone(ticket)
}

const ways: Record<string, () => Promise<void>> = {
  'a webhook': () => deliver(),
  'a webhook with its types mixed up': () =>
    deliver({ timestamp: '2019-1-30 15:51:34,870', user: 7, changelog: { id: 5, items: lastItems() } }),
  'catching up': () => desk.caughtUp(),
  automation: automate,
  "a workflow's post function": () => deliver({ webhookEvent: undefined, changelog: undefined, transition: {} }),
  'a webhook without its event': () => deliver({ webhookEvent: undefined }),
}

test.for(Object.keys(ways))('after a trial machine in the backlog, %s still makes one', async way => {
  await tryOut()
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await ways[way]?.()
  await ways[way]?.()
  expect([await states(), await notes()]).toEqual([['create pending'], []])
})

test('a move seconds after the delete makes one, also when the runner reports the delete after it', async () => {
  await desk.machine(ticket)
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  expect(await states()).toEqual([])
  await desk.gone(ticket)
  await desk.decided()
  expect(await states()).toEqual(['create pending'])
})

test('a move seconds after the delete makes one, also when a poll finds it later', async () => {
  await desk.machine(ticket)
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await desk.gone(ticket)
  await desk.caughtUp()
  expect(await states()).toEqual(['create pending'])
})

test('a machine that was deleted in progress comes back only by way of the backlog, and that is told once', async () => {
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await tryOut()
  await desk.jira.move(ticket, 'In Review')
  await desk.jira.move(ticket, 'Done')
  await desk.decided()
  expect([await states(), await notes()]).toEqual([[], []])
  await desk.jira.move(ticket, 'In Progress')
  await desk.jira.move(ticket, 'Done')
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  expect([await states(), await notes()]).toEqual([[], ['ended']])
  await desk.jira.move(ticket, 'To Do')
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  expect(await states()).toEqual(['create pending'])
})

test('whoever moves a ticket of nobody is told, and the assignment then makes the machine', async () => {
  await desk.jira.assign(ticket, null)
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  expect([await states(), await notes()]).toEqual([[], ['assigned-to-nobody']])
  await desk.jira.assign(ticket, desk.jira.me.accountId)
  await desk.decided()
  expect(await states()).toEqual(['create pending'])
})

test('whoever gets a ticket in progress whose machine was deleted is told, and whoever gives one away is not', async () => {
  await desk.jira.assign(ticket, 'another')
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  await tryOut()
  await desk.jira.assign(ticket, desk.jira.me.accountId)
  await desk.decided()
  // The mover, whose tickets get machines, read before that it was somebody else's.
  expect([await states(), await notes()]).toEqual([[], ['assigned-to-other', 'ended']])
  await desk.jira.assign(ticket, 'another')
  await desk.decided()
  expect([await states(), await notes()]).toEqual([[], ['assigned-to-other', 'ended']])
  expect((await desk.store.tickets.get(ticket)).decided?.noMachine?.reason).toBe(
    `${ticket} is assigned to somebody else`,
  )
})

test("other people's tickets are not commented", async () => {
  await desk.jira.assign(ticket, 'another')
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await deliver(ofOther)
  expect([await states(), await notes()]).toEqual([[], []])
})

test("the assignee is told of another person's move", async () => {
  await desk.jira.move(ticket, 'Done', { send: false })
  await tryOut()
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await deliver(ofOther)
  expect(await notes()).toEqual(['ended'])
})

test('what catching up finds is not commented; the reason is kept for /swarm status', async () => {
  await desk.jira.assign(ticket, null)
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await desk.caughtUp()
  expect([await states(), await notes()]).toEqual([[], []])
  const { decided } = await desk.store.tickets.get(ticket)
  expect(decided?.noMachine).toMatchObject({ reason: `${ticket} is assigned to nobody`, at: expect.any(Number) })
  await desk.jira.assign(ticket, desk.jira.me.accountId)
  await desk.decided()
  expect((await desk.store.tickets.get(ticket)).decided?.noMachine).toBeNull()
})

test('automation reports what is new, once, whichever way it is reported besides', async () => {
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await automate()
  await deliver()
  await desk.caughtUp()
  await automate()
  expect(await states()).toEqual(['create pending'])
  expect((await desk.store.inbox.list([], 1))[0]?.reason).toBe(`read again: nothing new happened to ${ticket}`)
  const [{ action } = {}] = await desk.store.queue.list({ ticket })
  expect(action?.by).toEqual({
    ...{ via: 'jira', who: desk.jira.me.accountId, name: 'Dev' },
    ...{ cause: 'ticket moved', movedTo: 'In Progress' },
  })
})

test('automation does not undo what a person did', async () => {
  await desk.jira.move(ticket, 'In Progress')
  await desk.decided()
  await desk.machine(ticket)
  await desk.jira.write(ticket, '/swarm stop')
  await desk.decided()
  const before = await states()
  await automate()
  expect(await states()).toEqual(before)
})

test('a project that is not served is not read for automation', async () => {
  const before = desk.jira.requests.length
  await desk.jira.deliver({ issue: { key: 'AWAY-1' } })
  await desk.decided()
  expect([(await desk.store.inbox.list([], 1))[0]?.reason, desk.jira.requests.length]).toEqual([
    'AWAY is not served here',
    before,
  ])
})

test('a post function that comes before its transition is written down waits for it, a minute at most', async () => {
  const early = () => desk.jira.deliver({ transition: { to_status: 'In Progress' }, issue: { key: ticket } })
  await early()
  expect(await desk.decided()).toEqual([`reading ${ticket} in Jira: it does not show the transition yet`])
  await desk.jira.move(ticket, 'In Progress', { send: false })
  expect(await desk.decided()).toEqual([])
  expect(await states()).toEqual(['create pending'])
  // Both a webhook and a post function may tell of one transition.
  await early()
  expect(await desk.decided()).toEqual([])
  count += 1
  ticket = `DROP-${count}`
  await early()
  expect(await desk.decided()).toHaveLength(1)
  ahead += 61_000
  expect(await desk.decided()).toEqual([])
  expect(await states()).toEqual([])
})

test('a move that waits because the rules cannot be read is told, once', async () => {
  const failure = Object.assign(fail('network', 'reading the rules'), { allows: 'later', in: null } as const)
  const rulesOfTicket = async () => {
    throw failure
  }
  await desk.jira.move(ticket, 'In Progress')
  const [delivery] = await desk.store.inbox.due(1)
  if (delivery === undefined) throw new Error('nothing is due')
  const attempt = (n: number, more = {}) =>
    expect(decide({ ...desk.context, rulesOfTicket, ...more }, { ...delivery, attempt: n })).rejects.toBe(failure)
  await attempt(4)
  await attempt(5, { explain: false })
  expect(await notes()).toEqual([])
  for (const n of [5, 6, 5]) await attempt(n)
  expect(await notes()).toEqual(['unreadable'])
  await desk.store.inbox.release(delivery.seq)
  await desk.decided()
  expect(await states()).toEqual(['create pending'])
})

test('a state that Jira shows only after its event is waited for, a minute at most', async () => {
  const issue = desk.jira.issue(ticket)
  if (issue === undefined) throw new Error('no such issue')
  await desk.jira.move(ticket, 'In Progress', { send: false })
  const payload = desk.jira.payloadOf(ticket, lastItems())
  const shown = issue.histories.splice(0)
  issue.status = 'To Do'
  await desk.jira.deliver({ ...payload, timestamp: Date.now() + ahead })
  const late = `reading ${ticket}: Jira does not show yet what an event told of it; asking again`
  expect([await desk.decided(), await states()]).toEqual([[late], []])
  issue.histories.push(...shown)
  issue.status = 'In Progress'
  expect([await desk.decided(), await states()]).toEqual([[], ['create pending']])
  // Who it is assigned to, likewise. Here Jira shows it never.
  count += 1
  ticket = `DROP-${count}`
  await desk.jira.assign(ticket, 'another')
  await desk.jira.move(ticket, 'In Progress', { send: false })
  await desk.caughtUp()
  const assigned = desk.jira.payloadOf(ticket, [{ field: 'assignee' }])
  const { fields } = assigned.issue
  await desk.jira.deliver({
    ...{ ...assigned, timestamp: Date.now() + ahead, changelog: { id: '1', items: [{ field: 'assignee' }] } },
    issue: { ...assigned.issue, fields: { ...fields, assignee: { accountId: desk.jira.me.accountId } } },
  })
  expect(await desk.decided()).toHaveLength(1)
  ahead += 61_000
  expect([await desk.decided(), await states()]).toEqual([[], []])
})
