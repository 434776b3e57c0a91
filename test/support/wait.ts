/** Waits for a condition, never for a time. */
import { setTimeout as delay } from 'node:timers/promises'

/** The pause after the first read, ms. Each pause is longer than the one before: a read may be a request. */
const FIRST_PAUSE = 5
/** For a machine that is ten times slower than this one, ms. */
const DEADLINE = 200_000

/**
 * Polls until `read` gives something other than null, undefined or false, and returns it. `condition` names it in the error.
 * `every`: the longest pause between two reads. Both times are milliseconds.
 */
export const until = async <T>(
  condition: string,
  read: () => T | Promise<T>,
  { within = DEADLINE, every = 160 }: { within?: number; every?: number } = {},
): Promise<NonNullable<T>> => {
  const deadline = performance.now() + within
  for (let pause = Math.min(FIRST_PAUSE, every); ; pause = Math.min(pause * 1.5, every)) {
    const value = await read()
    if (value !== null && value !== undefined && (value as unknown) !== false) return value as NonNullable<T>
    if (performance.now() > deadline) throw new Error(`waited ${within / 1000} s for ${condition}`)
    await delay(pause)
  }
}
