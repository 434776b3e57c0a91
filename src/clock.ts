/** The injected clock, and what goes wrong with clocks. */

/** Epoch milliseconds. */
export type Clock = () => number

export const DAY_MS = 24 * 60 * 60_000

/**
 * Notices that the clock was set, or that the machine slept. Each call says whether since the last one the clock moved on by
 * more than `ahead`, or back by more than `behind` milliseconds. With `ahead`, a call says by which time it was `planned` to come
 * at the latest, in milliseconds after the last one.
 */
export const openJumpWatch = (
  clock: Clock,
  { ahead = Number.POSITIVE_INFINITY, behind = 0 }: { ahead?: number; behind?: number },
): ((planned?: number) => boolean) => {
  let last = clock()
  return (planned = 0) => {
    const gap = clock() - last
    last += gap
    return gap > ahead + planned || gap < -behind
  }
}

/** Whether `at` is less than `ms` ago. A time that lies further ahead than that was noted before the clock was set back. */
export const isWithin = (at: number, ms: number, now: number): boolean => Math.abs(now - at) < ms

/** Orders times, the newest first. Those after `now` were noted before the clock was set back, and come last. */
export const newestFirst =
  (now: number) =>
  (a: number, b: number): number =>
    Number(a > now) - Number(b > now) || b - a

/** Waits for the work, at most `ms`. How it ends is not reported. */
export const atMost = async (ms: number, work: readonly (Promise<unknown> | null | undefined)[]): Promise<void> => {
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  await Promise.race([Promise.allSettled(work), late])
  clearTimeout(timer)
}
