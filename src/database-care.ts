/**
 * What a server does for a database of its own: a look at all of it at the start, and a backup once a day, which looks at it
 * too. Both read the whole file, so they run in a thread of their own; readers and writers go on meanwhile.
 */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { backupDueIn } from './backups.ts'
import type { Clock } from './clock.ts'
import { damage } from './damage.ts'
import type { Log } from './log.ts'
import type { Failure } from './schema/failure.ts'

/** `now`: epoch ms. */
export type WholeRead = { path: string; what: 'check' | 'backup'; now: number }
export type WholeReadResult = { damage: string | null; failure: Failure | null }

/** A process that ends soon makes no backup. Milliseconds. */
const FIRST_BACKUP_MS = 60_000
/** After a backup that failed, and at most between two looks whether one is due: the clock may be set. Milliseconds. */
const AGAIN_MS = 60 * 60_000

// In a package, this file and the worker's are JavaScript.
const worker = new URL(`./database-worker${extname(import.meta.filename)}`, import.meta.url)

const readWhole = (work: WholeRead, signal: AbortSignal): Promise<WholeReadResult> =>
  new Promise((resolve, reject) => {
    const thread = new Worker(worker, { workerData: work })
    thread.unref()
    const stop = () => void thread.terminate()
    signal.addEventListener('abort', stop, { once: true })
    thread.once('message', resolve)
    thread.once('error', reject)
    thread.once('exit', () => {
      signal.removeEventListener('abort', stop)
      reject(new Error(`reading ${work.path} was stopped`))
    })
  })

export type DatabaseCare = {
  /** Resolves when the look at the start is over. Damage was told by then (`damage`). */
  checked: Promise<void>
  close(): void
}

export const careFor = (path: string, { clock, log }: { clock: Clock; log: Log }): DatabaseCare => {
  const closing = new AbortController()
  const { signal } = closing
  const read = async (what: WholeRead['what']): Promise<void> => {
    try {
      const result = await readWhole({ path, what, now: clock() }, signal)
      if (signal.aborted) return
      if (result.damage !== null) damage(path, result.damage)
      else if (result.failure !== null) log.error({ remedy: result.failure.remedy }, result.failure.message)
      else if (what === 'backup') log.info(`backed up ${path}`)
    } catch (error) {
      if (!signal.aborted) log.error({ err: error }, `reading ${path}`)
    }
  }
  let timer: NodeJS.Timeout | undefined
  const later = (wait: number) => {
    if (signal.aborted) return
    timer = setTimeout(look, Math.min(Math.max(wait, FIRST_BACKUP_MS), AGAIN_MS))
    timer.unref()
  }
  const look = async () => {
    if (backupDueIn(path, clock()) > 0) return later(backupDueIn(path, clock()))
    await read('backup')
    later(backupDueIn(path, clock()) || AGAIN_MS)
  }
  later(FIRST_BACKUP_MS)
  return {
    checked: read('check'),
    close: () => {
      closing.abort()
      clearTimeout(timer)
    },
  }
}
