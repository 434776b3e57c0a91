/** Gives what a SQLite file does not use any more back to the disk, in steps that hold up nobody. */
import type { DatabaseSync } from 'node:sqlite'
import { setImmediate as nextTurn } from 'node:timers/promises'

/** Free pages that stay for what is written next: a share of the file. */
const SPARE = 0.1
/** Pages of one step, each a transaction. */
const STEP = 500
/** A file of an earlier version is rewritten once, when so much of it is free. Bytes. */
const WORTH_REWRITING = 16 * 1024 * 1024

const NONE = 0

/** `isStopped`: the file is about to be closed. */
export const compact = async (db: DatabaseSync, isStopped: () => boolean): Promise<void> => {
  const number = (pragma: string) => Number(Object.values(db.prepare(`pragma ${pragma}`).get() ?? {})[0])
  const isMostlyFree = () => number('freelist_count') > number('page_count') / 2
  if (number('auto_vacuum') === NONE) {
    if (isMostlyFree() && number('freelist_count') * number('page_size') > WORTH_REWRITING)
      db.exec('pragma auto_vacuum = incremental; vacuum')
  } else {
    while (!isStopped() && number('freelist_count') > number('page_count') * SPARE + STEP) {
      db.exec(`pragma incremental_vacuum(${STEP})`)
      await nextTurn()
    }
  }
  if (isStopped()) return
  // Others may be reading: then the log is cut next time, and nobody waits for it.
  const patience = number('busy_timeout')
  db.exec('pragma busy_timeout = 0')
  try {
    db.exec('pragma wal_checkpoint(truncate)')
  } finally {
    db.exec(`pragma busy_timeout = ${patience}`)
  }
}
