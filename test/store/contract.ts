/** What every store promises (src/store/port.ts), as tests. Each backend's test file calls this with a way to open it. */
import { describe, expect, test } from 'vitest'
import { forgetRunnerContract } from './contract/forget-runner.ts'
import { inboxContract } from './contract/inbox.ts'
import { knowledgeContract } from './contract/knowledge.ts'
import { outboxContract } from './contract/outbox.ts'
import { outcomesContract } from './contract/outcomes.ts'
import { queueContract } from './contract/queue.ts'
import { renameContract } from './contract/rename.ts'
import { requestsContract } from './contract/requests.ts'
import { roomContract } from './contract/room.ts'
import { runnerTokensContract } from './contract/runner-tokens.ts'
import { runnersContract } from './contract/runners.ts'
import { settleContract } from './contract/settle.ts'
import { type Open, openStage } from './contract/stage.ts'
import { delivery, MINUTE, queued, START, status } from './fixtures.ts'

export const storeContract = (backend: string, open: Open) => {
  describe(backend, () => {
    for (const part of [
      inboxContract,
      settleContract,
      queueContract,
      outcomesContract,
      outboxContract,
      requestsContract,
      knowledgeContract,
      runnersContract,
      runnerTokensContract,
      forgetRunnerContract,
      renameContract,
      roomContract,
    ])
      part(open)

    test('counts what waits, and since when', async () => {
      const { store, add, claim, pass } = await openStage(open)
      expect(await store.counts()).toEqual({
        ...{ inbox: 0, pending: 0, active: 0, outbox: 0 },
        ...{ oldestDeliveryAt: null, oldestPendingAt: null, oldestMessageAt: null },
      })
      await store.inbox.accept([delivery('1'), delivery('2', 'b', { receivedAt: START + 5 })])
      await add(queued('1'), queued('2'))
      pass(MINUTE)
      await add(queued('3', 'stop', 'DROP-3'))
      await store.outbox.put([status('DROP-1')])
      await claim()
      expect(await store.counts()).toEqual({
        ...{ inbox: 2, pending: 2, active: 1, outbox: 1 },
        ...{ oldestDeliveryAt: START, oldestPendingAt: START, oldestMessageAt: START + MINUTE },
      })
    })

    test('purge drops what ended long ago, and keeps what has not', async () => {
      const { store, settle, claim, pass, now, decide } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2', 'b')])
      const [first] = await store.inbox.due(1)
      await settle(first, { verdict: 'ignored' })
      await decide({
        actions: [queued('done'), queued('waiting')],
        effects: [{ kind: 'change-reported', change: 'c', delivery: '1' }],
      })
      const { id, token } = await claim()
      await store.queue.complete(id, token, { result: 'skipped', reason: 'nothing', environment: null }, [])
      const purge = (before: number) =>
        store.purge({ queueBefore: before, knowledgeBefore: before, payloadBytes: 1_000 })
      await purge(now())
      expect(await store.queue.get('done')).not.toBeNull()
      pass(1)
      await purge(now())
      expect(await store.queue.get('done')).toBeNull()
      expect(await store.queue.get('waiting')).toMatchObject({ state: 'pending' })
      expect(await store.tickets.reportedBy('c')).toBeNull()
      expect((await store.inbox.list([], 9)).map(row => row.id)).toEqual(['2'])
      expect(await store.inbox.accept([delivery('1')])).toBe(1)
    })

    test('can be written', async () => {
      const { store } = await openStage(open)
      await expect(store.probe()).resolves.toBeUndefined()
    })
  })
}
