/** What every queue promises (src/store/port.ts), as tests. Each back-end's test file calls this with a way to open it. */

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Outcome } from '../../src/schema/outcome.ts'
import { LEASE_MS } from '../../src/schema/runner-protocol.ts'
import type { Lease, Message, Queue, QueuedAction, StoredDelivery, Verdict } from '../../src/store/port.ts'
import { action, delivery } from './fixtures.ts'

const status = (ticket: string): Message => ({ key: `status:${ticket}`, body: { kind: 'status', ticket } })
const done: Outcome = { result: 'done', summary: 'done', environment: null, seconds: 1 }
const failure = { kind: 'timeout', message: 'no answer', remedy: null } as const

export const keepsTheQueuePromises = (
  name: string,
  open: (clock: () => number) => { queue: Queue; close: () => void },
) => {
  describe(`${name} keeps the queue's promises`, () => {
    let now: number
    let queue: Queue
    let close: () => void
    beforeEach(() => {
      now = 1_000_000
      ;({ queue, close } = open(() => now))
    })
    afterEach(() => close())
    const claim = (runnerId = 'one'): Lease => {
      const lease = queue.claim({ runnerId })
      if (lease === null) throw new Error('nothing to claim')
      return lease
    }
    const settle = (
      one: StoredDelivery | undefined,
      verdict: Verdict,
      actions: readonly QueuedAction[] = [],
      messages: readonly Message[] = [],
    ) => queue.settle([{ seq: one?.seq ?? 0, verdict, actions, messages }])
    const add = (...all: QueuedAction[]) => all.map(one => queue.enqueue(one))

    test('the same action is added once, also after it is done', () => {
      expect(add(action('1'), action('1'))).toEqual(['added', 'duplicate'])
      const lease = claim()
      expect(queue.complete(lease.id, lease.token, done)).toBe('ok')
      expect(add(action('1'))).toEqual(['duplicate'])
      expect(queue.get('1')).toMatchObject({ state: 'done', outcome: done })
    })

    test('one ticket goes in order, one at a time; others do not wait', () => {
      add(action('1'), action('2'), action('3', 'DROP-2'))
      const first = claim()
      expect(first).toMatchObject({ id: '1', attempt: 1 })
      expect(claim()).toMatchObject({ id: '3' })
      expect(queue.claim({ runnerId: 'one' })).toBeNull()
      queue.complete(first.id, first.token, done)
      expect(claim()).toMatchObject({ id: '2' })
    })

    test('one that waits for its next try holds its ticket, and no other', () => {
      add(action('1'), action('2'), action('3', 'DROP-2'))
      const first = claim()
      expect(queue.fail(first.id, first.token, failure, { retry: true, environment: null })).toBe('retry')
      expect(claim()).toMatchObject({ id: '3' })
      expect(queue.claim({ runnerId: 'one' })).toBeNull()
      now += 10 * 60_000
      expect(claim()).toMatchObject({ id: '1', attempt: 2 })
    })

    test('one that failed for good has an outcome, and the next goes on', () => {
      add(action('1'), action('2'))
      const lease = claim()
      expect(
        queue.fail(lease.id, lease.token, failure, {
          retry: false,
          environment: null,
          messages: () => [status('DROP-1')],
        }),
      ).toBe('dead')
      expect(queue.get('1')).toMatchObject({ state: 'dead', outcome: { result: 'failed', failure } })
      expect(queue.outbox.take(10).map(row => row.message)).toEqual([status('DROP-1')])
      expect(claim()).toMatchObject({ id: '2' })
    })

    test('trying again ends: after a bounded number of tries it is reported', () => {
      add(action('1'))
      for (let tries = 1; ; tries += 1) {
        const lease = claim()
        const answer = queue.fail(lease.id, lease.token, failure, { retry: true, environment: null })
        if (answer === 'dead') break
        now += 10 * 60_000
        expect(tries).toBeLessThan(20)
      }
      expect(queue.counts()).toMatchObject({ pending: 0, active: 0, dead: 1 })
    })

    test('the waits between tries grow, and have an end', () => {
      add(action('1'))
      const waits: number[] = []
      for (const _ of [1, 2, 3, 4]) {
        const lease = claim()
        queue.fail(lease.id, lease.token, failure, { retry: true, environment: null })
        waits.push((queue.get('1')?.notBefore ?? 0) - now)
        now += 10 * 60_000
      }
      expect([...waits].sort((a, b) => a - b)).toEqual(waits)
      expect(waits[3]).toBeLessThanOrEqual(5 * 60_000)
    })

    test('a lost lease is fenced: its holder can no more renew, end or fail it', () => {
      add(action('1'))
      const lost = claim()
      now += LEASE_MS + 1
      expect(queue.reap(() => [])).toBe(1)
      const found = claim('one')
      expect(found).toMatchObject({ id: '1', attempt: 2 })
      expect(queue.renew('1', lost.token, null)).toBe('lost')
      expect(queue.complete('1', lost.token, done, () => [status('DROP-1')])).toBe('lost')
      expect(queue.fail('1', lost.token, failure, { retry: false, environment: null })).toBe('lost')
      expect(queue.outbox.take(10)).toEqual([])
      expect(queue.complete('1', found.token, done)).toBe('ok')
    })

    test('a renewed lease holds, and keeps what was said of its progress', () => {
      add(action('1'))
      const lease = claim()
      for (const _ of [1, 2, 3]) {
        now += LEASE_MS - 1
        expect(queue.renew('1', lease.token, { phase: 'ssh', at: 'now' })).toBe('ok')
        expect(queue.reap(() => [])).toBe(0)
      }
      expect(queue.renew('1', lease.token, null)).toBe('ok')
      expect(queue.get('1')).toMatchObject({ progress: { phase: 'ssh' }, runnerId: 'one' })
    })

    test('an action whose runner dies each time ends as failed, and says so', () => {
      add(action('1'), action('2'))
      const told: Message[] = []
      for (let tries = 0; queue.get('1')?.state !== 'dead'; tries += 1) {
        expect(tries).toBeLessThan(20)
        claim()
        now += LEASE_MS + 1
        queue.reap(row => {
          told.push(status(row.action.ticket))
          return [status(row.action.ticket)]
        })
      }
      expect(told).toHaveLength(1)
      expect(queue.get('1')?.outcome).toMatchObject({
        result: 'failed',
        failure: { message: expect.stringContaining('the runner was lost') },
      })
      expect(claim()).toMatchObject({ id: '2' })
    })

    test('a create pins its ticket; what follows goes to that runner alone', () => {
      add(action('1', 'DROP-1', 'create'), action('2'))
      const lease = claim('one')
      queue.complete(lease.id, lease.token, done)
      expect(queue.pinnedTo('DROP-1')).toBe('one')
      expect(queue.claim({ runnerId: 'two' })).toBeNull()
      expect(claim('one')).toMatchObject({ id: '2' })
      expect(queue.pinsOf('one')).toEqual(['DROP-1'])
      queue.unpin('DROP-1')
      expect(queue.pinnedTo('DROP-1')).toBeNull()
    })

    test('only what waits can be cancelled', () => {
      add(action('1'), action('2'))
      claim()
      expect([queue.cancel('1'), queue.cancel('2'), queue.cancel('3')]).toEqual(['too-late', 'cancelled', 'too-late'])
      expect(queue.list({ ticket: 'DROP-1', state: 'cancelled' })).toHaveLength(1)
    })

    test('a delivery is taken once, in the order of its lane', () => {
      expect(queue.accept([delivery('1'), delivery('2'), delivery('3', 'b'), delivery('1')])).toBe(3)
      expect(queue.accept([delivery('2')])).toBe(0)
      const taken = queue.due(10)
      expect(taken.map(one => one.id)).toEqual(['1', '3'])
      expect(queue.due(10)).toEqual([])
      settle(taken[0], { verdict: 'ignored', reason: 'nothing' })
      expect(queue.due(10).map(one => one.id)).toEqual(['2'])
      expect(queue.accept([delivery('2')])).toBe(0)
      expect(queue.due(10)).toEqual([])
    })

    test('one that waits holds its lane, and no other', () => {
      queue.accept([delivery('1'), delivery('2'), delivery('3', 'b')])
      const [first] = queue.due(1)
      queue.postpone(first?.seq ?? 0, now + 5_000, 'Jira does not answer')
      expect(queue.due(10).map(one => one.id)).toEqual(['3'])
      now += 5_000
      expect(queue.due(10)).toMatchObject([{ id: '1', attempt: 1 }])
    })

    test.for(['failed', 'ignored', 'refused'] as const)(
      'one that was %s takes effect when it is sent again; one that took effect does not',
      verdict => {
        queue.accept([delivery('1')])
        const [first] = queue.due(1)
        settle(first, { verdict, reason: 'a reason' })
        now += 1_000
        expect(queue.accept([{ ...delivery('1'), receivedAt: now }])).toBe(1)
        // It is as new as any other: not forgotten as settled, not given up as old.
        queue.purge(now + 1, 0)
        const [again] = queue.due(1)
        expect(again?.receivedAt).toBe(now)
        expect(again).toMatchObject({ id: '1', body: '{"id":"1"}', attempt: 0 })
        settle(again, { verdict: 'actions', reason: null }, [action('github:1:0')])
        expect(queue.accept([delivery('1')])).toBe(0)
        expect(queue.list()).toHaveLength(1)
      },
    )

    test('what waits or was decided is taken; what never came or could not be decided is not', () => {
      const taken = (id: string) => queue.taken({ source: 'github', id })
      queue.accept([delivery('1'), delivery('2', 'b'), delivery('3', 'c')])
      const [first, second, third] = queue.due(3)
      settle(first, { verdict: 'failed', reason: 'a fault' })
      settle(second, { verdict: 'ignored', reason: 'nothing' })
      expect(third).toBeDefined()
      expect(['1', '2', '3', '4'].map(taken)).toEqual([false, true, true, false])
      expect(queue.taken({ source: 'jira', id: '2' })).toBe(false)
    })

    test('one that had no effect is decided again when an operator asks; one that had is not', () => {
      queue.accept([delivery('1'), delivery('2', 'b'), delivery('3', 'c'), delivery('4', 'd')])
      const [first, second, third] = queue.due(4)
      expect(queue.replay('4')).toBe('in hand')
      settle(first, { verdict: 'refused', reason: 'may not' })
      settle(second, { verdict: 'actions', reason: null }, [{ ...action('github:2:0'), correlation: '2' }])
      queue.postpone(third?.seq ?? 0, now + 60_000, 'Jira does not answer')
      now += 1_000
      expect(queue.deliveries({ words: [], limit: 9 })).toMatchObject([
        { id: '4', verdict: 'waiting', reason: null, attempt: 0 },
        { id: '3', verdict: 'waiting', reason: 'Jira does not answer', attempt: 1, dueAt: now + 59_000 },
        {
          ...{ id: '2', verdict: 'actions', dueAt: null },
          actions: [{ kind: 'stop', ticket: 'DROP-1', state: 'pending', because: null }],
        },
        { id: '1', verdict: 'refused', reason: 'may not', dueAt: null, actions: [] },
      ])
      expect(['1', 'github:2', '3', 'nobody'].map(id => queue.replay(id))).toEqual([
        'again',
        'took effect',
        'again',
        'unknown',
      ])
      expect(queue.due(9)).toMatchObject([
        { id: '1', body: '{"id":"1"}', attempt: 0, receivedAt: 0, since: now },
        { id: '3', body: '{"id":"3"}', attempt: 0, since: now },
      ])
      expect(queue.list()).toHaveLength(1)
    })

    test('the inbox is looked through by verdict, source, event, id and ticket', () => {
      queue.accept([delivery('1'), { ...delivery('2', 'b'), source: 'jira', event: 'jira:issue_updated' }])
      const [first, second] = queue.due(2)
      settle(first, { verdict: 'ignored', reason: 'nothing' })
      settle(second, { verdict: 'actions', reason: null }, [{ ...action('jira:2:0'), correlation: '2' }])
      const found = (...words: string[]) => queue.deliveries({ words, limit: 9 }).map(one => one.id)
      expect([found('ignored'), found('jira'), found('push'), found('1'), found('jira:2'), found('drop-1')]).toEqual([
        ['1'],
        ['2'],
        ['1'],
        ['1'],
        ['2'],
        ['2'],
      ])
      expect([found('jira', 'ignored'), found("' or 1=1 --")]).toEqual([[], []])
      // What a word names beside these is for the one who asks to say.
      const lanesOf = (word: string) => (word === 'both' ? ['a', 'b'] : word === 'second' ? ['b'] : [])
      const named = (...words: string[]) => queue.deliveries({ words, lanesOf, limit: 9 }).map(one => one.id)
      expect([named('both'), named('second'), named('both', 'ignored'), named('c')]).toEqual([
        ['2', '1'],
        ['2'],
        ['1'],
        [],
      ])
      expect(queue.deliveries({ words: [], limit: 1 }).map(one => one.id)).toEqual(['2'])
    })

    test('what was skipped or failed says why, beside what it came of', () => {
      queue.accept([delivery('1')])
      const [first] = queue.due(1)
      settle(first, { verdict: 'actions', reason: null }, [{ ...action('github:1:0'), correlation: '1' }])
      const lease = queue.claim({ runnerId: 'r1' })
      const because = 'DROP-1 is stopped already'
      queue.complete(lease?.id ?? '', lease?.token ?? '', { result: 'skipped', reason, environment: null })
      expect(queue.deliveries({ words: [], limit: 1 })).toMatchObject([{ actions: [{ result: 'skipped', because }] }])
    })

    test('of payloads that had no effect, only so many bytes are kept', () => {
      queue.accept([delivery('1'), delivery('2', 'b'), delivery('3', 'c')])
      for (const one of queue.due(2)) settle(one, { verdict: 'ignored', reason: null })
      queue.purge(0, 10)
      expect(['1', '2'].map(id => queue.replay(id))).toEqual(['forgotten', 'again'])
      // What is not decided is kept, however much it is.
      queue.purge(0, 0)
      expect(
        queue
          .due(9)
          .map(one => one.body)
          .sort(),
      ).toEqual(['{"id":"2"}', '{"id":"3"}'])
    })

    test('a delivery leaves the inbox with its actions and messages, or not at all', () => {
      queue.accept([delivery('1')])
      const [first] = queue.due(1)
      const broken = { ...action('2'), action: null } as unknown as QueuedAction
      expect(() =>
        settle(first, { verdict: 'actions', reason: null }, [action('1'), broken], [status('DROP-1')]),
      ).toThrow()
      expect(queue.list()).toEqual([])
      expect(queue.outbox.take(1)).toEqual([])
      expect(queue.counts()).toMatchObject({ inbox: 1 })
    })

    test('a newer message takes the place of the older, also of one that is being published', () => {
      queue.outbox.put([status('DROP-1'), status('DROP-2'), status('DROP-1')])
      const rows = queue.outbox.take(10)
      expect(rows.map(row => row.message.key)).toEqual(['status:DROP-1', 'status:DROP-2'])
      queue.outbox.put([{ key: 'status:DROP-1', body: { kind: 'jira', ticket: 'DROP-1', about: 'x', text: 'newer' } }])
      for (const row of rows) queue.outbox.ack(row)
      expect(queue.outbox.take(10)).toMatchObject([{ message: { body: { text: 'newer' } } }])
    })

    test('a message that cannot be published yet comes again at its time', () => {
      queue.outbox.put([status('DROP-1')])
      const [row] = queue.outbox.take(1)
      queue.outbox.later(row?.seq ?? 0, now + 60_000, 'a limit')
      expect(queue.outbox.take(10)).toEqual([])
      expect(queue.nextMessage()).toBe(now + 60_000)
      now += 60_000
      expect(queue.outbox.take(10)).toMatchObject([{ attempt: 1 }])
    })

    test('what was put off before the clock was set back waits no longer for that', () => {
      queue.accept([delivery('1')])
      queue.postpone(queue.due(1)[0]?.seq ?? 0, now + 5_000, 'Jira does not answer')
      add(action('1'), action('2', 'DROP-2'))
      const failed = claim()
      queue.fail(failed.id, failed.token, failure, { retry: true, environment: null })
      const lost = claim()
      queue.outbox.put([status('DROP-1')])
      queue.outbox.later(queue.outbox.take(1)[0]?.seq ?? 0, now + 5_000, 'GitHub does not answer')
      now -= 60 * 60_000
      expect(queue.due(1)).toHaveLength(1)
      expect(claim().id).toBe(failed.id)
      expect(queue.outbox.take(1)).toHaveLength(1)
      expect(queue.reap(() => [])).toBe(1)
      expect([lost.id, failed.id].map(id => queue.get(id)?.state)).toEqual(['pending', 'active'])
    })

    test('messages are taken page by page', () => {
      queue.outbox.put([status('DROP-1'), status('DROP-2'), status('DROP-3')])
      const [first, second] = queue.outbox.take(2)
      expect(second?.message.key).toBe('status:DROP-2')
      expect(queue.outbox.take(2, first?.seq).map(row => row.message.key)).toEqual(['status:DROP-2', 'status:DROP-3'])
    })

    test('what is settled is forgotten after its time, and what is not stays', () => {
      queue.accept([delivery('1'), delivery('2', 'b')])
      const [first] = queue.due(1)
      settle(first, { verdict: 'ignored', reason: null })
      queue.purge(now + 1, 0)
      expect(queue.accept([delivery('1')])).toBe(1)
      expect(queue.counts()).toMatchObject({ inbox: 2 })
    })
  })
}
