/** The store's calls wait for a lock of another process where the event loop goes on. */
import { isLocked } from '../../damage.ts'
import { openLockWait } from '../../free-lock.ts'
import type { Store } from '../port.ts'

type Method = (...values: unknown[]) => Promise<unknown>

/** Each call of the store is one transaction, or begins with one: what found the lock taken has changed nothing. */
const patiently =
  (method: Method, unlocked: () => Promise<void>): Method =>
  async (...values) => {
    while (true) {
      try {
        return await method(...values)
      } catch (error) {
        if (!isLocked(error)) throw error
        await unlocked()
      }
    }
  }

const patientMembers = <T extends object>(members: T, unlocked: () => Promise<void>): T =>
  Object.fromEntries(
    Object.entries(members).map(([name, member]) => [
      name,
      typeof member === 'function' ? patiently(member as Method, unlocked) : patientMembers(member, unlocked),
    ]),
  ) as T

/** The store with calls that wait. `tryLock` takes the lock and gives it back. `path` is for the message. */
export const patient = (store: Store, path: string, tryLock: () => void): Store =>
  patientMembers(store, openLockWait(path, tryLock))
