/** Waiting, in one place: a wait longer than MAX_WAIT_MS shows a clock that was set back, and counts as over. */
import { MAX_WAIT_MS } from '../port.ts'

/** SQL: whether what waits until `column` is due at `now`, which is a parameter's name. */
export const isDue = (column: string, now: string): string =>
  `not ${column} between ${now} + 1 and ${now} + ${MAX_WAIT_MS}`
/** The same of a value. */
export const isDueAt = (at: number, now: number): boolean => at <= now || at > now + MAX_WAIT_MS
