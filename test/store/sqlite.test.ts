import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, onTestFinished, test } from 'vitest'
import { openStore } from '../../src/store/sqlite/index.ts'
import { storeContract } from './contract.ts'
import { delivery, MINUTE, offer, queued } from './fixtures.ts'

storeContract('node:sqlite', async clock => openStore(':memory:', clock))

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
