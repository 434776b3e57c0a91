import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_WAIT_MS, type StoredDelivery } from '../../../src/store/port.ts'
import { delivery, MINUTE, queued, START } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

export const inboxContract = (open: Open) => {
  describe('inbox', () => {
    test('accepts a delivery once, and gives it out in the order of its lane', async () => {
      const { store, due, settle } = await openStage(open)
      expect(await store.inbox.accept([delivery('1'), delivery('2'), delivery('3', 'b'), delivery('1')])).toBe(3)
      expect(await store.inbox.accept([delivery('2')])).toBe(0)
      const taken = await store.inbox.due(10)
      expect(taken.map(({ id }) => id)).toEqual(['1', '3'])
      expect(await due()).toEqual([])
      await settle(taken[0], { verdict: 'ignored' })
      expect(await due()).toEqual(['2'])
      expect(await store.inbox.accept([delivery('2')])).toBe(0)
      expect(await due()).toEqual([])
    })

    test('the same id of another source is another delivery', async () => {
      const { store } = await openStage(open)
      expect(await store.inbox.accept([delivery('1'), delivery('1', 'b', { source: 'jira' })])).toBe(2)
    })

    test('a lane has one delivery in progress, also when an older one comes back meanwhile', async () => {
      const { store, due, settle } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2'), delivery('3')])
      const [first] = await store.inbox.due(1)
      await settle(first, { verdict: 'ignored' })
      const [second] = await store.inbox.due(1)
      await store.inbox.accept([delivery('1')])
      expect(await store.inbox.nextDueAt()).toBeNull()
      expect(await due()).toEqual([])
      await settle(second, { verdict: 'ignored' })
      expect(await store.inbox.replay('2')).toBe('again')
      expect(await due()).toEqual(['1'])
      expect(await due()).toEqual([])
    })

    test('lanes take turns', async () => {
      const { store, due, settle } = await openStage(open)
      await store.inbox.accept(
        ['a', 'b', 'c'].flatMap(lane => [delivery(`${lane}1`, lane), delivery(`${lane}2`, lane)]),
      )
      const order: string[] = []
      for (let turn = 0; turn < 6; turn += 1) {
        const [taken] = await store.inbox.due(1)
        order.push(taken?.id ?? '')
        await settle(taken, { verdict: 'ignored' })
      }
      expect(order).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'c2'])
      expect(await due()).toEqual([])
    })

    test('a postponed delivery holds its lane and no other', async () => {
      const { store, due, pass, now } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2'), delivery('3', 'b')])
      const [first] = await store.inbox.due(1)
      await store.inbox.postpone(first?.seq ?? 0, now() + 5_000, 'Jira does not answer')
      expect(await due()).toEqual(['3'])
      expect(await store.inbox.nextDueAt()).toBe(now() + 5_000)
      pass(5_000)
      expect(await store.inbox.nextDueAt()).toBe(now())
      expect(await store.inbox.due(10)).toMatchObject([{ id: '1', attempt: 1 }])
    })

    test('a released delivery is due as before', async () => {
      const { store, settle } = await openStage(open)
      await store.inbox.accept([delivery('1')])
      const [first] = await store.inbox.due(1)
      await store.inbox.release(first?.seq ?? 0)
      const [again] = await store.inbox.due(1)
      expect(again).toEqual(first)
      await settle(again)
      expect(await store.inbox.nextDueAt()).toBeNull()
    })

    test('a delivery that was postponed before the clock was set back is due', async () => {
      const { store, due, pass, now } = await openStage(open)
      await store.inbox.accept([delivery('1')])
      const [first] = await store.inbox.due(1)
      await store.inbox.postpone(first?.seq ?? 0, now() + 5_000, 'Jira does not answer')
      pass(-MAX_WAIT_MS)
      expect(await store.inbox.nextDueAt()).toBe(now())
      expect(await due()).toEqual(['1'])
    })

    test.for(['failed', 'ignored', 'refused'] as const)(
      'a delivery that was %s takes effect when it is sent again; one that had an effect does not',
      async verdict => {
        const { store, settle, pass, now } = await openStage(open)
        await store.inbox.accept([delivery('1')])
        const [first] = await store.inbox.due(1)
        await settle(first, { verdict, reason: 'a reason' })
        pass(1_000)
        expect(await store.inbox.accept([delivery('1', 'a', { receivedAt: now() })])).toBe(1)
        // It is as new as any other: it is neither purged as settled nor given up as old.
        await store.purge({ queueBefore: now() + 1, knowledgeBefore: 0, payloadBytes: 0 })
        const [again] = await store.inbox.due(1)
        expect(again).toMatchObject({ id: '1', body: '{"id":"1"}', attempt: 0, receivedAt: now(), dueSince: now() })
        await settle(again, { actions: [queued('github:1:0')] })
        expect(await store.inbox.accept([delivery('1')])).toBe(0)
        expect(await store.queue.list()).toHaveLength(1)
      },
    )

    test('known are those that wait or were decided, not those that never came or failed', async () => {
      const { store, settle } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2', 'b'), delivery('3', 'c')])
      const [first, second] = await store.inbox.due(3)
      await settle(first, { verdict: 'failed', reason: 'a fault' })
      await settle(second, { verdict: 'ignored' })
      expect(await store.inbox.known('github', ['1', '2', '3', '4'])).toEqual(new Set(['2', '3']))
      expect(await store.inbox.known('jira', ['2'])).toEqual(new Set())
    })

    test('a replay decides a delivery again that had no effect', async () => {
      const { store, settle, pass, now } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2', 'b'), delivery('3', 'c'), delivery('4', 'd')])
      const [first, second, third] = await store.inbox.due(4)
      expect(await store.inbox.replay('4')).toBe('in-progress')
      await settle(first, { verdict: 'refused', reason: 'may not' })
      await settle(second, { actions: [{ ...queued('github:2:0'), correlation: '2' }] })
      await store.inbox.postpone(third?.seq ?? 0, now() + MINUTE, 'Jira does not answer')
      pass(1_000)
      expect(await store.inbox.list([], 9)).toMatchObject([
        { id: '4', verdict: 'waiting', reason: null, attempt: 0 },
        { id: '3', verdict: 'waiting', reason: 'Jira does not answer', attempt: 1, dueAt: now() + 59_000 },
        {
          ...{ id: '2', verdict: 'actions', dueAt: null, settledAt: START },
          actions: [{ kind: 'stop', ticket: 'DROP-1', state: 'pending', result: null, reason: null }],
        },
        { id: '1', verdict: 'refused', reason: 'may not', dueAt: null, actions: [] },
      ])
      const results = []
      for (const id of ['1', 'github:2', '3', 'nobody']) results.push(await store.inbox.replay(id))
      expect(results).toEqual(['again', 'had-effect', 'again', 'unknown'])
      expect(await store.inbox.due(9)).toMatchObject([
        { id: '1', body: '{"id":"1"}', attempt: 0, receivedAt: START, dueSince: now() },
        { id: '3', body: '{"id":"3"}', attempt: 0, dueSince: now() },
      ])
      expect(await store.queue.list()).toHaveLength(1)
    })

    test('a delivery that is sent again after a replay is as new as its arrival', async () => {
      const { store, settle, pass } = await openStage(open)
      await store.inbox.accept([delivery('1')])
      await settle((await store.inbox.due(1))[0], { verdict: 'ignored' })
      pass(MINUTE)
      await store.inbox.replay('1')
      await settle((await store.inbox.due(1))[0], { verdict: 'ignored' })
      await store.inbox.accept([delivery('1', 'a', { receivedAt: START + 5 })])
      expect(await store.inbox.due(1)).toMatchObject([{ receivedAt: START + 5, dueSince: START + 5 }])
    })

    test('the list filters by verdict, source, event, id, ticket and lane', async () => {
      const { store, settle } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2', 'b', { source: 'jira', event: 'jira:issue_updated' })])
      const [first, second] = await store.inbox.due(2)
      await settle(first, { verdict: 'ignored' })
      await settle(second, { actions: [{ ...queued('jira:2:0'), correlation: '2' }] })
      const list = async (...filters: (string | [string, string[]])[]) =>
        (
          await store.inbox.list(
            filters.map(filter =>
              typeof filter === 'string' ? { word: filter, lanes: [] } : { word: filter[0], lanes: filter[1] },
            ),
            9,
          )
        ).map(({ id }) => id)
      expect(await list('ignored')).toEqual(['1'])
      expect(await list('jira')).toEqual(['2'])
      expect(await list('push')).toEqual(['1'])
      expect(await list('1')).toEqual(['1'])
      expect(await list('jira:2')).toEqual(['2'])
      expect(await list('drop-1')).toEqual(['2'])
      expect(await list('jira', 'ignored')).toEqual([])
      expect(await list("' or 1=1 --")).toEqual([])
      expect(await list(['x', ['a', 'b']])).toEqual(['2', '1'])
      expect(await list(['x', ['a', 'b']], 'ignored')).toEqual(['1'])
      expect(await store.inbox.list([], 1)).toMatchObject([{ id: '2' }])
    })

    test('the list says why an action was skipped or failed', async () => {
      const { store, claim, decide } = await openStage(open)
      await decide({
        actions: [
          { ...queued('1'), correlation: 'decided-1' },
          { ...queued('2'), correlation: 'decided-1' },
        ],
      })
      const first = await claim()
      await store.queue.complete(
        first.id,
        first.token,
        { result: 'skipped', reason: 'already stopped', environment: null },
        [],
      )
      const second = await claim()
      const failure = { kind: 'timeout', message: 'no answer', remedy: null } as const
      await store.queue.fail(second.id, second.token, { failure, retry: false, environment: null, messages: [] })
      expect((await store.inbox.list([], 1))[0]?.actions).toMatchObject([
        { state: 'done', result: 'skipped', reason: 'already stopped' },
        { state: 'dead', result: 'failed', reason: 'no answer' },
      ])
    })

    test('payloads without an effect are kept up to a number of bytes, the newest first', async () => {
      const { store, settle } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2', 'b'), delivery('3', 'c')])
      for (const taken of await store.inbox.due(2)) await settle(taken, { verdict: 'ignored' })
      await store.purge({ queueBefore: 0, knowledgeBefore: 0, payloadBytes: 10 })
      expect([await store.inbox.replay('1'), await store.inbox.replay('2')]).toEqual(['no-payload', 'again'])
      // A delivery with an effect needs no payload, and takes none of the others' bytes.
      for (const taken of await store.inbox.due(2)) await settle(taken, taken.id === '2' ? { verdict: 'ignored' } : {})
      await store.purge({ queueBefore: 0, knowledgeBefore: 0, payloadBytes: 10 })
      expect(await store.inbox.replay('2')).toBe('again')
      await store.inbox.accept([delivery('4', 'd')])
      // A delivery that is not decided keeps its payload, however large.
      await store.purge({ queueBefore: 0, knowledgeBefore: 0, payloadBytes: 0 })
      expect((await store.inbox.due(9)).map(({ body }) => body).sort()).toEqual(['{"id":"2"}', '{"id":"4"}'])
    })
  })

  test('whatever happens to deliveries, each has at most one effect, and a lane one in progress', async () => {
    const steps = fc.array(
      fc.record({
        step: fc.constantFrom('accept', 'take', 'settle', 'fail', 'postpone', 'release', 'replay', 'pass'),
        n: fc.nat({ max: 5 }),
      }),
      { maxLength: 40 },
    )
    await fc.assert(
      fc.asyncProperty(steps, async all => {
        const { store, pass, now, settle } = await openStage(open)
        const progress = new Map<string, StoredDelivery>()
        let effects = 0
        for (const { step, n } of all) {
          const lane = `lane-${n % 2}`
          const taken = progress.get(lane)
          if (step === 'accept') await store.inbox.accept([delivery(String(n), lane)])
          else if (step === 'replay') await store.inbox.replay(String(n))
          else if (step === 'pass') pass(MINUTE)
          else if (step === 'take') {
            for (const due of await store.inbox.due(n)) {
              expect(progress.has(due.lane)).toBe(false)
              progress.set(due.lane, due)
            }
          } else if (taken !== undefined) {
            progress.delete(lane)
            if (step === 'postpone') await store.inbox.postpone(taken.seq, now() + MINUTE, 'later')
            else if (step === 'release') await store.inbox.release(taken.seq)
            else if (step === 'fail') await settle(taken, { verdict: 'failed' })
            // Each time another effect, so that a second one shows.
            else await settle(taken, { actions: [queued(`${taken.id}:${effects++}`)] })
          }
        }
        const origins = (await store.queue.list()).map(({ id }) => id.split(':')[0])
        expect(new Set(origins).size).toBe(origins.length)
      }),
      { numRuns: 25, seed: 7 },
    )
  })
}
