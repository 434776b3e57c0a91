import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openSchedule, type Schedule, type ScheduleRow } from '../../src/bot/schedule.ts'
import { openLog } from '../../src/log.ts'

const MINUTE = 60_000
let schedule: Schedule | null = null
beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse('2026-11-24T10:00:30Z') })
})
afterEach(async () => {
  await schedule?.close(0)
  vi.useRealTimers()
})
const log = openLog('silent')
const open = (row: Partial<ScheduleRow> & Pick<ScheduleRow, 'run'>) => {
  schedule = openSchedule([{ name: 'row', every: MINUTE, ...row }], { clock: Date.now, log })
  return schedule
}
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

/** A run that ends when the test says so. */
const held = () => {
  let runs = 0
  let end = () => {}
  return {
    runs: () => runs,
    end: () => end(),
    run: async () => {
      runs += 1
      await new Promise<void>(resolve => {
        end = resolve
      })
    },
  }
}

test('a row runs at its interval; at the start only when it says so', async () => {
  const times: string[] = []
  schedule = openSchedule(
    [
      { name: 'later', every: MINUTE, run: async () => void times.push('later') },
      { name: 'now', every: MINUTE, run: async () => void times.push('now'), atStart: true },
    ],
    { clock: Date.now, log },
  )
  await pass(0)
  expect(times).toEqual(['now'])
  await pass(MINUTE)
  expect(times.toSorted()).toEqual(['later', 'now', 'now'])
})

test('a row runs by its cron expression', async () => {
  const runs: string[] = []
  open({ every: '7,22 * * * *', run: async () => void runs.push('run') })
  await pass(6 * MINUTE)
  expect(runs).toHaveLength(0)
  await pass(MINUTE)
  expect(runs).toHaveLength(1)
  await pass(15 * MINUTE)
  expect(runs).toHaveLength(2)
})

test('a run returns the wait until the next; a wait of years ends within the hour', async () => {
  const waits = [10 * MINUTE, 1e12, MINUTE]
  let runs = 0
  open({
    atStart: true,
    run: async () => {
      runs += 1
      return waits[runs - 1]
    },
  })
  await pass(9 * MINUTE)
  expect(runs).toBe(1)
  await pass(MINUTE)
  expect(runs).toBe(2)
  await pass(59 * MINUTE)
  expect(runs).toBe(2)
  await pass(MINUTE)
  expect(runs).toBe(3)
})

test('a row never runs twice at once, by its clock or on request', async () => {
  const row = held()
  const opened = open({ ...row, every: '* * * * *' })
  await pass(MINUTE)
  expect(row.runs()).toBe(1)
  let requested = false
  const request = opened.run('row').then(() => {
    requested = true
  })
  await pass(3 * MINUTE)
  expect([row.runs(), requested]).toEqual([1, false])
  row.end()
  await request
  expect(row.runs()).toBe(1)
})

test('a run that throws is logged, and the row goes on', async () => {
  let runs = 0
  open({
    every: 1_000,
    run: async () => {
      runs += 1
      throw new Error('oh')
    },
  })
  await pass(1_000)
  expect(runs).toBe(1)
  await pass(59_000)
  expect(runs).toBe(1)
  await pass(1_000)
  expect(runs).toBe(2)
})

test.for([
  ['slept', 8 * 60 * MINUTE],
  ['was set back', -8 * 60 * MINUTE],
])('after the clock %s, rows that ask for it run at once, and cron goes on from there', async ([, jump]) => {
  const runs: string[] = []
  schedule = openSchedule(
    [
      { name: 'catching up', every: '45 * * * *', run: async () => void runs.push('catching up'), afterJump: true },
      { name: 'hourly', every: '17 * * * *', run: async () => void runs.push('hourly') },
    ],
    { clock: Date.now, log },
  )
  await pass(10_000)
  vi.setSystemTime(Date.now() + Number(jump))
  await pass(6_000)
  expect(runs).toEqual(['catching up'])
  await pass(20 * MINUTE)
  expect(runs).toEqual(['catching up', 'hourly'])
})

test('closing starts nothing more, tells what runs, and waits for it until the deadline', async () => {
  const row = held()
  let signal: AbortSignal | null = null
  const opened = open({
    atStart: true,
    run: given => {
      signal = given
      return row.run()
    },
  })
  let closed = false
  const closing = opened.close(5_000).then(() => {
    closed = true
  })
  await pass(4_000)
  expect([closed, (signal as AbortSignal | null)?.aborted]).toEqual([false, true])
  row.end()
  await closing
  await pass(60 * MINUTE)
  expect(row.runs()).toBe(1)
})
