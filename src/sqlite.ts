/** How each SQLite file is opened: write-ahead log, full sync, migrations after a backup, transactions. */
import { chmodSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { writeBackup } from './backups.ts'
import { damaged, isDamage, isLocked, lossOf, noticing, rememberConnection } from './damage.ts'
import { fail, isFailure } from './errors.ts'
import { lockedTooLong, PATIENCE_MS } from './free-lock.ts'

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
  if (version() > 0 && path !== ':memory:') writeBackup(path, Date.now())
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

export type Database = {
  db: DatabaseSync
  /** One within another is part of it. */
  transaction: <T>(work: () => T) => T
  /** Runs statements outside of a transaction; see `noticing` in damage.ts. */
  noticing: <T>(work: () => T) => T
}

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

/** SQLite's message names neither the file nor the remedy. */
const cannotOpen = (path: string, error: unknown): unknown => {
  if (isFailure(error) || !(error instanceof Error)) return error
  if (isDamage(error)) return damaged('opening', path, error.message)
  if (isLocked(error)) return lockedTooLong('opening', path, error)
  const remedy = 'Check that this user may write there, and that the disk is not full.'
  return fail('unknown', `opening ${path}: ${error.message}`, remedy, error)
}

const databaseOf = (db: DatabaseSync, path: string): Database => ({
  db,
  noticing: work => noticing(path, work),
  transaction: work => {
    if (db.isTransaction) return work()
    return noticing(path, () => {
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
    })
  },
})

/** Opens `path` (or `:memory:`) and migrates it. Fails with the file's name and a remedy, `damaged` when something of it is lost. */
export const openDatabase: OpenDatabase = (path, migrations) => {
  let db: DatabaseSync | null = null
  try {
    const loss = path === ':memory:' ? null : lossOf(path)
    if (loss !== null) throw damaged('opening', path, loss)
    db = new DatabaseSync(path, { timeout: PATIENCE_MS })
    if (path !== ':memory:') rememberConnection(path, db)
    const isNew = db.prepare('pragma page_count').get()?.page_count === 0
    // SQLite gives its log and index the same mode.
    if (isNew && path !== ':memory:') chmodSync(path, 0o600)
    // Of a new file: compact.ts gives free pages back step by step. On an old one this takes the lock of a writer, and does nothing.
    if (isNew) db.exec('pragma auto_vacuum = incremental')
    db.exec('pragma journal_mode = wal; pragma synchronous = full;')
    migrate(db, path, migrations)
    return databaseOf(db, path)
  } catch (error) {
    db?.close()
    throw cannotOpen(path, error)
  }
}
