/** What `bot`, `runner` and `up` share: the version, a log without secrets, and an end in time. */
import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import type { Config } from '../config/config.ts'
import { onDamage } from '../damage.ts'
import { type Log, openLog } from '../log.ts'

/** From SIGTERM to the exit, at most. The next start continues with what is left. Milliseconds. */
const END_WITHIN_MS = 7_000

export const version = (): string => {
  // In a package this file lies one folder deeper than in a checkout.
  const path = findPackageJSON(import.meta.url)
  if (path === undefined) throw new Error('package.json is missing: this copy of agent-swarm is incomplete')
  return JSON.parse(readFileSync(path, 'utf8')).version
}

/** The log of a server; `present`: see openLog. An uncaught exception goes there without secrets, and ends the process: Node would print all of it. So does a damaged database. */
export const openServerLog = (config: Config, token?: string, present?: Parameters<typeof openLog>[2]): Log => {
  const log = openLog(config.logLevel, [...config.secrets, ...(token === undefined ? [] : [token])], present)
  for (const notice of config.notices) log.warn(notice)
  process.on('uncaughtException', error => {
    log.fatal({ err: error }, 'unexpected error; the next start continues from what is on disk')
    process.exit(1)
  })
  onDamage(({ failure: { message, remedy } }) => {
    log.fatal({ remedy }, `${message}. ${remedy}`)
    process.exit(1)
  })
  return log
}

/** Waits for the signal, closes, and exits: abandoned work still holds timers and sockets, and continues at the next start. */
export const serveUntil = async (signal: AbortSignal, log: Log, close: () => Promise<void>): Promise<never> => {
  if (!signal.aborted) await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
  setTimeout(() => {
    log.warn('closing takes too long, exiting now; the next start continues with the rest')
    process.exit(0)
  }, END_WITHIN_MS)
  await close()
  process.exit(0)
}
