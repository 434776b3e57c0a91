/** What `bot`, `runner` and `up` have in common: version, log with its secrets, and an end that comes in time. */
import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import type { Config } from '../config/config.ts'
import { type Log, openLog } from '../log.ts'

/** SIGTERM to exit: whatever is still to be published or done goes on at the next start. Milliseconds. */
const END_WITHIN_MS = 7_000

export const version = (): string => {
  // Found, and not at a place: a package holds this file one folder deeper.
  const path = findPackageJSON(import.meta.url)
  if (path === undefined) throw new Error('package.json is missing: this copy of agent-swarm is not whole')
  return JSON.parse(readFileSync(path, 'utf8')).version
}

/** The log of a process that stays. What nobody caught is written there, without secrets, and ends it: Node would print all of it. */
export const logOf = (config: Config, token?: string): Log => {
  const log = openLog(config.logLevel, [...config.secrets, ...(token === undefined ? [] : [token])])
  process.on('uncaughtException', error => {
    log.fatal({ err: error }, 'something that nobody foresaw; the next start goes on from what is on disk')
    process.exit(1)
  })
  return log
}

/** Waits until the process is asked to end, then closes all in order. Ends the process itself when that takes too long. */
export const untilEnded = async (signal: AbortSignal, log: Log, close: () => Promise<void>): Promise<number> => {
  if (!signal.aborted) await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
  const late = setTimeout(() => {
    log.warn('ending at once: the rest is done at the next start')
    process.exit(0)
  }, END_WITHIN_MS)
  await close()
  clearTimeout(late)
  // Work that was let go of still holds timers and sockets; it is on disk, and goes on at the next start.
  process.exit(0)
}
