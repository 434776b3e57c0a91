/** What may be pruned and what is kept, and what a folder has. No link is followed: it may lead to somebody else's. */
import { lstatSync, readdirSync } from 'node:fs'
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

const statOf = (path: string) => lstatSync(path, { throwIfNoEntry: false })
export const isFolder = (path: string): boolean => statOf(path)?.isDirectory() === true
export const isFile = (path: string): boolean => statOf(path)?.isFile() === true

/** The names in a folder of the home. `linked`: it is a link, which is left alone. */
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
