/** What the inbox does when a delivery cannot be decided, and when the store cannot be written. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openInbox } from '../../../src/bot/inbox/inbox.ts'
import { ignoredSettlement } from '../../../src/bot/inbox/settlement.ts'
import { fail } from '../../../src/errors.ts'
import { openLog } from '../../../src/log.ts'
import type { DeliveryRow, Settlement, Store, StoredDelivery } from '../../../src/store/port.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { delivery, queued, settlement } from '../../store/fixtures.ts'
import { until } from '../../support/wait.ts'

let store: Store
let inbox: ReturnType<typeof openInbox>
let now: number
let decided: string[]
let decide: (delivery: StoredDelivery) => Settlement
/** Throws while a test wants the store to be unwritable. */
let beforeSettle: (seqs: readonly string[]) => void
let beforePostpone: () => void
const ids = new Map<number, string>()

/** The inbox over a store in memory whose writes can fail. */
const open = () => {
  const { inbox: real } = store
  return openInbox({
    store: {
      inbox: {
        ...real,
        settle: async settled => {
          beforeSettle(settled.map(({ seq }) => ids.get(seq) ?? ''))
          return real.settle(settled)
        },
        postpone: async (...parameters) => {
          beforePostpone()
          return real.postpone(...parameters)
        },
      },
    },
    clock: () => now,
    log: openLog('silent'),
    isBusy: () => false,
    onSettled: () => {},
    decide: async stored => {
      ids.set(stored.seq, stored.id)
      decided.push(stored.id)
      return decide(stored)
    },
  })
}
beforeEach(() => {
  now = 1_000_000
  decided = []
  ids.clear()
  beforeSettle = () => {}
  beforePostpone = () => {}
  store = openStore(':memory:', () => now)
  inbox = open()
})
afterEach(async () => {
  await inbox.close(1_000)
  await store.close()
})

const accept = async (...names: string[]) => {
  await store.inbox.accept(names.map(id => delivery(id, id.slice(0, 1), { receivedAt: now })))
  inbox.nudge()
}
test('a GitHub that hangs holds no ticket of Jira', async () => {
  const hanging = Promise.withResolvers<Settlement>()
  const open = openInbox({
    store,
    clock: () => now,
    log: openLog('silent'),
    isBusy: () => false,
    onSettled: ({ id }) => void decided.push(id),
    decide: ({ source }) => (source === 'github' ? hanging.promise : Promise.resolve(ignoredSettlement('nothing'))),
  })
  await inbox.close(1_000)
  const many = Array.from({ length: 20 }, (_, n) => delivery(`hangs-${n}`, `github:${n}`, { receivedAt: now }))
  await store.inbox.accept(many)
  await store.inbox.accept([delivery('moved', 'jira:DROP-1', { source: 'jira', receivedAt: now })])
  open.nudge()
  await until('the ticket is decided', () => decided.includes('moved'))
  expect(decided).toEqual(['moved'])
  hanging.resolve(ignoredSettlement('nothing'))
  await until('the rest is decided', () => decided.length === 21)
  await open.close(1_000)
})

const row = async (id: string): Promise<DeliveryRow> => {
  const [found] = await store.inbox.list([{ word: id, lanes: [] }], 1)
  if (found === undefined) throw new Error(`there is no delivery ${id}`)
  return found
}
const verdict = async (id: string) => (await row(id)).verdict
const tried = (id: string, times: number) =>
  until(`attempt ${times}`, async () => {
    const { attempt, verdict } = await row(id)
    return attempt >= times || verdict !== 'waiting'
  })
/** Sets the clock to when it is due, as often as it is postponed. Returns how long it waited each time, ms. */
const waits = async (id: string): Promise<number[]> => {
  const waited: number[] = []
  while (true) {
    await tried(id, waited.length + 1)
    const { verdict, dueAt } = await row(id)
    if (verdict !== 'waiting' || dueAt === null) return waited
    waited.push(dueAt - now)
    // Not a moment earlier.
    now = dueAt - 1
    expect(await store.inbox.due(1)).toEqual([])
    now = dueAt
    inbox.nudge()
  }
}

test('a retryable failure is retried for a day, less and less often, and then given up', async () => {
  decide = () => {
    throw fail('network', 'asking Jira: no answer')
  }
  const began = now
  await accept('a1')
  const waited = await waits('a1')
  expect(waited.slice(0, 10)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300].map(seconds => seconds * 1_000))
  expect(new Set(waited.slice(9))).toEqual(new Set([300_000]))
  expect(now - began).toBeGreaterThan(24 * 60 * 60_000)
  expect(now - began).toBeLessThan(24.2 * 60 * 60_000)
  expect(await row('a1')).toMatchObject({ verdict: 'failed', reason: 'asking Jira: no answer' })
})

