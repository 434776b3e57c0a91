/** How long to wait before the next attempt. All times are milliseconds. */

/** Whatever a server asks for, it is asked again within the hour: a longer wait is a wrong clock. */
export const MAX_WAIT_MS = 60 * 60_000

export type Backoff = (attempt: number) => number

/** Doubles with each attempt (counted from 0) from `first` to `most`. */
export const backoff =
  ({ first, most }: { first: number; most: number }): Backoff =>
  attempt =>
    Math.min(first * 2 ** attempt, most)

/** A wait that a server asked for, within reason. */
export const boundedWait = (wait: number): number => Math.max(1_000, Math.min(wait, MAX_WAIT_MS))
