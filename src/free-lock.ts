/**
 * Waits for a lock that another process has on a database, while the event loop goes on: SQLite's own waiting would block the
 * process.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isLocked } from './damage.ts'
import { fail } from './errors.ts'

/** Between two attempts to get the lock. Milliseconds. */
const RETRY_MS = 25
/** Milliseconds. */
const PATIENCE_MS = 60_000

/** Resolves when the lock is free: `tryLock` takes it and gives it back. One attempt is made for all that wait. */
export const openLockWait = (path: string, tryLock: () => void): (() => Promise<void>) => {
  const wait = async () => {
    const end = performance.now() + PATIENCE_MS
    while (true) {
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
      await delay(RETRY_MS)
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
