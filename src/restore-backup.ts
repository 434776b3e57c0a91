/** Puts the newest good backup in the place of a damaged database. */
import { copyFileSync, existsSync, linkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { type Backup, listBackups } from './backups.ts'
import { damaged, damageOf } from './damage.ts'
import { timestamp } from './domain.ts'
import { flush, removeUnfinished } from './files.ts'

/** `kept`: the damaged file, null when it was missing. */
export type Restored = { backup: Backup; what: string; kept: string | null }

const isGood = ({ file }: Backup): boolean => {
  try {
    return damageOf(file) === null
  } catch {
    return false
  }
}

/**
 * The damaged file is kept beside it, with its log. Whenever this ends in the middle, what is there counts as damaged: the
 * index of a log (`-shm`) without the log says so until the backup is in place.
 */
const replace = (path: string, backup: Backup, now: number): string | null => {
  const kept = `${path}.damaged-${timestamp(new Date(now))}`
  const copy = `${path}.${process.pid}.new`
  // Of a restore that was killed.
  removeUnfinished(dirname(path), basename(path))
  rmSync(copy, { force: true })
  copyFileSync(backup.file, copy)
  flush(copy)
  if (!existsSync(`${path}-shm`)) writeFileSync(`${path}-shm`, '', { mode: 0o600 })
  if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${kept}-wal`)
  const isThere = existsSync(path)
  // A restore that was killed within this second kept it already.
  if (isThere && !existsSync(kept)) linkSync(path, kept)
  renameSync(copy, path)
  rmSync(`${path}-shm`)
  return isThere ? kept : null
}

/**
 * Reads the whole database at `path`; null when nothing is wrong with it. Throws `damaged` when it is and no backup is good. No
 * other process may have it open. `now` is epoch ms.
 */
export const restoreDamaged = (path: string, now: number): Restored | null => {
  const what = damageOf(path)
  if (what === null) return null
  const backup = listBackups(path, now).find(isGood)
  if (backup === undefined) throw damaged('opening', path, what, [])
  return { backup, what, kept: replace(path, backup, now) }
}

/** What was done, and what that means, for whoever started the process. */
export const restoredText = (path: string, { backup, what, kept }: Restored): string =>
  `${basename(path)} was damaged (${what}). It is the backup of ${new Date(backup.madeAt).toISOString()} now${
    kept === null ? '' : `; the damaged file is kept as ${kept}`
  }.`
