/** What happens to the attempts of a ticket when something happens to the ticket, and to the pull request of one. */
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { openAfterMerge } from '../../../src/bot/open-after-merge.ts'
import { type Desk, openDesk, tickets } from '../desk.ts'

let desk: Desk
let count = 0
let [ticket, one, two] = ['', '', '']
beforeAll(async () => {
  desk = await openDesk({ issues: tickets(20), projects: ['DROP', 'WEB'] })
  await desk.caughtUp()
})
afterAll(() => desk.close())
beforeEach(async () => {
  count += 1
  ticket = `DROP-${count}`
  one = `${ticket}~1`
  two = `${ticket}~2`
  await desk.jira.move(ticket, 'In Progress')
  for (const key of [ticket, one, two]) await desk.machine(key)
  await desk.decided()
})
const states = async (...keys: string[]) => (await Promise.all(keys.map(desk.states))).flat()

test('To Do stops them, but not one that a person started since', async () => {
  await desk.jira.move(ticket, 'To Do')
  const moved = Date.now()
  await vi.waitUntil(() => Date.now() > moved, { interval: 1 })
  const at = new Date().toISOString()
  await desk.heartbeat([{ id: 1, ticket: two, kind: 'start', by: { via: 'cli', who: 'ada' }, at }])
  await desk.decided()
  expect(await states(one, two)).toEqual(['stop pending'])
})

test('Done deletes those of a ticket that has no machine and never had a pull request', async () => {
  await desk.gone(ticket)
  await desk.jira.move(ticket, 'Done')
  await desk.decided()
  expect(await states(ticket, one, two)).toEqual(['delete pending', 'delete pending'])
})

test('they go along to another project without a machine of the ticket', async () => {
  await desk.gone(ticket)
  const to = `WEB-${count}`
  await desk.jira.rekey(ticket, to)
  await desk.decided()
  expect(await desk.actionsOf(to)).toMatchObject([{ kind: 'move', ticket: to, from: ticket }])
})

test('the merge of the pull request of a ticket that has no machine deletes them, and names its commits', async () => {
  const commit = await desk.github.push(`${ticket}-work`)
  const number = await desk.github.open(`${ticket}-work`, 'work')
  await desk.decided()
  await desk.gone(ticket)
  await desk.github.merge(number)
  await desk.decided()
  expect(await desk.actionsOf(one)).toMatchObject([{ kind: 'delete', mergedCommits: expect.arrayContaining([commit]) }])
  expect(await states(two)).toEqual(['delete pending'])
})

test('the close of an attempt stops it alone, and reopening it starts it', async () => {
  await desk.github.push(`${ticket}-work-attempt-1`)
  const number = await desk.github.open(`${ticket}-work-attempt-1`, 'work')
  await desk.decided()
  await desk.github.close(number)
  await desk.decided()
  await desk.machine(one, { status: 'stopped' })
  await desk.github.reopen(number)
  await desk.decided()
  expect(await states(ticket, two)).toEqual([])
  expect(await states(one)).toEqual(['checkpoint pending', 'stop pending', 'start pending'])
})

test('the merge of an attempt promotes it, also while the pull request of another one is open', async () => {
  for (const branch of [`${ticket}-work-attempt-1`, `${ticket}-work-attempt-2`]) await desk.github.push(branch)
  const merged = await desk.github.open(`${ticket}-work-attempt-1`, 'one')
  const open = await desk.github.open(`${ticket}-work-attempt-2`, 'two')
  await desk.decided()
  await desk.github.merge(merged)
  await desk.decided()
  expect(await desk.actionsOf(ticket)).toMatchObject([{ kind: 'promote', attempt: 1 }])
  expect(await openAfterMerge(desk.store, ticket)).toEqual([`acme/shop#${open}`])
})

test('the merge of an attempt whose delete waits deletes the machine of the ticket, too', async () => {
  await desk.github.push(`${ticket}-work-attempt-1`)
  const number = await desk.github.open(`${ticket}-work-attempt-1`, 'one')
  await desk.decided()
  await desk.github.comment(number, '/swarm delete')
  await desk.decided()
  expect(await states(one)).toContain('delete pending')
  await desk.github.merge(number)
  await desk.decided()
  expect(await states(ticket, two)).toEqual(['delete pending', 'delete pending'])
})

test('a command on an attempt is older than what was asked of that attempt since, not of the ticket', async () => {
  await desk.github.push(`${ticket}-work-attempt-1`)
  const number = await desk.github.open(`${ticket}-work-attempt-1`, 'one')
  await desk.decided()
  // Comments have whole seconds, and the ticket was moved before.
  const moved = Date.now()
  await vi.waitUntil(() => Date.now() > moved + 1_000, { interval: 50, timeout: 5_000 })
  await desk.github.comment(number, '/swarm status')
  await desk.decided()
  const payload = desk.github.deliveries.findLast(({ event }) => event === 'issue_comment')?.payload as Record<
    string,
    unknown
  >
  const comment = payload.comment as { id: number; created_at: string }
  const by = { via: 'cli', who: 'ada' } as const
  const at = new Date().toISOString()
  const { created_at } = comment
  const arrives = async (id: number, body: string) => {
    await desk.github.deliver('issue_comment', {
      ...payload,
      comment: { ...comment, id, body, created_at, updated_at: created_at },
    })
    await desk.decided()
  }
  await desk.heartbeat([{ id: 1, ticket, kind: 'start', by, at }])
  await arrives(comment.id + 1_000, '/swarm stop')
  expect(await states(one)).toContain('stop pending')
  await desk.heartbeat([{ id: 2, ticket: one, kind: 'start', by, at }])
  await arrives(comment.id + 2_000, '/swarm delete')
  expect(await states(one)).not.toContain('delete pending')
})

test('a missed move is found for those of a ticket that has no machine', async () => {
  await desk.gone(ticket)
  desk.jira.sendTo(async () => 503)
  await desk.jira.move(ticket, 'To Do')
  await desk.caughtUp()
  expect(await states(one, two)).toEqual(['stop pending', 'stop pending'])
})
