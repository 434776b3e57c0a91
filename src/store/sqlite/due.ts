/** When a wait is over. One that is longer than MAX_WAIT_MS comes from a clock that was set back since, and is over too. */
import { MAX_WAIT_MS } from '../port.ts'

/** SQL: whether the wait until `column` is over at `now`, the name of a parameter. */
export const isDue = (column: string, now: string): string =>
  `not ${column} between ${now} + 1 and ${now} + ${MAX_WAIT_MS}`
/** The same for a value. */
export const isDueAt = (at: number, now: number): boolean => at <= now || at > now + MAX_WAIT_MS
