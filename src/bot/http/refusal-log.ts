/** Warnings about refused requests, in few lines. */
import type { IncomingMessage } from 'node:http'
import type { Log } from '../../log.ts'

/** At most one warning in this time, however many requests arrive. Milliseconds. */
const WARN_EVERY_MS = 10_000

/** Counts requests without a valid proof, and warns about them now and then. */
export const openRefusalLog = (log: Log, message: string) => {
  let [warnedAt, count] = [Number.NEGATIVE_INFINITY, 0]
  return (request: IncomingMessage, fields: object = {}): void => {
    count += 1
    if (performance.now() - warnedAt < WARN_EVERY_MS) return
    log.warn({ ...fields, from: request.socket.remoteAddress, count }, message)
    warnedAt = performance.now()
    count = 0
  }
}
