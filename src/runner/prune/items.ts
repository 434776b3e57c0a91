/** What may be pruned and what is kept, and how files are measured. No link is followed: it may lead to somebody else's. */
import { lstatSync, readdirSync } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Requester } from '../../schema/action.ts'
import type { PruneItem } from '../../schema/prune.ts'

/** For whom things are removed, and until when. */
export type Removing = { by: Requester; signal: AbortSignal; onPhase: (phase: string) => void }
/**
 * `remove` looks again, under the lock of what it removes, and throws a failure when it stays. Returns a clause about the work that
 * was saved first; null when there was none.
 */
export type Prunable = PruneItem & { remove: (removing: Removing) => Promise<string | null> }
export type Sorted = { prunable: Prunable[]; kept: PruneItem[] }

export const DAY_MS = 24 * 60 * 60_000

const statOf = (path: string) => lstatSync(path, { throwIfNoEntry: false })
export const isFolder = (path: string): boolean => statOf(path)?.isDirectory() === true
export const isFile = (path: string): boolean => statOf(path)?.isFile() === true

/** The names in a folder of the home. `linked`: it is no folder but a link, which is left as it is. */
export const namesIn = (home: string, ...parts: string[]): { names: string[]; linked: boolean } => {
  let path = home
  for (const part of parts) {
    path = join(path, part)
    const stats = statOf(path)
    if (stats === undefined) return { names: [], linked: false }
    if (!stats.isDirectory()) return { names: [], linked: stats.isSymbolicLink() }
  }
  return { names: readdirSync(path).sort(), linked: false }
}

/** When it changed last, epoch ms; a folder: when anything in it did. Null when it is gone. */
export const changedAt = async (path: string): Promise<number | null> => {
  const stats = await lstat(path).catch(() => null)
  if (stats === null || !stats.isDirectory()) return stats?.mtimeMs ?? null
  const times = await Promise.all(
    (await entriesIn(path)).map(async each => (await lstat(each).catch(() => null))?.mtimeMs),
  )
  return Math.max(stats.mtimeMs, ...times.map(time => time ?? 0))
}
const entriesIn = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []))
    .filter(entry => !entry.isDirectory())
    .map(entry => join(entry.parentPath, entry.name))

/** Of a file, or of all files in a folder. */
export const bytesOf = async (path: string): Promise<number> => {
  const stats = await lstat(path).catch(() => null)
  if (stats === null || !stats.isDirectory()) return stats?.size ?? 0
  const sizes = await Promise.all(
    (await entriesIn(path)).map(async each => (await lstat(each).catch(() => null))?.size),
  )
  return sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0)
}
