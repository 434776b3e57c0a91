/** Another process has the lock of the bot's store. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { delivery, offer, queued, status } from './fixtures.ts'

const locked = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-locked-'))
  const path = join(home, 'bot.db')
  const store = openStore(path, Date.now)
  const other = new DatabaseSync(path)
  other.exec('begin exclusive')
  onTestFinished(async () => {
    other.close()
    await store.close()
    rmSync(home, { recursive: true })
  })
  return { store, release: () => other.exec('commit') }
}

const writes: [string, (store: Store) => Promise<unknown>][] = [
  ['accepting deliveries', store => store.inbox.accept([delivery('1')])],
  ['queueing an action', store => store.queue.enqueue(queued('1'))],
  ['claiming', store => store.queue.claim('runner-1', offer)],
  ['putting a message', store => store.outbox.put([status('DROP-1')])],
  ['recording a cursor', store => store.cursors.set('jira', 1)],
  ['the probe', store => store.probe()],
]

test.for(writes)('%s waits, and the event loop goes on', async ([, write]) => {
  const { store, release } = locked()
  let ended = false
  const written = write(store).finally(() => {
    ended = true
  })
  // Turns of the event loop: a wait of SQLite's own would stop them.
  for (let turn = 0; turn < 100; turn++) await nextTurn()
  expect(ended).toBe(false)
  // What is read does not wait.
  expect(await store.counts()).toMatchObject({ inbox: 0, pending: 0 })
  release()
  await written
})

test('what waits is written once, and all of it', async () => {
  const { store, release } = locked()
  const accepted = Promise.all([1, 2, 3].map(n => store.inbox.accept([delivery(`${n}`)])))
  await nextTurn()
  release()
  expect(await accepted).toEqual([1, 1, 1])
  expect((await store.inbox.list([], 10)).map(({ id }) => id).sort()).toEqual(['1', '2', '3'])
})
