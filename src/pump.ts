/**
 * Runs work that waits somewhere else (a store, a server): takes it as long as there is a free slot, runs it side by side,
 * and looks again when it is nudged, when something ended, or when time has passed.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type Backoff, backoff } from './backoff.ts'
import { atMost } from './clock.ts'

/** What is due may be held up by what runs now; the end of that wakes the pump anyway. */
const SHORTEST_SLEEP_MS = 100
const DEFAULT_BACKOFF = backoff({ first: 1_000, most: 60_000 })

export type Pump = {
  /** There may be something to take. */
  nudge(): void
  /** Takes no more, and waits for what runs, at most `withinMs`. The signal of what still runs then aborts. */
  close(withinMs: number): Promise<void>
}

export type PumpOptions<Item> = {
  /**
   * What is due, oldest first; `free` is the number of free slots. Items that the pump has no slot for are left, so it may
   * give more than it has to. `signal` aborts when the pump is closed.
   */
  take: (free: number, signal: AbortSignal) => AsyncIterable<Item> | Promise<Iterable<Item>>
  /** Handles its own failures; what it throws, for example because the disk is full, pauses the pump. */
  run: (item: Item, signal: AbortSignal) => Promise<void>
  /** Runs at once. */
  limit: number
  /** Items of one lane share `laneLimit` slots. Without it, each item has a lane of its own. */
  laneOf?: (item: Item) => string
  laneLimit?: number
  /** Lanes of one side (an API that may hang) share `sideLimit` slots, so that the other sides always have the rest. */
  sideOf?: (item: Item) => string
  sideLimit?: number
  /** Items with the same key never run at once. */
  keyOf?: (item: Item) => string
  /** After how many milliseconds something is due that is not now; null: nothing is known of. Not asked while all slots are taken. */
  dueIn: () => Promise<number | null>
  /** The longest sleep without a nudge. Milliseconds. */
  pollMs: number
  /** Before the next `take` after so many in a row that threw, and (its first) after a `run` that threw. */
  backoff?: Backoff
  /** `take` or `run` threw; nothing is taken for `pauseMs`. */
  onError: (error: unknown, pauseMs: number, item: Item | null) => void
}

export const openPump = <Item>({
  take,
  run,
  limit,
  laneOf,
  laneLimit = 1,
  sideOf,
  sideLimit = 1,
  keyOf,
  dueIn,
  pollMs,
  backoff = DEFAULT_BACKOFF,
  onError,
}: PumpOptions<Item>): Pump => {
  const closing = new AbortController()
  const cut = new AbortController()
  type Taken = { lane: string | null; side: string | null; key: string | null }
  const running = new Map<Promise<void>, Taken>()
  let nudged = false
  let pauseMs = 0
  let failures = 0
  let sleeping: { resolve: () => void; isPause: boolean } | null = null

  const nudge = () => {
    nudged = true
    // A pause is not cut short.
    if (sleeping?.isPause === false) sleeping.resolve()
  }
  const sleep = async (ms: number, isPause: boolean): Promise<void> => {
    if (closing.signal.aborted || (nudged && !isPause)) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined
    sleeping = { resolve, isPause }
    await promise
    sleeping = null
    clearTimeout(timer)
  }

  const hasSlot = ({ lane, side, key }: Taken): boolean => {
    const all = [...running.values()]
    if (key !== null && all.some(other => other.key === key)) return false
    if (side !== null && all.filter(other => other.side === side).length >= sideLimit) return false
    return lane === null || all.filter(other => other.lane === lane).length < laneLimit
  }
  const start = (item: Item): boolean => {
    const taken = { lane: laneOf?.(item) ?? null, side: sideOf?.(item) ?? null, key: keyOf?.(item) ?? null }
    if (!hasSlot(taken)) return false
    const task: Promise<void> = run(item, cut.signal)
      .catch((error: unknown) => {
        pauseMs = Math.max(pauseMs, backoff(0))
        onError(error, pauseMs, item)
      })
      .finally(() => {
        running.delete(task)
        nudge()
      })
    running.set(task, taken)
    return true
  }

  /** Takes what is due. Returns the milliseconds until the next look. */
  const turn = async (): Promise<number> => {
    nudged = false
    if (running.size >= limit) return Number.POSITIVE_INFINITY
    let started = 0
    try {
      for await (const item of await take(limit - running.size, closing.signal)) {
        if (closing.signal.aborted) return 0
        if (start(item)) started += 1
        if (running.size >= limit) break
      }
      failures = 0
      if (started > 0) return 0
      const due = await dueIn()
      return Math.min(pollMs, due === null ? pollMs : Math.max(SHORTEST_SLEEP_MS, due))
    } catch (error) {
      if (closing.signal.aborted) return 0
      pauseMs = Math.max(pauseMs, backoff(failures))
      failures += 1
      onError(error, pauseMs, null)
      return 0
    }
  }
  const loop = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      const wait = await turn()
      if (pauseMs > 0) {
        const pause = pauseMs
        pauseMs = 0
        await sleep(pause, true)
      } else if (wait > 0) await sleep(wait, false)
      // Other work of the process gets its turn.
      else await nextTurn()
    }
  }
  const looping = loop()

  return {
    nudge,
    close: async withinMs => {
      closing.abort()
      sleeping?.resolve()
      await atMost(withinMs, [looping, ...running.keys()])
      cut.abort()
    },
  }
}
