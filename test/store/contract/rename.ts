import { describe, expect, test } from 'vitest'
import type { Outcome } from '../../../src/schema/outcome.ts'
import { jiraNoteMessage, replyMessage, statusMessage } from '../../../src/store/messages.ts'
import {
  actionOf,
  command,
  delivery,
  done,
  environmentOf,
  heartbeatOf,
  MINUTE,
  offer,
  queued,
  START,
  timeAt,
  withFree,
} from '../fixtures.ts'
import { type Open, openStage, type Stage } from './stage.ts'

const rename = { kind: 'rename-ticket', from: 'OLD-1', to: 'NEW-7' } as const
const oldComment = { ticket: 'OLD-1', commentId: '10001' }
const newComment = { ticket: 'NEW-7', commentId: '10001' }

/** A ticket with everything that can be known of one. */
const full = async (open: Open): Promise<Stage> => {
  const stage = await openStage(open)
  const { store, decide } = stage
  await store.runners.heartbeat(heartbeatOf([environmentOf('OLD-1')]))
  await store.pullRequests.link({
    repo: 'acme/shop',
    number: 7,
    ticket: 'OLD-1',
    branch: 'OLD-1',
    state: 'open',
    closedAt: null,
  })
  await store.comments.set({ side: 'github', kind: 'status', repo: 'acme/shop', number: 7, about: 'OLD-1' }, '2', 'x')
  await store.comments.set({ side: 'jira', kind: 'note', ticket: 'OLD-1', about: 'ready:vm' }, '20001', null)
  await store.tickets.ended('OLD-1', 5)
  await store.tickets.sawCategory('OLD-1', 'done', 5)
  const action = actionOf('checkpoint', 'OLD-1', { replyTo: { ...oldComment, line: 0 } })
  await decide({
    actions: [{ id: 'a', correlation: 'd', action }, queued('b', 'stop', 'OLD-1')],
    requests: [command('a', action, { in: oldComment })],
    messages: [
      replyMessage(oldComment),
      jiraNoteMessage('OLD-1', 'ready:vm', { kind: 'ready', environment: environmentOf('OLD-1'), host: null }),
      statusMessage('OTHER-1'),
    ],
    effects: [
      {
        kind: 'schedule',
        ticket: 'OLD-1',
        delivery: delivery('c', 'clock', { source: 'clock', receivedAt: START + MINUTE }),
      },
      { kind: 'ticket-decided', ticket: 'OLD-1', state: { category: 'done', assignee: 'me' } },
    ],
  })
  return stage
}
/** Everything that is known of the ticket. */
const everything = async ({ store }: Stage, ticket: string) => ({
  environment: await store.runners.environment(ticket),
  queued: (await store.queue.list({ ticket })).map(({ id }) => id),
  pin: await store.queue.pinnedTo(ticket),
  pullRequests: (await store.pullRequests.ofTicket(ticket)).length,
  scheduledAt: await store.inbox.scheduledAt(ticket),
  known: await store.tickets.get(ticket),
  audit: (await store.requests.audit(ticket, 9)).map(({ id }) => id),
  status: (await store.comments.get({ side: 'github', kind: 'status', repo: 'acme/shop', number: 7, about: ticket }))
    ?.id,
  note: (await store.comments.get({ side: 'jira', kind: 'note', ticket, about: 'ready:vm' }))?.id,
})

