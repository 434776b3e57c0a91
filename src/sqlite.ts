/** How each SQLite file is opened: write-ahead log, full sync, migrations, transactions. */
import { DatabaseSync } from 'node:sqlite'
import { fail, isFailure } from './errors.ts'

/** How long a writer waits for the others. SQLite's queue is not fair: with fifty commands at once on a busy disk 5 s were too few. */
const BUSY_MS = 60_000

/** SQL, or a function where SQL alone cannot do it. */
export type Migration = string | ((db: DatabaseSync) => void)

/** Runs the missing migrations in one transaction. A file of a newer version is refused and stays as it is. */
const migrate = (db: DatabaseSync, path: string, migrations: readonly Migration[]): void => {
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
    for (const migration of migrations.slice(version())) {
      if (typeof migration === 'string') db.exec(migration)
      else migration(db)
    }
    // A pragma takes no parameters.
    db.exec(`pragma user_version = ${migrations.length}`)
    db.exec('commit')
  } catch (error) {
    db.exec('rollback')
    throw error
  }
}

/** `transaction` within a transaction is part of it. */
export type Database = { db: DatabaseSync; transaction: <T>(work: () => T) => T }

/** `openDatabase` or `openDatabaseCopy`. */
export type OpenDatabase = (path: string, migrations: readonly Migration[]) => Database

/** A copy in memory of the database at `path`, which is migrated first. Writes to the copy are lost when it is closed. */
export const openDatabaseCopy: OpenDatabase = (path, migrations) => {
  openDatabase(path, migrations).db.close()
  const copy = openDatabase(':memory:', migrations)
  const { db } = copy
  db.prepare('attach ? as original').run(path)
  const tables = db.prepare(`select name from original.sqlite_master where type = 'table' and sql is not null`).all()
  // The name of a table is no parameter either: these come from the migrations.
  for (const { name } of tables) {
    db.exec(`delete from main."${name}"; insert into main."${name}" select * from original."${name}"`)
  }
  db.exec('detach original')
  return copy
}

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED = [11, 26]

/** SQLite's message names neither the file nor the remedy. */
const cannotOpen = (path: string, error: unknown): unknown => {
  if (isFailure(error) || !(error instanceof Error)) return error
  const code = 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : null
  const remedy =
    code !== null && DAMAGED.includes(code)
      ? 'The file is damaged: restore it from a backup. If you move it away, with its -wal and -shm files, a new one is made, and its contents are lost.'
      : 'Check that this user may write there, and that the disk is not full.'
  return fail('unknown', `opening ${path}: ${error.message}`, remedy, error)
}

const databaseOf = (db: DatabaseSync): Database => ({
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

/** Opens `path` (or `:memory:`) and migrates it. Fails with the file's name and a remedy. */
export const openDatabase: OpenDatabase = (path, migrations) => {
  let db: DatabaseSync | null = null
  try {
    db = new DatabaseSync(path, { timeout: BUSY_MS })
    db.exec('pragma journal_mode = wal; pragma synchronous = full;')
    migrate(db, path, migrations)
    return databaseOf(db)
  } catch (error) {
    db?.close()
    throw cannotOpen(path, error)
  }
}
