/** Everything that the bot does by the clock: ticks, cron, polls and catching up. */
import cron from 'node-cron'
import { MAX_WAIT_MS } from '../backoff.ts'
import { atMost, type Clock, openJumpWatch } from '../clock.ts'
import type { Log } from '../log.ts'

/** How often the clock is checked for a jump. Milliseconds. */
const JUMP_CHECK_MS = 5_000
/** The clock moved on by so much more: the machine slept, or its clock was set. */
const JUMP_MS = 60_000
/** The pause after a run that threw. */
const AFTER_ERROR_MS = 60_000

export type ScheduleRow = {
  /** For the log. */
  name: string
  /** Milliseconds from the end of a run to the next, or a cron expression. */
  every: number | string
  /**
   * Never runs twice at once. A number that it returns is the wait until its next run, in place of `every`. `signal` aborts when
   * the schedule is closed.
   */
  run: (signal: AbortSignal) => Promise<unknown>
  atStart?: boolean
  /** Run at once after the machine slept or its clock was set. */
  afterJump?: boolean
}
export type Schedule = {
  /** Runs a row now, or waits for the run that is under way. */
  run(name: string): Promise<void>
  /** Starts nothing more, and waits for what runs, at most `withinMs`. */
  close(withinMs: number): Promise<void>
}

const quiet = { info() {}, debug() {}, warn() {}, error() {} }

/** The run throws nothing: an error is logged, and pauses the row. */
const openRun = ({ name, run }: ScheduleRow, log: Log, signal: AbortSignal) => {
  let running: Promise<unknown> | null = null
  return {
    running: () => running,
    run: (): Promise<unknown> => {
      if (signal.aborted) return Promise.resolve()
      running ??= run(signal)
        .catch((error: unknown) => {
          log.error({ err: error }, name)
          return AFTER_ERROR_MS
        })
        .finally(() => {
          running = null
        })
      return running
    },
  }
}

const openRow = (row: ScheduleRow, log: Log, signal: AbortSignal) => {
  const { every, atStart = false, afterJump = false } = row
  const { run, running } = openRun(row, log, signal)
  if (typeof every === 'string') {
    const task = cron.schedule(every, () => run(), { noOverlap: true, unref: true, logger: quiet })
    return {
      ...{ run, running },
      start: () => void (atStart && run()),
      restart: () => {
        // After a jump, a task would wait for the time before it to come again, or catch up on each time that has passed.
        task.stop()
        task.start()
        if (afterJump) run()
      },
      stop: () => task.stop(),
    }
  }
  let timer: NodeJS.Timeout | undefined
  const later = (wait: number) => {
    clearTimeout(timer)
    if (signal.aborted) return
    timer = setTimeout(() => void next(), Math.min(wait, MAX_WAIT_MS))
    timer.unref()
  }
  const next = async () => {
    const wait = await run()
    later(typeof wait === 'number' ? wait : every)
  }
  return {
    ...{ run, running },
    start: () => (atStart ? void next() : later(every)),
    restart: () => void (afterJump && next()),
    stop: () => clearTimeout(timer),
  }
}

export const openSchedule = (rows: readonly ScheduleRow[], { clock, log }: { clock: Clock; log: Log }): Schedule => {
  const closing = new AbortController()
  const all = new Map(rows.map(row => [row.name, openRow(row, log, closing.signal)]))
  const jumped = openJumpWatch(clock, { ahead: JUMP_MS })
  const watch = setInterval(() => {
    if (jumped()) for (const row of all.values()) row.restart()
  }, JUMP_CHECK_MS)
  watch.unref()
  for (const row of all.values()) row.start()
  return {
    run: async name => void (await all.get(name)?.run()),
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