test.for([
  ['GitHub', { allows: 'pause', in: null }],
  ['Jira', { status: 401, lacksScope: false, allows: 'pause', in: null }],
] as const)('credentials that %s refuses are retried as long', async ([, more]) => {
  decide = () => {
    throw Object.assign(fail('permission', 'it answered 401'), more)
  }
  await accept('a1')
  for (let times = 1; times <= 12; times += 1) {
    await tried('a1', times)
    now = (await row('a1')).dueAt ?? now
    inbox.nudge()
  }
  expect(await verdict('a1')).toBe('waiting')
})

test('a delivery that waited while the bot was away for days is retried for a day from then on', async () => {
  decide = () => {
    throw fail('network', 'asking Jira: no answer')
  }
  await store.inbox.accept([delivery('a1', 'a', { receivedAt: now - 3 * 24 * 60 * 60_000 })])
  inbox.nudge()
  await tried('a1', 1)
  expect(await verdict('a1')).toBe('waiting')
})

test.for<[string, () => Error]>([
  ['an unexpected error', () => new Error('oh')],
  ['a failure that no retry helps', () => fail('refused', 'asking GitHub: it answered 422')],
])('%s is tried ten times; redelivered, it may take effect', async ([, error]) => {
  decide = () => {
    throw error()
  }
  await accept('a1')
  expect(await waits('a1')).toHaveLength(9)
  expect(await verdict('a1')).toBe('failed')
  expect(decided).toHaveLength(10)
  decide = () => settlement({ actions: [queued('1')] })
  await accept('a1')
  await until('the effect', () => store.queue.get('1'))
})

test('a postponed delivery holds its lane, in order, and no other', async () => {
  let isDown = true
  decide = ({ id }) => {
    if (isDown && id === 'a1') throw fail('network', 'no answer')
    return ignoredSettlement('x')
  }
  await accept('a1', 'a2', 'b1')
  await until('the other lane', async () => (await verdict('b1')) === 'ignored')
  await tried('a1', 1)
  expect([await verdict('a1'), await verdict('a2')]).toEqual(['waiting', 'waiting'])
  isDown = false
  now += 1_000
  inbox.nudge()
  await until('its lane', async () => (await verdict('a2')) === 'ignored')
  expect(decided).toEqual(['a1', 'b1', 'a1', 'a2'])
})

test('on a full disk nothing is lost, and everything goes on without a restart when there is space', async () => {
  const full = () => {
    throw new Error('database or disk is full')
  }
  beforeSettle = full
  beforePostpone = full
  decide = ({ id }) => settlement({ actions: [queued(`of ${id}`)] })
  await accept('a1', 'b1')
  await until('a try of both', () => decided.includes('a1') && decided.includes('b1'))
  expect([await verdict('a1'), await verdict('b1')]).toEqual(['waiting', 'waiting'])
  expect(await store.queue.list()).toEqual([])
  beforeSettle = () => {}
  beforePostpone = () => {}
  await until('both', async () => (await verdict('a1')) === 'actions' && (await verdict('b1')) === 'actions')
  expect(await store.queue.list()).toHaveLength(2)
  // It paused in between.
  expect(decided.length).toBeLessThan(10)
})

test('a delivery that cannot be settled does not take those with it that are settled in the same turn', async () => {
  beforeSettle = settled => {
    if (settled.includes('a1')) throw new Error('not this one')
  }
  decide = ({ id }) => settlement({ actions: [queued(id, 'stop', `DROP-${id.charCodeAt(0)}`)] })
  await accept('a1', 'b1', 'c1')
  await until('the others', async () => (await verdict('b1')) === 'actions' && (await verdict('c1')) === 'actions')
  await tried('a1', 1)
  expect(await row('a1')).toMatchObject({ verdict: 'waiting', reason: expect.stringContaining('not this one') })
  expect((await store.queue.list()).map(({ id }) => id)).toEqual(['b1', 'c1'])
  expect(decided).toEqual(['a1', 'b1', 'c1'])
})

test('deliveries that are decided in one turn are settled in one transaction', async () => {
  const batches: number[] = []
  beforeSettle = settled => batches.push(settled.length)
  decide = () => ignoredSettlement('x')
  await accept('a1', 'b1', 'c1')
  await until('all', async () => (await verdict('c1')) === 'ignored')
  expect(batches).toEqual([3])
})

test.for([1, 400])('a clock that jumps ahead by %i days gives up nothing', async days => {
  decide = () => {
    throw fail('network', 'reading DROP-1: Jira cannot be reached')
  }
  await accept('a')
  await tried('a', 1)
  now += days * 24 * 60 * 60_000
  inbox.nudge()
  await tried('a', 2)
  expect(await verdict('a')).toBe('waiting')
})
