/**
 * What a server does for a database of its own: a look at all of it at the start, and a backup once a day, which looks at it
 * too. Both read the whole file: of a large one in a process of its own, so that this one answers meanwhile, and ends when it is
 * told to.
 */
import { statSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { backupDueIn } from './backups.ts'
import type { Clock } from './clock.ts'
import { damage, damaged, damageOf, lossOf } from './damage.ts'
import { openRun } from './exec.ts'
import type { Log } from './log.ts'
import type { Failure } from './schema/failure.ts'

export type WholeRead = { damage: string | null; failure: Failure | null }

/** Read at once in a few milliseconds: no process is worth that. Bytes. */
const SMALL = 16 * 1024 * 1024
/** A process that ends soon makes no backup. Milliseconds. */
const FIRST_BACKUP_MS = 60_000
/** After a backup that failed, and at most between two looks whether one is due: the clock may be set. Milliseconds. */
const AGAIN_MS = 60 * 60_000
const DEADLINE_MS = 60 * 60_000

// In a package, this file and the other are JavaScript.
const program = fileURLToPath(new URL(`./read-database${extname(import.meta.url)}`, import.meta.url))

export type DatabaseCare = {
  /** Resolves when the check at the start is over, after `onDamage` was called for what it found. */
  checked: Promise<void>
  close(): void
}

/** Throws `damaged` when a small database is. `firstBackupMs`: when the first backup may begin. */
export const careFor = (
  path: string,
  { clock, log, firstBackupMs = FIRST_BACKUP_MS }: { clock: Clock; log: Log; firstBackupMs?: number },
): DatabaseCare => {
  const closing = new AbortController()
  const { signal } = closing
  const run = openRun({})
  const read = async (what: 'check' | 'backup'): Promise<void> => {
    try {
      const argv = [program, what, path, String(clock())]
      const { stdout } = await run(process.execPath, argv, { signal, deadline: DEADLINE_MS })
      const found: WholeRead = JSON.parse(stdout)
      if (found.damage !== null) damage(path, found.damage)
      else if (found.failure !== null) log.error({ remedy: found.failure.remedy }, found.failure.message)
      else if (what === 'backup') log.info(`backed up ${path}`)
    } catch (error) {
      if (!signal.aborted) log.error({ err: error }, `reading ${path}`)
    }
  }
  let timer: NodeJS.Timeout | undefined
  const later = (wait: number) => {
    if (signal.aborted) return
    timer = setTimeout(look, wait)
    timer.unref()
  }
  const look = async () => {
    if (backupDueIn(path, clock()) === 0) await read('backup')
    later(Math.min(backupDueIn(path, clock()) || AGAIN_MS, AGAIN_MS))
  }
  const isSmall = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) <= SMALL
  // What a killed process left in the log is looked at before anybody opens it: 33 MB, as much as usual, in half a second.
  const found = isSmall ? damageOf(path) : lossOf(path, { whole: true })
  if (found !== null) throw damaged('opening', path, found)
  later(firstBackupMs)
  return {
    checked: isSmall ? Promise.resolve() : read('check'),
    close: () => {
      closing.abort()
      clearTimeout(timer)
    },
  }
}
