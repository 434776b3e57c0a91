/**
 * The folders in which git keeps the new objects of pushes until it takes them. git removes the folder of a push that fails, but
 * not when a signal ends it (since 2.39).
 */
import { readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

/** `name`: of a folder in a mirror's `objects`. */
export const isQuarantine = (name: string): boolean => /^(?:tmp_objdir-)?incoming-/.test(name)

const quarantinesIn = (mirror: string): string[] => {
  try {
    return readdirSync(join(mirror, 'objects')).filter(isQuarantine)
  } catch {
    // The mirror was removed, or never made.
    return []
  }
}

/** The pushes of this process. */
export const openQuarantines = () => {
  /** By mirror: of each push that is under way, the folders that were there before it. None of them is its own. */
  const underWay = new Map<string, Set<ReadonlySet<string>>>()
  /** Removes the folders that belong to no push under way. */
  const removeDead = async (mirror: string): Promise<void> => {
    // In one go: a push that begins later makes a folder with a new name.
    const pushes = [...(underWay.get(mirror) ?? [])]
    const dead = quarantinesIn(mirror).filter(name => pushes.every(before => before.has(name)))
    for (const name of dead) await rm(join(mirror, 'objects', name), { recursive: true, force: true })
  }
  return {
    removeDead,
    /** Call it before git starts. Returns what to call when git has ended. */
    begin: (mirror: string): (() => Promise<void>) => {
      const pushes = underWay.get(mirror) ?? new Set()
      const before = new Set(quarantinesIn(mirror))
      underWay.set(mirror, pushes.add(before))
      return async () => {
        pushes.delete(before)
        if (pushes.size === 0) underWay.delete(mirror)
        await removeDead(mirror)
      }
    },
  }
}
