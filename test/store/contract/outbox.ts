import { describe, expect, test } from 'vitest'
import { MAX_WAIT_MS } from '../../../src/store/port.ts'
import { MINUTE, queued, status } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

export const outboxContract = (open: Open) => {
  describe('outbox', () => {
    const newer = { key: 'status:DROP-1', body: { kind: 'status', ticket: 'DROP-9' } } as const

    test('a newer message takes the place of an older one', async () => {
      const { store, messages } = await openStage(open)
      await store.outbox.put([status('DROP-1'), status('DROP-2'), newer])
      expect(await messages()).toEqual(['status:DROP-1', 'status:DROP-2'])
      expect((await store.outbox.due(1))[0]?.body).toEqual(newer.body)
      expect(await store.outbox.has('status:DROP-1')).toBe(true)
      expect(await store.outbox.has('status:DROP-3')).toBe(false)
    })

    test.for([
      ['another one', newer],
      ['the same again', status('DROP-1')],
    ] as const)('a message that was replaced by %s while it was published is published again', async ([, message]) => {
      const { store } = await openStage(open)
      await store.outbox.put([status('DROP-1')])
      const [first] = await store.outbox.due(1)
      await store.outbox.put([message])
      if (first !== undefined) await store.outbox.ack(first)
      const [second] = await store.outbox.due(1)
      expect(second).toMatchObject({ key: 'status:DROP-1', body: message.body, attempt: 0 })
      expect(second?.version).not.toBe(first?.version)
      if (second !== undefined) await store.outbox.ack(second)
      expect(await store.counts()).toMatchObject({ outbox: 0 })
    })

    test('a postponed message comes at its time, and a newer one in its place at once', async () => {
      const { store, now, pass } = await openStage(open)
      expect(await store.outbox.nextDueAt()).toBeNull()
      await store.outbox.put([status('DROP-1')])
      const [{ seq } = { seq: 0 }] = await store.outbox.due(1)
      await store.outbox.postpone(seq, now() + MINUTE, 'a limit')
      expect(await store.outbox.due(10)).toEqual([])
      expect(await store.outbox.nextDueAt()).toBe(now() + MINUTE)
      pass(MINUTE)
      expect(await store.outbox.due(10)).toMatchObject([{ attempt: 1 }])
      await store.outbox.postpone(seq, now() + MINUTE, 'a limit')
      await store.outbox.put([newer])
      expect(await store.outbox.due(10)).toMatchObject([{ attempt: 0 }])
    })

    test('a message that was postponed before the clock was set back is due', async () => {
      const { store, now, pass } = await openStage(open)
      await store.outbox.put([status('DROP-1')])
      const [{ seq } = { seq: 0 }] = await store.outbox.due(1)
      await store.outbox.postpone(seq, now() + MINUTE, 'GitHub does not answer')
      pass(-MAX_WAIT_MS)
      expect(await store.outbox.due(10)).toHaveLength(1)
      expect(await store.outbox.nextDueAt()).toBeLessThanOrEqual(now())
    })

    test('messages come page by page, oldest first', async () => {
      const { store } = await openStage(open)
      await store.outbox.put(['DROP-1', 'DROP-2', 'DROP-3'].map(status))
      const [first, second] = await store.outbox.due(2)
      expect([first?.key, second?.key]).toEqual(['status:DROP-1', 'status:DROP-2'])
      expect((await store.outbox.due(2, second?.seq)).map(({ key }) => key)).toEqual(['status:DROP-3'])
      await store.outbox.drop(first?.seq ?? 0)
      expect((await store.outbox.due(9)).map(({ key }) => key)).toEqual(['status:DROP-2', 'status:DROP-3'])
    })

    test('a message keeps the delivery that caused it, unless a later delivery replaces it', async () => {
      const { store, decide } = await openStage(open)
      await decide({ actions: [queued('1')], messages: [status('DROP-1')] })
      await store.outbox.put([newer])
      expect(await store.outbox.due(1)).toMatchObject([{ correlation: 'decided-1' }])
      await decide({ messages: [status('DROP-1')] })
      expect(await store.outbox.due(1)).toMatchObject([{ correlation: 'decided-2' }])
    })

    test('a message that is replaced is as old as the one that was never published', async () => {
      const { store, pass, now } = await openStage(open)
      await store.outbox.put([status('DROP-1')])
      const first = now()
      pass(MINUTE)
      await store.outbox.put([newer])
      expect(await store.counts()).toMatchObject({ outbox: 1, oldestMessageAt: first })
    })
  })
}
