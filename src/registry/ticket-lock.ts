/**
 * One lock per ticket, for every process of this home: runner, CLI, a second runner by mistake. It is an exclusive
 * transaction on an empty SQLite file, so the kernel holds it and gives it back when its process dies, kill -9 included.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'
import type { Ticket } from '../domain.ts'
import { fail } from '../errors.ts'

/** Milliseconds between two tries. SQLite would wait for us, but with the whole process standing still. */
const RETRY_MS = 50
const SQLITE_BUSY = 5

const isBusy = (error: unknown) => error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY

/** Null when another holds it. */
const tryLock = (home: string, ticket: Ticket): (() => void) | null => {
  const folder = join(home, 'locks')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const db = new DatabaseSync(join(folder, `${ticket}.lock`), { timeout: 0 })
  try {
    db.exec('begin exclusive')
    return () => db.close()
  } catch (error) {
    db.close()
    if (isBusy(error)) return null
    throw error
  }
}

/** Runs `work` while no other process or task works on `ticket`. `onWait` is called once when it has to wait. */
export const withTicketLock = async <T>(
  home: string,
  ticket: Ticket,
  { signal, onWait }: { signal: AbortSignal; onWait: () => void },
  work: () => Promise<T>,
): Promise<T> => {
  let release = tryLock(home, ticket)
  if (release === null) onWait()
  while (release === null) {
    await delay(RETRY_MS, undefined, { signal }).catch(() => {
      throw fail('cancelled', `waiting for another command on ${ticket}: cancelled`)
    })
    release = tryLock(home, ticket)
  }
  try {
    return await work()
  } finally {
    release()
  }
}

/** The same, but only when nobody has it: null otherwise. */
export const ifUnlocked = async <T>(home: string, ticket: Ticket, work: () => Promise<T>): Promise<T | null> => {
  const release = tryLock(home, ticket)
  if (release === null) return null
  try {
    return await work()
  } finally {
    release()
  }
}
