/**
 * A lock that the kernel releases when its process dies, kill -9 included: an exclusive transaction on an empty SQLite file. It
 * holds between processes, and between the tasks of one.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const SQLITE_BUSY = 5

const isBusy = (error: unknown) => error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY

/** Returns how to release the lock, which may be done twice; null when another holds it. Makes the folders of `file`. */
export const lockFile = (file: string): (() => void) | null => {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const db = new DatabaseSync(file, { timeout: 0 })
  try {
    db.exec('begin exclusive')
    return () => {
      if (db.isOpen) db.close()
    }
  } catch (error) {
    db.close()
    if (isBusy(error)) return null
    throw error
  }
}
