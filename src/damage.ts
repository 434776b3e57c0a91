/**
 * Notices that a database is not what was written last, and says what to do. SQLite finds damage where it reads; a whole look
 * (`damageOf`) reads everything. Damage that is found in the middle of work ends a server: `damage` tells it.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type Backup, listBackups } from './backups.ts'
import { type FailureError, fail } from './errors.ts'
import { isLogDamaged } from './wal.ts'

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED = [11, 26]
const SQLITE_BUSY = 5
const BUSY_MS = 60_000

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
const sizeOf = (path: string): number | null => statSync(path, { throwIfNoEntry: false })?.size ?? null

/**
 * The connections of this process, by path. While one is open, nobody here may open and close the file or the index of its log in
 * another way: the system would release the locks of the connection. https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
 */
const connections = new Map<string, DatabaseSync[]>()
const openHere = (path: string): DatabaseSync[] => (connections.get(path) ?? []).filter(db => db.isOpen)
export const rememberConnection = (path: string, db: DatabaseSync): void =>
  void connections.set(path, [...openHere(path), db])

/** Whether the file has no log, as a backup: SQLite would read the log that lies beside it into it. */
const isBackup = (path: string): boolean => {
  const file = openSync(path, 'r')
  try {
    // "File format write version": 1 is a rollback journal, 2 a write-ahead log. https://www.sqlite.org/fileformat.html
    const header = Buffer.alloc(19)
    readSync(file, header, 0, 19, 0)
    return header[18] === 1
  } finally {
    closeSync(file)
  }
}

/**
 * Of what is missing, SQLite would make an empty file, or take an older state for the present one. A process that dies leaves
 * the log (`-wal`) with its index (`-shm`); one that closes removes the index first. So an index without a log is a log that
 * was lost. `whole`: reads all of the log.
 */
export const lossOf = (path: string, { whole = false } = {}): string | null => {
  const size = sizeOf(path)
  if (size === null || size === 0) {
    if (listBackups(path, Date.now()).length === 0) return null
    return size === null ? 'the file is missing, and there are backups of it' : 'the file is empty'
  }
  const isLogLost = () => sizeOf(`${path}-shm`) !== null && sizeOf(`${path}-wal`) === null
  // Asked twice: another process may be opening or closing it.
  if (isLogLost() && isLogLost()) return `its log, ${basename(path)}-wal, is missing: the newest changes are lost`
  // It was looked at before it was opened.
  if (openHere(path).length > 0) return null
  if (isLogDamaged(path, { whole })) return `its log, ${basename(path)}-wal, is damaged: the newest changes are lost`
  return sizeOf(`${path}-wal`) !== null && isBackup(path)
    ? `a backup took its place, and ${basename(path)}-wal and -shm are of the former file. Move them away`
    : null
}

/**
 * A connection that changes nothing. Only of a file whose maker died before it had a write-ahead log, it rolls back what that one had
 * begun: SQLite reads nothing before (SQLITE_READONLY_ROLLBACK).
 */
export const openToRead = (path: string, timeout = BUSY_MS): DatabaseSync =>
  new DatabaseSync(path, { readOnly: sizeOf(`${path}-journal`) === null, timeout })

/** Reads the whole file, about a gigabyte in two seconds. Null when nothing is wrong with it, or when it does not exist. */
export const damageOf = (path: string): string | null => {
  const loss = lossOf(path, { whole: true })
  if (loss !== null || sizeOf(path) === null) return loss
  try {
    const db = openToRead(path)
    try {
      const found = db.prepare('pragma quick_check(1)').get()?.quick_check
      return found === 'ok' ? null : String(found)
    } finally {
      db.close()
    }
  } catch (error) {
    if (isDamage(error)) return messageOf(error)
    throw error
  }
}

const codeOf = (error: unknown): number =>
  error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0
export const isDamage = (error: unknown): boolean => DAMAGED.includes(codeOf(error))
/** Another process has the lock. */
export const isLocked = (error: unknown): boolean => codeOf(error) === SQLITE_BUSY

/** Without a good backup. */
const REMEDIES: Readonly<Record<string, string>> = {
  'bot.db':
    'Move it away with its -wal and -shm files: the bot then starts without its queue, and learns of all machines from their runners.',
  'registry.db': 'Make a new one from the machines that the hypervisor has: agent-swarm doctor --rebuild-registry',
}

const wayOn = (path: string, backups: readonly Backup[]): string => {
  const [newest] = backups
  if (newest === undefined) {
    const none =
      listBackups(path, Date.now()).length === 0
        ? 'It has no backup.'
        : 'None of its backups is good: move them out of backups/.'
    return `${none} ${REMEDIES[basename(path)] ?? 'Move the file away.'}`
  }
  const made = new Date(newest.madeAt).toISOString()
  return `Go on from its newest backup, of ${made}: start agent-swarm up (or bot, or runner) with --from-backup. The damaged file is kept beside it. What was queued then is not carried out, but listed.`
}

/** `doing` says what was being done. `backups`: those that may be good. */
export const damaged = (
  doing: string,
  path: string,
  what: string,
  backups: readonly Backup[] = listBackups(path, Date.now()),
): FailureError => fail('damaged', `${doing} ${path}: it is damaged: ${what}`, wayOn(path, backups))

let listener: (failure: FailureError) => void = () => {}
/** Called for each database that is found to be damaged in this process. The last listener counts. */
export const onDamage = (listen: (failure: FailureError) => void): void => {
  listener = listen
}
/** Tells this process that a database of it is damaged. Returns the failure, to throw. */
export const damage = (path: string, what: string): FailureError => {
  const failure = damaged('using', path, what)
  listener(failure)
  return failure
}

/** Runs `work` on the open database at `path`. Damage becomes a failure that names the file, and the process learns of it. */
export const noticing = <T>(path: string, work: () => T): T => {
  try {
    return work()
  } catch (error) {
    throw isDamage(error) ? damage(path, messageOf(error)) : error
  }
}
