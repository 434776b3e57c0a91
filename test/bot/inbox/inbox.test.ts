/** What the inbox does when it cannot decide, and when it cannot write. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Decided, nothing, openInbox } from '../../../src/bot/inbox/inbox.ts'
import { fail } from '../../../src/errors.ts'
import { openLog } from '../../../src/log.ts'
import type { DeliveryRow, Queue, StoredDelivery } from '../../../src/store/port.ts'
import { openQueue } from '../../../src/store/sqlite/queue.ts'
import { action, delivery } from '../../store/fixtures.ts'
import { until } from '../../support/wait.ts'

let home: string
let path: string
let queue: Queue
let inbox: ReturnType<typeof openInbox>
let now: number
let asked: string[]
let decide: (delivery: StoredDelivery) => Decided
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-inbox-'))
  path = join(home, 'bot.db')
  now = 1_000_000
  asked = []
  queue = openQueue(path, () => now)
  inbox = openInbox({
    queue,
    clock: () => now,
    log: openLog('silent'),
    busy: () => false,
    onSettled: () => {},
    decide: async one => {
      asked.push(one.id)
      return decide(one)
    },
  })
})
afterEach(async () => {
  await inbox.close(1_000)
  queue.close()
  rmSync(home, { recursive: true })
})

const accept = (...ids: string[]) => {
  queue.accept(ids.map(id => ({ ...delivery(id, id.slice(0, 1)), receivedAt: now })))
  inbox.nudge()
}
const row = (id: string): DeliveryRow => {
  const found = queue.deliveries({ words: [id], limit: 1 })[0]
  if (found === undefined) throw new Error(`no delivery ${id}`)
  return found
}
/** The clock is put to when it is due, as often as it is postponed; returns how long it waited each time, ms. */
const waits = async (id: string): Promise<number[]> => {
  const waited: number[] = []
  while (true) {
    const tries = waited.length + 1
    await until(`try ${tries}`, () => row(id).attempt >= tries || row(id).verdict !== 'waiting', { every: 2 })
    const { verdict, dueAt } = row(id)
    if (verdict !== 'waiting' || dueAt === null) return waited
    waited.push(dueAt - now)
    // Not a moment earlier.
    now = dueAt - 1
    expect(queue.due(1)).toEqual([])
    now = dueAt
    inbox.nudge()
  }
}

test('what may get well again is tried for a day, ever more seldom, and then given up', async () => {
  decide = () => {
    throw fail('network', 'asking Jira: no answer')
  }
  const began = now
  accept('a1')
  const waited = await waits('a1')
  expect(waited.slice(0, 10)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300].map(seconds => seconds * 1_000))
  expect(new Set(waited.slice(9))).toEqual(new Set([300_000]))
  expect(now - began).toBeGreaterThan(24 * 60 * 60_000)
  expect(now - began).toBeLessThan(24.2 * 60 * 60_000)
  expect(row('a1')).toMatchObject({ verdict: 'failed', reason: 'asking Jira: no answer' })
})

test.for([
  ['GitHub', { allows: 'pause', in: null }],
  ['Jira', { status: 401, retryAfter: null }],
] as const)('credentials that %s refuses are waited for as long', async ([, more]) => {
  decide = () => {
    throw Object.assign(fail('permission', 'it answered 401'), more)
  }
  accept('a1')
  for (let tries = 1; tries <= 12; tries += 1) {
    await until(`try ${tries}`, () => row('a1').attempt >= tries || row('a1').verdict !== 'waiting', { every: 2 })
    now = row('a1').dueAt ?? now
    inbox.nudge()
  }
  expect(row('a1').verdict).toBe('waiting')
})

test('what waited while the bot was away for days is tried for a day from then on', async () => {
  decide = () => {
    throw fail('network', 'asking Jira: no answer')
  }
  queue.accept([{ ...delivery('a1', 'a'), receivedAt: now - 3 * 24 * 60 * 60_000 }])
  inbox.nudge()
  await until('the first try', () => row('a1').attempt === 1 || row('a1').verdict !== 'waiting')
  expect(row('a1').verdict).toBe('waiting')
})

test.for<[string, () => Error]>([
  ['what nobody foresaw', () => new Error('oh')],
  ['what can get no better', () => fail('refused', 'asking GitHub: it answered 422')],
])('%s is tried ten times; sent again, it may take effect', async ([, error]) => {
  decide = () => {
    throw error()
  }
  accept('a1')
  expect(await waits('a1')).toHaveLength(9)
  expect(row('a1')).toMatchObject({ verdict: 'failed' })
  expect(asked).toHaveLength(10)
  decide = () => ({ verdict: { verdict: 'actions', reason: null }, actions: [action('1')], messages: [] })
  accept('a1')
  await until('the effect', () => queue.get('1'))
})

test('what is put off holds its lane, in order, and no other', async () => {
  let down = true
  decide = ({ id }) => {
    if (down && id === 'a1') throw fail('network', 'no answer')
    return nothing('x')
  }
  accept('a1', 'a2', 'b1')
  await until('the other lane', () => row('b1').verdict === 'ignored')
  await until('the first try', () => row('a1').attempt === 1)
  expect([row('a1').verdict, row('a2').verdict]).toEqual(['waiting', 'waiting'])
  down = false
  now += 1_000
  inbox.nudge()
  await until('its lane', () => row('a2').verdict === 'ignored')
  expect(asked).toEqual(['a1', 'b1', 'a1', 'a2'])
})

test('on a full disk nothing is lost, and all goes on when there is room: without a restart', async () => {
  const other = new DatabaseSync(path)
  other.exec(`create trigger full before update on delivery begin select raise(fail, 'database or disk is full'); end`)
  decide = () => ({ verdict: { verdict: 'actions', reason: null }, actions: [action('1')], messages: [] })
  accept('a1', 'b1')
  await until('a try of both', () => asked.includes('a1') && asked.includes('b1'))
  expect([row('a1').verdict, row('b1').verdict]).toEqual(['waiting', 'waiting'])
  // What belongs to the settlement was not written either.
  expect(queue.get('1')).toBeNull()
  other.exec('drop trigger full')
  other.close()
  await until('both', () => row('a1').verdict === 'actions' && row('b1').verdict === 'actions')
  expect(queue.list()).toHaveLength(1)
  // It does not ask without a pause.
  expect(asked.length).toBeLessThan(10)
})

test('one that cannot be settled takes none of those with it that are settled in the same moment', async () => {
  const other = new DatabaseSync(path)
  other.exec(`create trigger one before update on delivery when old.id = 'a1' and new.verdict is not null
    begin select raise(fail, 'not this one'); end`)
  other.close()
  decide = ({ id }) => ({
    verdict: { verdict: 'actions', reason: null },
    actions: [action(id, 'DROP-1')],
    messages: [],
  })
  accept('a1', 'b1', 'c1')
  await until('the others', () => row('b1').verdict === 'actions' && row('c1').verdict === 'actions')
  await until('its postponement', () => row('a1').attempt === 1)
  expect(row('a1')).toMatchObject({ verdict: 'waiting', reason: expect.stringContaining('not this one') })
  expect(queue.list().map(one => one.id)).toEqual(['b1', 'c1'])
  expect(asked).toEqual(['a1', 'b1', 'c1'])
})
