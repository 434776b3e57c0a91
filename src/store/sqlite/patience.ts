/**
 * What waits for a lock of another process waits here, and the event loop goes on: SQLite's own waiting would block the process.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isLocked } from '../../damage.ts'
import { fail } from '../../errors.ts'
import type { Store } from '../port.ts'

/** Between two attempts to get the lock. Milliseconds. */
const RETRY_MS = 25
/** Milliseconds. */
export const PATIENCE_MS = 60_000

type Wait = () => Promise<void>

/** Resolves when the lock is free. One attempt is made for all that wait. */
const openWait = (path: string, tryLock: () => void): Wait => {
  const wait = async () => {
    const end = performance.now() + PATIENCE_MS
    while (true) {
      await delay(RETRY_MS)
      try {
        return tryLock()
      } catch (error) {
        if (!isLocked(error)) throw error
        if (performance.now() > end)
          throw fail(
            'busy',
            `writing ${path}: another process has had its lock for ${PATIENCE_MS / 1000} s`,
            `Find that process and end it: fuser ${path}`,
            error,
          )
      }
    }
  }
  let waiting: Promise<void> | null = null
  return () => {
    waiting ??= wait().finally(() => {
      waiting = null
    })
    return waiting
  }
}

type Method = (...values: unknown[]) => Promise<unknown>

/** Each call of the store is one transaction, or begins with one: what found the lock taken has changed nothing. */
const patiently =
  (method: Method, wait: Wait): Method =>
  async (...values) => {
    while (true) {
      try {
        return await method(...values)
      } catch (error) {
        if (!isLocked(error)) throw error
        await wait()
      }
    }
  }

const patientMembers = <T extends object>(members: T, wait: Wait): T =>
  Object.fromEntries(
    Object.entries(members).map(([name, member]) => [
      name,
      typeof member === 'function' ? patiently(member as Method, wait) : patientMembers(member, wait),
    ]),
  ) as T

/** The store with calls that wait. `tryLock` takes the lock and gives it back. `path` is for the message. */
export const patient = (store: Store, path: string, tryLock: () => void): Store =>
  patientMembers(store, openWait(path, tryLock))
