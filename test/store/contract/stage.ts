/** A store with a clock of its own, and the few steps that most tests take. */
import { onTestFinished } from 'vitest'
import type { Lease, Offer } from '../../../src/schema/runner-protocol.ts'
import type { Effect, QueuedAction, Settlement, Store, StoredDelivery, StoreLimits } from '../../../src/store/port.ts'
import { delivery, offer, START, settlement } from '../fixtures.ts'

/** How a backend opens an empty store. */
export type Open = (clock: () => number, limits?: StoreLimits) => Promise<Store>

export const openStage = async (open: Open) => {
  let now = START
  let deliveries = 0
  const store = await open(() => now)
  onTestFinished(() => store.close())
  const settle = (taken: StoredDelivery | undefined, more: Partial<Settlement> = {}) =>
    store.inbox.settle([{ seq: taken?.seq ?? 0, ...settlement(more) }])
  /** Decides a new delivery this way. */
  const decide = async (more: Partial<Settlement>) => {
    deliveries += 1
    const id = `decided-${deliveries}`
    await store.inbox.accept([delivery(id, id)])
    for (const taken of await store.inbox.due(100)) {
      if (taken.id === id) await settle(taken, more)
      else await store.inbox.release(taken.seq)
    }
  }
  return {
    store,
    now: () => now,
    pass: (ms: number) => {
      now += ms
    },
    settle,
    decide,
    effects: (...effects: Effect[]) => decide({ effects }),
    add: async (...actions: QueuedAction[]) => {
      const results = []
      for (const action of actions) results.push(await store.queue.enqueue(action))
      return results
    },
    claim: async (runnerId = 'runner-1', offered: Offer = offer): Promise<Lease> => {
      const lease = await store.queue.claim(runnerId, offered)
      if (lease === null) throw new Error('there is nothing to claim')
      return lease
    },
    /** The ids of all that are due. */
    due: async (limit = 10) => (await store.inbox.due(limit)).map(({ id }) => id),
    messages: async () => (await store.outbox.due(100)).map(({ key }) => key),
  }
}
export type Stage = Awaited<ReturnType<typeof openStage>>
