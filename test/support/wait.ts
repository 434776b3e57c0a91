/** Waits for a condition: never for a time. */
import { setTimeout as delay } from 'node:timers/promises'

/** Polls until `look` gives something else than null, undefined or false, and returns it. `what` names it in the error. */
export const until = async <T>(
  what: string,
  look: () => T | Promise<T>,
  { within = 20_000, every = 25 }: { within?: number; every?: number } = {},
): Promise<NonNullable<T>> => {
  const end = performance.now() + within
  while (true) {
    const found = await look()
    if (found !== null && found !== undefined && (found as unknown) !== false) return found as NonNullable<T>
    if (performance.now() > end) throw new Error(`waited ${within / 1000} s for ${what}`)
    await delay(every)
  }
}
