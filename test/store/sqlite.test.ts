import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, onTestFinished, test } from 'vitest'
import { openStore } from '../../src/store/sqlite/index.ts'
import { plansOf, recordStatements, scansIn } from '../support/query-plans.ts'
import { storeContract } from './contract.ts'
import { delivery, MINUTE, offer, queued } from './fixtures.ts'

recordStatements('/src/store/sqlite/')
storeContract('node:sqlite', async (clock, limits) => openStore(':memory:', clock, undefined, limits))

const file = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-store-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return join(home, 'bot.db')
}

test('deliveries that were in progress when the process died are due again, and a lease runs out by itself', async () => {
  const path = file()
  let now = 1_000
  const before = openStore(path, () => now)
  await before.inbox.accept([delivery('1')])
  expect(await before.inbox.due(10)).toHaveLength(1)
  await before.queue.enqueue(queued('1'))
  expect(await before.queue.claim('runner-1', offer)).not.toBeNull()
  await before.close()
  const after = openStore(path, () => now)
  expect(await after.inbox.due(10)).toHaveLength(1)
  expect(await after.queue.claim('runner-1', offer)).toBeNull()
  now += MINUTE
  const [expired] = await after.queue.expired()
  expect(await after.queue.giveBack('1', expired?.token ?? '')).toBe('ok')
  expect(await after.queue.claim('runner-1', offer)).toMatchObject({ id: '1', attempt: 2 })
  await after.close()
})

test('two processes may have the store open: what one writes, the other reads', async () => {
  const path = file()
  const [one, other] = [openStore(path, Date.now), openStore(path, Date.now)]
  await one.inbox.accept([delivery('1')])
  expect(await other.inbox.list([], 1)).toMatchObject([{ id: '1' }])
  expect(await other.inbox.accept([delivery('1')])).toBe(0)
  await Promise.all([one.close(), other.close()])
})

test('a store of a newer version is refused', async () => {
  const path = file()
  await openStore(path, Date.now).close()
  const db = new DatabaseSync(path)
  db.exec('pragma user_version = 99')
  db.close()
  expect(() => openStore(path, Date.now)).toThrow(/written by a newer agent-swarm/)
})

/** Of operators' settings, of runners, or of what has not ended: what ended adds nothing to them. */
const BOUNDED = [
  ...[
    'runner',
    'r',
    't',
    'runner_token',
    'repository_file',
    'repository_name',
    'repository_former',
    'cursor',
    'pin',
    'forgotten_runner',
  ],
  ...['action', 'a', 'outbox', 'delivery_lane', 'environment_runner', 'request_unfinished'],
  // At most the newest payloads, and the newest lines of the audit log.
  ...['delivery_payload', 'request_audited', 'request_audit'],
]
const EXCEPTIONS = [
  // Once a start, until the links are checked: a row for each repository comes out of it.
  `select distinct repo, substr(ticket, 1, instr(ticket, '-') - 1) as project from pull_request order by repo`,
  // Tests alone ask for what ended without naming a ticket.
  'select * from ended_action where true order by seq',
  'select * from ended_action where true and state = ? order by seq',
]

test('no statement reads a whole table that grows', () => {
  const path = file()
  void openStore(path, Date.now).close()
  const plans = [...plansOf(path)].filter(([sql]) => !EXCEPTIONS.includes(sql))
  expect(plans.length).toBeGreaterThan(100)
  expect(plans.flatMap(([sql, steps]) => scansIn(steps, BOUNDED).map(step => `${step}: ${sql}`))).toEqual([])
})
