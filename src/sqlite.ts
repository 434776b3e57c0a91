/** How each of our SQLite files is opened: written ahead, synced in full, migrated, and with transactions. */
import { DatabaseSync } from 'node:sqlite'
import { fail, isFailure } from './errors.ts'

/** How long a writer waits for the others. SQLite's queue is not fair: with fifty commands at once on a busy disk 5 s were too few. */
const BUSY_MS = 60_000

/** Each migration is run once, all that are missing in one transaction; a newer file is refused and left alone. */
const migrate = (db: DatabaseSync, path: string, migrations: readonly string[]): void => {
  const version = () => Number(db.prepare('pragma user_version').get()?.user_version ?? 0)
  const refuseNewer = () => {
    if (version() <= migrations.length) return
    throw fail(
      'newer-schema',
      `opening ${path}: it was written by a newer agent-swarm (schema ${version()}, this one knows ${migrations.length})`,
      'Install that version again, or a later one. Nothing was changed.',
    )
  }
  refuseNewer()
  if (version() === migrations.length) return
  db.exec('begin immediate')
  try {
    // Another process may have migrated it while this one waited for the lock.
    refuseNewer()
    for (const sql of migrations.slice(version())) db.exec(sql)
    // A pragma takes no parameters; it is a number of ours.
    db.exec(`pragma user_version = ${migrations.length}`)
    db.exec('commit')
  } catch (error) {
    db.exec('rollback')
    throw error
  }
}

export type Store = { db: DatabaseSync; transaction: <T>(work: () => T) => T }

/** How a store is opened: `openStore`, or `openCopy`. */
export type OpenStore = (path: string, migrations: readonly string[]) => Store

/** A copy in memory of the store at `path`, which is brought up to date before. What is written into it is gone with it. */
export const openCopy: OpenStore = (path, migrations) => {
  openStore(path, migrations).db.close()
  const copy = openStore(':memory:', migrations)
  const { db } = copy
  db.prepare('attach ? as original').run(path)
  const tables = db.prepare(`select name from original.sqlite_master where type = 'table' and sql is not null`).all()
  // The name of a table is no parameter either: these are those of our migrations.
  for (const { name } of tables) {
    db.exec(`delete from main."${name}"; insert into main."${name}" select * from original."${name}"`)
  }
  db.exec('detach original')
  return copy
}

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED = [11, 26]

/** What SQLite says of a file says neither which it is nor what to do. */
const cannotOpen = (path: string, error: unknown): unknown => {
  if (isFailure(error) || !(error instanceof Error)) return error
  const code = 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : null
  const remedy =
    code !== null && DAMAGED.includes(code)
      ? 'It is damaged: put a copy of it back. Moved away, with the -wal and -shm beside it, it is made anew, and what it knew is forgotten.'
      : 'May this user write there, and is there room on the disk?'
  return fail('unknown', `opening ${path}: ${error.message}`, remedy, error)
}

const storeOf = (db: DatabaseSync): Store => ({
  db,
  transaction: work => {
    if (db.isTransaction) return work()
    db.exec('begin immediate')
    try {
      const result = work()
      db.exec('commit')
      return result
    } catch (error) {
      // On a full disk SQLite may have rolled back already.
      if (db.isTransaction) db.exec('rollback')
      throw error
    }
  },
})

/** Opens `path` (or `:memory:`) and brings it up to the last of `migrations`. A transaction within one is part of it. */
export const openStore = (path: string, migrations: readonly string[]): Store => {
  let db: DatabaseSync | null = null
  try {
    db = new DatabaseSync(path, { timeout: BUSY_MS })
    db.exec('pragma journal_mode = wal; pragma synchronous = full;')
    migrate(db, path, migrations)
    return storeOf(db)
  } catch (error) {
    db?.close()
    throw cannotOpen(path, error)
  }
}
