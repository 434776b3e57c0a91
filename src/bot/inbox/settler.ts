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
  const finish = ({ delivery, settlement, resolve, reject }: Waiting) => {
    try {
      onSettled(delivery, settlement)
      resolve()
    } catch (error) {
      reject(error)
    }
  }
  const writeAlone = async (entry: Waiting) => {
    try {
      await write([entry])
      finish(entry)
    } catch (error) {
      entry.reject(error)
    }
  }
  const commit = async () => {
    const batch = waiting
    waiting = []
    try {
      await write(batch)
    } catch {
      // One that cannot be settled must not take the others with it.
      for (const entry of batch) await writeAlone(entry)
      return
    }
    for (const entry of batch) finish(entry)
  }
  return (delivery, settlement) =>
    new Promise<void>((resolve, reject) => {
      if (waiting.length === 0) setImmediate(() => void commit())
      waiting.push({ delivery, settlement, resolve, reject })
    })
}
