/**
 * Backups of a database: consistent copies, made while it is in use, in `backups/` beside it. A copy counts once it has its name,
 * which it gets when it is whole, checked and on disk. Each carries a mark, so that whoever opens it in the database's place
 * knows that time has gone on since.
 */

import { closeSync, existsSync, mkdirSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { DAY_MS, newestFirst } from './clock.ts'
import { timestamp } from './domain.ts'
import { fail } from './errors.ts'
import { isProcessAlive } from './exec.ts'
import { flush } from './files.ts'

/** How many backups of one database are kept. */
export const KEPT_BACKUPS = 7
/** How long a backup waits for a lock of another process. Milliseconds. */
const BUSY_MS = 60_000
const SQLITE_FULL = 13

/** `madeAt`: epoch ms, whole seconds. */
export type Backup = { file: string; madeAt: number }

export const backupsFolder = (path: string): string => join(dirname(path), 'backups')
const nameOf = (path: string): string => basename(path, '.db')

/** The time in a backup's name; null for another file. */
const timeIn = (name: string, path: string): number | null => {
  const prefix = `${nameOf(path)}-`
  const [, day, hour, minute, second] =
    (name.startsWith(prefix) ? name.slice(prefix.length) : '').match(/^(\d{8})-(\d\d)(\d\d)(\d\d)\.db$/) ?? []
  if (day === undefined) return null
  const date = `${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}`
  const at = Date.parse(`${date}T${hour}:${minute}:${second}Z`)
  return Number.isNaN(at) ? null : at
}

const namesIn = (folder: string): string[] => {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** Of the database at `path`, the newest first. Those from the future come last: a clock that was ahead named them. */
export const listBackups = (path: string, now: number): Backup[] => {
  const order = newestFirst(now)
  return namesIn(backupsFolder(path))
    .flatMap(name => {
      const madeAt = timeIn(name, path)
      return madeAt === null ? [] : [{ file: join(backupsFolder(path), name), madeAt }]
    })
    .sort((a, b) => order(a.madeAt, b.madeAt))
}

/** Milliseconds until the next daily backup is due; 0 when it is. One from the future does not count. */
export const backupDueIn = (path: string, now: number): number => {
  const [newest] = listBackups(path, now)
  return newest === undefined || newest.madeAt > now ? 0 : Math.max(0, newest.madeAt + DAY_MS - now)
}

/** What a process left that died in the middle of a backup. `file` has no such process any more. */
const removeUnfinished = (path: string): void => {
  for (const name of namesIn(backupsFolder(path))) {
    const [, backup = '', pid] = name.match(/^(.+\.db)\.(\d+)\.new(?:-journal)?$/) ?? []
    if (pid === undefined || timeIn(backup, path) === null) continue
    if (Number(pid) === process.pid || !isProcessAlive(Number(pid)))
      rmSync(join(backupsFolder(path), name), { force: true })
  }
}

const MARK = 'restored_copy'

/** Opens the copy, marks it and checks it. */
const finish = (copy: string, madeAt: number): void => {
  const db = new DatabaseSync(copy)
  try {
    db.exec(`create table if not exists ${MARK} (made_at integer not null) strict`)
    db.prepare(`insert into ${MARK} values (?)`).run(madeAt)
    const found = db.prepare('pragma quick_check(1)').get()?.quick_check
    if (found !== 'ok') throw new Error(`the copy is damaged: ${found}`)
  } finally {
    db.close()
  }
}

/** Copies the database at `path` into the new file `copy`. Readers and writers of it go on meanwhile. */
const copyInto = (path: string, copy: string): void => {
  // SQLite would give it the permissions of the umask.
  closeSync(openSync(copy, 'wx', 0o600))
  const db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  try {
    db.prepare('vacuum into ?').run(copy)
  } finally {
    db.close()
  }
}

const failureOfBackup = (path: string, error: unknown): Error => {
  const message = error instanceof Error ? error.message : String(error)
  const isFull =
    error instanceof Error &&
    (('errcode' in error && error.errcode === SQLITE_FULL) || ('code' in error && error.code === 'ENOSPC'))
  const doing = `backing up ${path} into ${backupsFolder(path)}`
  return isFull
    ? fail('disk-full', `${doing}: ${message}`, `Free as much room there as ${basename(path)} takes.`, error)
    : fail('unknown', `${doing}: ${message}`, 'Check that this user may write there, and look at the disk.', error)
}

/**
 * Makes a backup (0600) and keeps the first KEPT_BACKUPS of `listBackups`. Takes about ten seconds for a gigabyte, and blocks
 * its thread. `now` is epoch ms. Throws a failure, `disk-full` among others; nothing is left behind then.
 */
export const writeBackup = (path: string, now: number): Backup => {
  const folder = backupsFolder(path)
  const madeAt = Math.floor(now / 1000) * 1000
  const file = join(folder, `${nameOf(path)}-${timestamp(new Date(madeAt))}.db`)
  const copy = `${file}.${process.pid}.new`
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    removeUnfinished(path)
    copyInto(path, copy)
    finish(copy, madeAt)
    flush(copy)
    renameSync(copy, file)
    flush(folder)
  } catch (error) {
    throw failureOfBackup(path, error)
  } finally {
    for (const left of [copy, `${copy}-journal`]) if (existsSync(left)) rmSync(left)
  }
  for (const old of listBackups(path, now).slice(KEPT_BACKUPS)) rmSync(old.file, { force: true })
  return { file, madeAt }
}

/**
 * Runs `onRestored` once in a database that is a backup put in its place, in a transaction, with the time of the backup (epoch ms).
 * It is an ordinary database after that.
 */
export const settleRestored = (
  { db, transaction }: { db: DatabaseSync; transaction: (work: () => void) => void },
  onRestored: (madeAt: number) => void,
): void => {
  const isMarked = () => db.prepare(`select 1 from sqlite_schema where name = '${MARK}'`).get() !== undefined
  if (!isMarked()) return
  transaction(() => {
    // Another process may have done it while this one waited for the lock.
    if (!isMarked()) return
    onRestored(Number(db.prepare(`select min(made_at) as at from ${MARK}`).get()?.at ?? 0))
    db.exec(`drop table ${MARK}`)
  })
}
