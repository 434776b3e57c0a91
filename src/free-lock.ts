/**
 * Waits for a lock that another process has on a database, while the event loop goes on: SQLite's own waiting would block the
 * process.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isLocked } from './damage.ts'
import { type FailureError, fail } from './errors.ts'
import { shellWord } from './shell-word.ts'

/** Between two attempts to get the lock. Milliseconds. */
const RETRY_MS = 25
/** SQLite's queue is not fair: with fifty commands at once on a busy disk 5 s were too few. Milliseconds. */
export const PATIENCE_MS = 60_000

/** How to find the program that has a file open. */
export const findHolder = (path: string, platform: NodeJS.Platform): string => {
  if (platform === 'win32') return 'Find it in the Task Manager (node.exe), and end it.'
  return `Find that process and end it: ${platform === 'darwin' ? 'lsof' : 'fuser'} ${shellWord(path)}`
}

/** `doing` says what was being done. */
export const lockedTooLong = (doing: string, path: string, cause: unknown): FailureError =>
  fail(
    'busy',
    `${doing} ${path}: another process has had its lock for ${PATIENCE_MS / 1000} s`,
    findHolder(path, process.platform),
    cause,
  )

/** Resolves when the lock is free: `tryLock` takes it and gives it back. One attempt is made for all that wait. */
export const openLockWait = (
  path: string,
  tryLock: () => void,
  patienceMs: number = PATIENCE_MS,
): (() => Promise<void>) => {
  const wait = async () => {
    const end = performance.now() + patienceMs
    while (true) {
      try {
        return tryLock()
      } catch (error) {
        if (!isLocked(error)) throw error
        if (performance.now() > end) throw lockedTooLong('writing', path, error)
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
