/** Tells when the registry was written, by this process or another, without looking again and again. */
import { type FSWatcher, watch } from 'node:fs'
import { join } from 'node:path'

/** SQLite writes several times for one commit. Milliseconds. */
const SETTLE_MS = 100
/** Between two calls, unless the caller says otherwise. After the last write one more follows: the write is seen before its commit is, on a slow disk. */
const GAP_MS = 2_000
/** Where the system does not tell of writes. */
const POLL_MS = 5_000

/** Calls `onChange` after writes to the registry of `home`, which this process has open. Returns how to end that. */
export const watchRegistry = (home: string, onChange: () => void, { gapMs = GAP_MS } = {}): (() => void) => {
  let timer: NodeJS.Timeout | null = null
  let polling: NodeJS.Timeout | null = null
  let calledAt = Number.NEGATIVE_INFINITY
  let isWritten = false
  const call = (): void => {
    const wasWritten = isWritten
    timer = null
    isWritten = false
    calledAt = performance.now()
    onChange()
    if (wasWritten) timer ??= setTimeout(call, gapMs).unref()
  }
  const written = (): void => {
    isWritten = true
    timer ??= setTimeout(call, Math.max(SETTLE_MS, calledAt + gapMs - performance.now())).unref()
  }
  const poll = () => {
    polling ??= setInterval(onChange, POLL_MS).unref()
  }
  let watcher: FSWatcher | null = null
  try {
    watcher = watch(join(home, 'registry.db-wal'), { persistent: false }, written)
    watcher.on('error', poll)
  } catch {
    poll()
  }
  return () => {
    watcher?.close()
    if (timer !== null) clearTimeout(timer)
    if (polling !== null) clearInterval(polling)
  }
}
