/** What a heartbeat costs the bot, by the number of environments: in proportion to what it names. */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StatementSync } from 'node:sqlite'
import { expect, onTestFinished, test } from 'vitest'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { environmentOf, heartbeatOf, START } from './fixtures.ts'

const SIZES = [10, 1_000]

/** Runs `work`, and counts statements and the rows that they read or wrote. */
const countWork = async (work: () => Promise<unknown>): Promise<{ statements: number; rows: number }> => {
  const counts = { statements: 0, rows: 0 }
  const rowsOf = {
    all: (result: unknown) => (result as unknown[]).length,
    get: (result: unknown) => (result === undefined ? 0 : 1),
    run: (result: unknown) => Number((result as { changes: number }).changes),
  }
  const { all, get, run } = StatementSync.prototype
  const counted = (name: keyof typeof rowsOf, method: (...values: never[]) => unknown) =>
    function (this: StatementSync, ...values: never[]) {
      const result = method.apply(this, values)
      counts.statements += 1
      counts.rows += rowsOf[name](result)
      return result
    }
  Object.assign(StatementSync.prototype, {
    all: counted('all', all as never),
    get: counted('get', get as never),
    run: counted('run', run as never),
  })
  try {
    await work()
  } finally {
    Object.assign(StatementSync.prototype, { all, get, run })
  }
  return counts
}

const open = async (count: number) => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-heartbeats-'))
  const path = join(folder, 'bot.db')
  const store = openStore(path, () => START)
  onTestFinished(async () => {
    await store.close()
    rmSync(folder, { recursive: true })
  })
  await store.runners.heartbeat(heartbeatOf(Array.from({ length: count }, (_, n) => environmentOf(`DROP-${n + 1}`))))
  return { store, wal: `${path}-wal` }
}
const partial = ({ runners }: Store, changed: ReturnType<typeof environmentOf>[] = [], gone: string[] = []) =>
  runners.heartbeat({
    ...heartbeatOf([]),
    environments: undefined,
    changes: {
      ...{ follows: 'the-one-before', changed },
      gone: gone.map(ticket => ({ ticket, vmId: environmentOf(ticket).vmId })),
    },
  })

test.for([
  ['no change', [], []],
  ['one change', [environmentOf('DROP-1', { status: 'stopped' })], []],
  ['one machine that is gone', [], ['DROP-2']],
] as const)('%s costs the same with 10 and with 1,000 environments', async ([, changed, gone]) => {
  const costs = []
  for (const size of SIZES) {
    const { store } = await open(size)
    costs.push(await countWork(() => partial(store, [...changed], [...gone])))
  }
  expect(costs[0]?.statements).toBeGreaterThan(0)
  expect(costs[1]).toEqual(costs[0])
})

test('a heartbeat without a change writes as much as in a small home: the row of its runner', async () => {
  for (const size of SIZES) {
    const { store, wal } = await open(size)
    const before = statSync(wal).size
    for (let n = 0; n < 50; n += 1) await partial(store)
    // Each is one page, or two, in a log that is used again and again.
    expect(statSync(wal).size - before).toBeLessThan(50 * 2 * 4_120)
  }
})

test('a full heartbeat in pieces: what the first one only names is not gone, and everything else is', async () => {
  const { store } = await open(4)
  const beginning = (others: string[]) =>
    store.runners.heartbeat({
      ...heartbeatOf([]),
      environments: undefined,
      beginning: {
        environments: [environmentOf('DROP-1')],
        others: others.map(ticket => ({ ticket, vmId: environmentOf(ticket).vmId })),
      },
    })
  await beginning(['DROP-2', 'DROP-3'])
  await beginning(['DROP-2', 'DROP-3'])
  expect(await store.runners.withMachine()).toEqual(['DROP-1', 'DROP-2', 'DROP-3'])
  expect(await store.queue.pinnedTo('DROP-2')).toBe('runner-1')
  expect(await store.queue.pinnedTo('DROP-4')).toBe(null)
})
