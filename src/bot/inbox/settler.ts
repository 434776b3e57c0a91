/** Group commit: what was decided in one turn of the event loop is settled in one transaction, and so with one fsync. */
import type { Settlement, Store, StoredDelivery } from '../../store/port.ts'

/** Settles a delivery; fails when it could not be written. */
export type Settle = (delivery: StoredDelivery, settlement: Settlement) => Promise<void>
type Waiting = {
  delivery: StoredDelivery
  settlement: Settlement
  resolve: () => void
  reject: (error: unknown) => void
}

export const openSettler = (
  inbox: Pick<Store['inbox'], 'settle'>,
  onSettled: (delivery: StoredDelivery, settlement: Settlement) => void,
): Settle => {
  let waiting: Waiting[] = []
  const write = (batch: readonly Waiting[]) =>
    inbox.settle(batch.map(({ delivery, settlement }) => ({ seq: delivery.seq, ...settlement })))
  const commit = async () => {
    const batch = waiting
    waiting = []
    const areWritten = await write(batch).then(
      () => true,
      () => false,
    )
    for (const entry of batch) {
      try {
        // One that cannot be settled must not take the others with it.
        if (!areWritten) await write([entry])
        onSettled(entry.delivery, entry.settlement)
        entry.resolve()
      } catch (error) {
        entry.reject(error)
      }
    }
  }
  return (delivery, settlement) =>
    new Promise<void>((resolve, reject) => {
      if (waiting.length === 0) setImmediate(() => void commit())
      waiting.push({ delivery, settlement, resolve, reject })
    })
}
