/** Waits for a condition, never for a time. */
import { setTimeout as delay } from 'node:timers/promises'

/**
 * Polls until `read` gives something other than null, undefined or false, and returns it. `condition` names it in the error.
 * Both times are milliseconds.
 */
export const until = async <T>(
  condition: string,
  read: () => T | Promise<T>,
  { within = 20_000, every = 25 }: { within?: number; every?: number } = {},
): Promise<NonNullable<T>> => {
  const deadline = performance.now() + within
  while (true) {
    const value = await read()
    if (value !== null && value !== undefined && (value as unknown) !== false) return value as NonNullable<T>
    if (performance.now() > deadline) throw new Error(`waited ${within / 1000} s for ${condition}`)
    await delay(every)
  }
}
