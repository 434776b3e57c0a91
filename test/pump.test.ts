import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { backoff } from '../src/backoff.ts'
import { openPump, type Pump, type PumpOptions } from '../src/pump.ts'

let pump: Pump | null = null
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(async () => {
  const closing = pump?.close(0)
  await vi.advanceTimersByTimeAsync(1)
  await closing
  vi.useRealTimers()
})

/** Lets the pump do what it can do without time passing. */
const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await nextTurn()
}
const pass = async (ms: number) => {
  await vi.advanceTimersByTimeAsync(ms)
  await settle()
}

/** A pump over a queue in memory. What runs ends when the test says so. */
const setUp = async (queue: string[], options: Partial<PumpOptions<string>> = {}) => {
  const began: string[] = []
  const running = new Map<string, { end: () => void; fail: (error: Error) => void; signal: AbortSignal }>()
  const errors: { message: string; pauseMs: number; item: string | null }[] = []
  let takes = 0
  pump = openPump<string>({
    take: async free => {
      takes += 1
      return queue.splice(0, free)
    },
    run: (item, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      began.push(item)
      running.set(item, { end: resolve, fail: reject, signal })
      return promise
    },
    limit: 2,
    dueIn: async () => null,
    pollMs: 60_000,
    onError: (error, pauseMs, item) => errors.push({ message: (error as Error).message, pauseMs, item }),
    ...options,
  })
  await settle()
  return {
    ...{ pump, began, errors },
    takes: () => takes,
    end: async (item: string) => {
      running.get(item)?.end()
      await settle()
    },
    fail: async (item: string) => {
      running.get(item)?.fail(new Error(`${item} failed`))
      await settle()
    },
    isCut: (item: string) => running.get(item)?.signal.aborted,
    add: async (...items: string[]) => {
      queue.push(...items)
      pump?.nudge()
      await settle()
    },
  }
}

test('it takes what is there, and no more at once than its limit', async () => {
  const { began, end } = await setUp(['a', 'b', 'c'])
  expect(began).toEqual(['a', 'b'])
  await end('a')
  expect(began).toEqual(['a', 'b', 'c'])
})

test('a nudge wakes it; without one it looks again after a while', async () => {
  const queue: string[] = []
  const { began, add } = await setUp(queue)
  await add('a')
  expect(began).toEqual(['a'])
  queue.push('b')
  await pass(59_000)
  expect(began).toEqual(['a'])
  await pass(1_001)
  expect(began).toEqual(['a', 'b'])
})

test('it looks again when the next item is due', async () => {
  const queue: string[] = []
  const { began } = await setUp(queue, { dueIn: async () => 5_000 })
  queue.push('a')
  await pass(4_900)
  expect(began).toEqual([])
  await pass(101)
  expect(began).toEqual(['a'])
})

test('what is due and cannot be taken does not keep it spinning', async () => {
  const { takes } = await setUp([], { dueIn: async () => 0 })
  const before = takes()
  await settle()
  expect(takes()).toBe(before)
  await pass(100)
  expect(takes()).toBe(before + 1)
})

test('items of one lane share its slots, and a key runs once at a time', async () => {
  const due = ['x1', 'x2', 'x3', 'y1', 'y1']
  const { began, end } = await setUp([], {
    ...{ limit: 10, laneOf: item => item[0] ?? '', laneLimit: 2, keyOf: item => item },
    take: async () => [...due],
  })
  expect(began).toEqual(['x1', 'x2', 'y1'])
  due.splice(0, 1)
  await end('x1')
  expect(began).toEqual(['x1', 'x2', 'y1', 'x3'])
})

test('however many lanes of one side hang, the other side has slots', async () => {
  const { began } = await setUp([], {
    ...{ limit: 4, laneOf: item => item, laneLimit: 1, sideOf: item => item[0] ?? '', sideLimit: 3 },
    take: async () => ['x1', 'x2', 'x3', 'x4', 'y1'],
  })
  expect(began).toEqual(['x1', 'x2', 'x3', 'y1'])
})

test('a source that gives one after the other is read as far as there are slots', async () => {
  let given = 0
  const { began } = await setUp([], {
    take: async function* () {
      while (true) {
        given += 1
        yield `item ${given}`
      }
    },
  })
  expect(began).toEqual(['item 1', 'item 2'])
  expect(given).toBe(2)
})

test('a take that fails is tried again with back-off, and a nudge does not shorten it', async () => {
  let takes = 0
  const { errors, pump } = await setUp([], {
    take: async () => {
      takes += 1
      throw new Error('out of reach')
    },
    backoff: backoff({ first: 1_000, most: 3_000 }),
  })
  expect(takes).toBe(1)
  pump.nudge()
  await pass(900)
  expect(takes).toBe(1)
  await pass(101)
  expect(takes).toBe(2)
  await pass(2_001)
  await pass(3_001)
  expect(errors.map(({ pauseMs }) => pauseMs)).toEqual([1_000, 2_000, 3_000, 3_000])
})

test('a run that throws pauses the pump: the store behind it cannot be written', async () => {
  const { began, fail, add, errors } = await setUp(['a'])
  await fail('a')
  expect(errors).toEqual([{ message: 'a failed', pauseMs: 1_000, item: 'a' }])
  await add('b')
  expect(began).toEqual(['a'])
  await pass(1_001)
  expect(began).toEqual(['a', 'b'])
})

test('closing waits for what runs, takes nothing more, and ends at its deadline', async () => {
  const { pump, began, add, end, isCut } = await setUp(['a', 'b'])
  let closed = false
  const closing = pump.close(5_000).then(() => {
    closed = true
  })
  await add('c')
  await end('a')
  await pass(4_000)
  expect([closed, isCut('b'), began]).toEqual([false, false, ['a', 'b']])
  await pass(1_001)
  await closing
  expect([closed, isCut('b')]).toEqual([true, true])
})

test('closing interrupts a take that waits', async () => {
  const { pump } = await setUp([], {
    take: async (_free, signal) => {
      await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
      return []
    },
  })
  let closed = false
  const closing = pump.close(60_000).then(() => {
    closed = true
  })
  await settle()
  await closing
  expect(closed).toBe(true)
})