export const renameContract = (open: Open) => {
  describe('a ticket that gets a new key', () => {
    test('while it is forked: what was asked for meanwhile holds for its attempts, which the runner names by the former key', async () => {
      const { store, add, claim, effects } = await openStage(open)
      await store.runners.heartbeat(heartbeatOf([environmentOf('OLD-1')]))
      await add(queued('1', 'fork', 'OLD-1', { count: 1, from: null }))
      const { id, token } = await claim()
      await effects(rename)
      const by = { via: 'jira' as const, who: 'dev', cause: 'ticket moved' as const }
      await add(queued('2', 'stop', 'NEW-7', { by }))
      const made = { ticket: 'OLD-1~1', vmId: 'as-a-1-0000000a', status: 'running' as const, branch: null, ssh: null }
      await store.queue.complete(id, token, { ...done(environmentOf('OLD-1')), attempts: [made] } as Outcome, [])
      expect((await store.queue.list({ state: 'pending' })).map(row => [row.id, row.action.ticket])).toEqual([
        ['2', 'NEW-7'],
        ['2:NEW-7~1', 'NEW-7~1'],
      ])
      expect(await store.queue.pinnedTo('NEW-7~1')).toBe('runner-1')
      expect(await store.queue.get(id)).toMatchObject({ outcome: { attempts: [{ ticket: 'NEW-7~1' }] } })
    })

    test('takes everything along, and leaves nothing behind', async () => {
      const stage = await full(open)
      const { store, effects } = stage
      const before = await everything(stage, 'OLD-1')
      const nothing = await everything(stage, 'OLD-1000')
      await effects(rename)
      expect(await everything(stage, 'OLD-1')).toEqual(nothing)
      const { environment } = before
      expect(await everything(stage, 'NEW-7')).toEqual({
        ...before,
        environment: { ...environment, environment: { ...environment?.environment, ticket: 'NEW-7' } },
      })
      expect(before.known).toMatchObject({ category: 'done', hadPullRequest: true, endedSinceNew: true })
      expect(await store.tickets.current('OLD-1')).toBe('NEW-7')
      expect(await store.tickets.current('NEW-7')).toBe('NEW-7')
      expect((await store.queue.get('a'))?.action).toMatchObject({ ticket: 'NEW-7', replyTo: newComment })
      expect(await store.requests.ofComment(oldComment)).toEqual([])
      expect(await store.requests.ofComment(newComment)).toMatchObject([
        { id: 'a', ticket: 'NEW-7', action: { ticket: 'NEW-7' }, command: { comment: newComment } },
      ])
    })

    test('takes its attempts along, with what is queued for them, and no attempt of another ticket', async () => {
      const { store, decide, effects } = await full(open)
      const keys = ['OLD-1', 'OLD-1~1', 'OLD-1~12', 'OLD-10~1']
      await store.runners.heartbeat(heartbeatOf(keys.map(key => environmentOf(key))))
      await decide({ actions: [queued('c', 'stop', 'OLD-1~12')] })
      const attempts = async (ticket: string) => (await store.runners.attempts(ticket)).map(each => each.ticket)
      expect(await attempts('OLD-1')).toEqual(['OLD-1~1', 'OLD-1~12'])
      await effects(rename)
      expect(await attempts('OLD-1')).toEqual([])
      expect(await attempts('NEW-7')).toEqual(['NEW-7~1', 'NEW-7~12'])
      expect(await attempts('OLD-10')).toEqual(['OLD-10~1'])
      expect(await store.tickets.current('OLD-1~12')).toBe('NEW-7~12')
      expect((await store.queue.get('c'))?.action).toMatchObject({ ticket: 'NEW-7~12' })
      expect(await store.queue.pinnedTo('NEW-7~12')).toBe(await store.queue.pinnedTo('NEW-7'))
    })

    test('takes along the messages that wait, also one that is being published', async () => {
      const { store, effects } = await full(open)
      const before = await store.outbox.due(9)
      await effects(rename)
      for (const row of before.filter(({ key }) => key !== 'status:OTHER-1')) await store.outbox.ack(row)
      const rows = await store.outbox.due(9)
      expect(rows.map(({ key }) => key).sort()).toEqual([
        'jira:ready:vm',
        'reply:jira:NEW-7:10001',
        'status:NEW-7',
        'status:OTHER-1',
      ])
      expect(JSON.stringify(rows)).not.toContain('OLD-1"')
    })

    test('keeps one message of a key that both tickets had', async () => {
      const { store, effects } = await full(open)
      await store.outbox.put([statusMessage('NEW-7')])
      await effects(rename)
      expect((await store.outbox.due(9)).filter(({ key }) => key === 'status:NEW-7')).toHaveLength(1)
    })

    test('runs its actions in their order, after an action of the old key that is active', async () => {
      const { store, effects, claim, add } = await full(open)
      const lease = await claim()
      await add(queued('new', 'start', 'NEW-7'))
      await effects(rename)
      expect(await store.queue.claim('runner-1', offer)).toBeNull()
      const outcome = done(environmentOf('OLD-1', { status: 'stopped', observedAt: timeAt(1) }))
      expect(await store.queue.complete('a', lease.token, outcome, [])).toBe('ok')
      expect(await store.queue.get('a')).toMatchObject({ outcome: { environment: { ticket: 'NEW-7' } } })
      expect(await store.runners.environment('NEW-7')).toMatchObject({
        environment: { ticket: 'NEW-7', status: 'stopped' },
      })
      expect(await store.runners.environment('OLD-1')).toBeNull()
      expect(await claim()).toMatchObject({ id: 'b', action: { ticket: 'NEW-7' } })
    })

    test('runs none of its actions beside an active one, whichever is older', async () => {
      const { store, effects, claim, add } = await openStage(open)
      await add(queued('older', 'create', 'NEW-7'), queued('active', 'stop', 'OLD-1'))
      expect(await claim('runner-1', withFree(0))).toMatchObject({ id: 'active' })
      await effects(rename)
      expect(await store.queue.claim('runner-1', offer)).toBeNull()
    })

    test('is the same to a runner that has not moved its machine yet', async () => {
      const { store, effects } = await full(open)
      await effects(rename)
      const manual = { id: 1, ticket: 'OLD-1', kind: 'stop', by: { via: 'cli', who: null }, at: timeAt(0) } as const
      for (const _ of [1, 2, 3])
        await store.runners.heartbeat(heartbeatOf([environmentOf('OLD-1')], { manualOperations: [manual] }))
      expect(await store.runners.withMachine()).toEqual(['NEW-7'])
      expect(await store.queue.pinnedTo('NEW-7')).toBe('runner-1')
      expect(await store.requests.lastStateChange('NEW-7', 'person')).toMatchObject({ id: 'cli:runner-1:1' })
      for (const _ of [1, 2, 3])
        await store.runners.heartbeat(heartbeatOf([{ ...environmentOf('NEW-7'), vmId: 'as-old-1-1a2b3c4d' }]))
      expect(await store.runners.withMachine()).toEqual(['NEW-7'])
    })

    test('fails and changes nothing while both keys have a machine: the delivery is decided again', async () => {
      const stage = await full(open)
      const { store, effects } = stage
      await store.runners.heartbeat(heartbeatOf([environmentOf('OLD-1'), environmentOf('NEW-7')]))
      const [from, to] = [await everything(stage, 'OLD-1'), await everything(stage, 'NEW-7')]
      await expect(effects(rename)).rejects.toMatchObject({ failure: { kind: 'busy' } })
      expect([await everything(stage, 'OLD-1'), await everything(stage, 'NEW-7')]).toEqual([from, to])
      expect(await store.tickets.current('OLD-1')).toBe('OLD-1')
    })

    test('fails and changes nothing while both have an active action: two of one ticket never overlap', async () => {
      const { store, decide, add, claim } = await full(open)
      await add(queued('new', 'create', 'NEW-7'))
      await claim()
      await claim()
      const move = queued('move', 'move', 'NEW-7', { from: 'OLD-1' })
      await expect(decide({ effects: [rename], actions: [move] })).rejects.toMatchObject({ failure: { kind: 'busy' } })
      expect(await store.queue.get('move')).toBeNull()
      expect(await store.tickets.current('OLD-1')).toBe('OLD-1')
      expect((await store.queue.list({ state: 'active' })).map(({ action }) => action.ticket)).toEqual([
        'OLD-1',
        'NEW-7',
      ])
    })

    test('without a machine of its own becomes an alias of a key that has one', async () => {
      const { store, effects, add } = await openStage(open)
      await store.runners.heartbeat(heartbeatOf([environmentOf('OLD-1')], { runnerId: 'runner-2' }))
      for (const _ of [1, 2]) await store.runners.heartbeat(heartbeatOf([], { runnerId: 'runner-2' }))
      await store.runners.heartbeat(heartbeatOf([environmentOf('NEW-7')]))
      await add(queued('old', 'create', 'OLD-1'))
      const known = await store.runners.environment('NEW-7')
      await effects(rename)
      expect(await store.runners.environment('NEW-7')).toEqual(known)
      expect(await store.queue.pinnedTo('NEW-7')).toBe('runner-1')
      expect(await store.tickets.current('OLD-1')).toBe('NEW-7')
      expect(await store.queue.claim('runner-2', offer)).toBeNull()
      expect(await store.queue.claim('runner-1', offer)).toMatchObject({ id: 'old', action: { ticket: 'NEW-7' } })
    })

    test('replaces a machine of the new key that is gone, and merges what is known of both', async () => {
      const { store, effects } = await full(open)
      await store.runners.heartbeat(heartbeatOf([environmentOf('NEW-7')], { runnerId: 'runner-2' }))
      for (const _ of [1, 2]) await store.runners.heartbeat(heartbeatOf([], { runnerId: 'runner-2' }))
      await store.tickets.sawCategory('NEW-7', 'indeterminate', 9)
      await effects(rename)
      expect(await store.runners.environment('NEW-7')).toMatchObject({ runnerId: 'runner-1', goneAt: null })
      expect(await store.tickets.get('NEW-7')).toMatchObject({
        category: 'indeterminate',
        categoryAt: 9,
        hadPullRequest: true,
      })
    })

    test('may get another one, and its first one back', async () => {
      const { store, effects } = await full(open)
      await effects(rename)
      await effects({ kind: 'rename-ticket', from: 'NEW-7', to: 'LAST-3' })
      const current = async () => {
        const keys = []
        for (const key of ['OLD-1', 'NEW-7', 'LAST-3']) keys.push(await store.tickets.current(key))
        return keys
      }
      expect(await current()).toEqual(['LAST-3', 'LAST-3', 'LAST-3'])
      await effects({ kind: 'rename-ticket', from: 'LAST-3', to: 'OLD-1' })
      expect(await current()).toEqual(['OLD-1', 'OLD-1', 'OLD-1'])
      expect(await store.runners.withMachine()).toEqual(['OLD-1'])
      await effects({ kind: 'rename-ticket', from: 'OLD-1', to: 'OLD-1' })
      expect(await current()).toEqual(['OLD-1', 'OLD-1', 'OLD-1'])
      await effects({ kind: 'rename-ticket', from: 'OTHER-1', to: 'NEW-7' })
      expect(await current()).toEqual(['OLD-1', 'NEW-7', 'OLD-1'])
    })

    test('has its actions that are settled with it queued under the new key', async () => {
      const { store, decide } = await full(open)
      await decide({ effects: [rename], actions: [queued('move', 'move', 'NEW-7', { from: 'OLD-1' })] })
      expect((await store.queue.list({ ticket: 'NEW-7' })).map(({ id }) => id)).toEqual(['a', 'b', 'move'])
      expect((await store.queue.get('move'))?.action).toMatchObject({ ticket: 'NEW-7', from: 'OLD-1' })
    })

    test('is moved by its runner before its other actions run, which have the new key already', async () => {
      const { store, decide, claim } = await full(open)
      const active = await claim()
      await decide({ effects: [rename], actions: [queued('move', 'move', 'NEW-7', { from: 'OLD-1' })] })
      expect(await store.queue.claim('runner-1', offer)).toBeNull()
      await store.queue.complete('a', active.token, done(environmentOf('OLD-1')), [])
      for (const id of ['move', 'b']) {
        const lease = await claim()
        expect(lease.id).toBe(id)
        await store.queue.complete(id, lease.token, done(environmentOf('NEW-7')), [])
      }
    })

    test('has the actions of its attempts wait until it is moved: before, their machines have other keys', async () => {
      const { store, decide, add, claim } = await full(open)
      await add(queued('attempt', 'delete', 'OLD-1~1'))
      await decide({ effects: [rename], actions: [queued('move', 'move', 'NEW-7', { from: 'OLD-1' })] })
      for (const id of ['move', 'a', 'b', 'attempt']) {
        const lease = await claim()
        expect(lease.id).toBe(id)
        await store.queue.complete(id, lease.token, done(environmentOf(lease.action.ticket)), [])
      }
    })

    test('gets no action under its previous key by a delivery that was decided before', async () => {
      const { store, effects, decide } = await full(open)
      await effects(rename)
      const late = { actions: [queued('late', 'stop', 'OLD-1')], messages: [statusMessage('OLD-1')] }
      await expect(decide(late)).rejects.toMatchObject({ failure: { kind: 'busy' } })
      expect(await store.queue.get('late')).toBeNull()
      const later = delivery('later', 'clock', { source: 'clock', receivedAt: START + MINUTE })
      const schedule = { kind: 'schedule', ticket: 'OLD-1', delivery: later } as const
      await expect(effects(schedule)).rejects.toMatchObject({ failure: { kind: 'busy' } })
      expect(await store.inbox.list([{ word: 'waiting', lanes: [] }], 9)).toHaveLength(2)
    })

    test('shows the machine that was made under the new key, not the one that stayed behind', async () => {
      const { store, effects } = await full(open)
      await effects(rename)
      const behind = environmentOf('OLD-1')
      const made = { ...environmentOf('NEW-7'), vmId: 'as-new-7-11111111' }
      for (const both of [
        [behind, made],
        [made, behind],
      ]) {
        const { heldElsewhere } = await store.runners.heartbeat(heartbeatOf(both))
        expect(heldElsewhere).toMatchObject([{ ticket: 'OLD-1', vmId: behind.vmId }])
      }
      expect((await store.runners.heartbeat(heartbeatOf([made, behind]))).changed).toEqual([])
      expect(await store.runners.environment('NEW-7')).toMatchObject({ environment: { vmId: made.vmId } })
    })
  })
}
