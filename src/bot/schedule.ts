/** Everything that the bot does by the clock: ticks, cron, polls and catching up. */
import cron from 'node-cron'
import { MAX_WAIT_MS } from '../backoff.ts'
import { atMost, type Clock, openJumpWatch } from '../clock.ts'
import type { Log } from '../log.ts'

/** How often the clock is checked for a jump. Milliseconds. */
const JUMP_CHECK_MS = 15_000
/** The clock moved on by more: the machine slept, or its clock was set. */
const JUMP_MS = 60_000
/** The pause after a run that threw. */
const AFTER_ERROR_MS = 60_000
/** Timers may fire early, and a cron expression must not match twice. */
const AFTER_CRON_MS = 100

export type ScheduleRow = {
  /** For the log. */
  name: string
  /** Milliseconds from the end of a run to the next, or a cron expression. */
  every: number | string
  /**
   * Never runs twice at once. A number that it returns is the wait until its next run, in place of `every`; after an hour it runs
   * all the same. `signal` aborts when the schedule is closed.
   */
  run: (signal: AbortSignal) => Promise<unknown>
  atStart?: boolean
  /** Run at once after the machine slept or its clock was set. */
  afterJump?: boolean
}
export type Schedule = {
  /** Runs a row now, or waits for the run that is under way. */
  run(name: string): Promise<void>
  /** Something changed: the row's next run is at most its interval away. */
  soon(name: string): void
  /** Starts nothing more, and waits for what runs, at most `withinMs`. */
  close(withinMs: number): Promise<void>
}

/** Milliseconds until the next match. */
const untilNext = (expression: string): number => {
  const [next] = cron.createTask(expression, () => {}).getNextRuns(1)
  return next === undefined ? MAX_WAIT_MS : next.getTime() - Date.now() + AFTER_CRON_MS
}

const openRow = (
  { name, every, run, atStart = false, afterJump = false }: ScheduleRow,
  log: Log,
  signal: AbortSignal,
) => {
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | null = null
  /** When the next run is due, by performance.now(). */
  let dueAt = Number.POSITIVE_INFINITY
  let isWanted = false
  const later = (wait: number) => {
    clearTimeout(timer)
    if (signal.aborted) return
    dueAt = performance.now() + wait
    timer = setTimeout(runNow, Math.min(wait, MAX_WAIT_MS))
    timer.unref()
  }
  const usualWait = () => (typeof every === 'number' ? every : untilNext(every))
  const runOnce = async () => {
    isWanted = false
    try {
      const result = await run(signal)
      const wait = typeof result === 'number' ? result : usualWait()
      later(isWanted ? Math.min(wait, usualWait()) : wait)
    } catch (error) {
      log.error({ err: error }, name)
      later(Math.max(AFTER_ERROR_MS, usualWait()))
    }
  }
  const runNow = (): Promise<void> => {
    if (signal.aborted) return Promise.resolve()
    running ??= runOnce().finally(() => {
      running = null
    })
    return running
  }
  if (atStart) void runNow()
  else later(usualWait())
  return {
    run: runNow,
    soon: () => {
      if (running !== null) isWanted = true
      else if (dueAt - performance.now() > usualWait()) later(usualWait())
    },
    running: () => running,
    stop: () => clearTimeout(timer),
    jumped: () => {
      if (afterJump) void runNow()
      // The wait until then was reckoned by the clock before.
      else if (running === null && typeof every === 'string') later(usualWait())
    },
  }
}

export const openSchedule = (rows: readonly ScheduleRow[], { clock, log }: { clock: Clock; log: Log }): Schedule => {
  const closing = new AbortController()
  const all = new Map(rows.map(row => [row.name, openRow(row, log, closing.signal)]))
  const jumped = openJumpWatch(clock, { ahead: JUMP_MS })
  const watch = setInterval(() => {
    if (jumped(JUMP_CHECK_MS)) for (const row of all.values()) row.jumped()
  }, JUMP_CHECK_MS)
  watch.unref()
  return {
    run: async name => all.get(name)?.run(),
    soon: name => all.get(name)?.soon(),
    close: async withinMs => {
      closing.abort()
      clearInterval(watch)
      for (const row of all.values()) row.stop()
      await atMost(
        withinMs,
        [...all.values()].map(row => row.running()),
      )
    },
  }
}
