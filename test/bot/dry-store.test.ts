import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openDryStore } from '../../src/bot/dry-run.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { delivery, queued, settlement, status } from '../store/fixtures.ts'

test('a dry run decides on a copy; what is delivered meanwhile is in the real store, and everything else is not', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-store-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  const path = join(home, 'bot.db')
  const clock = () => 1_000
  const before = openStore(path, clock)
  await before.queue.enqueue(queued('before'))
  await before.inbox.accept([delivery('before', 'b')])
  await before.outbox.put([status('DROP-1')])
  await before.close()

  const store = openDryStore(path, clock)
  expect(await store.counts()).toMatchObject({ inbox: 1, pending: 1, outbox: 1 })
  expect(await store.inbox.accept([delivery('1')])).toBe(1)
  for (const { seq } of await store.inbox.due(9))
    await store.inbox.settle([{ seq, ...settlement({ actions: [queued(`new-${seq}`)] }) }])
  await store.outbox.drop((await store.outbox.due(1))[0]?.seq ?? 0)
  await store.cursors.set('jira', 1)
  await store.probe()
  expect(await store.counts()).toMatchObject({ inbox: 0, pending: 3, outbox: 0 })
  await store.close()

  const after = openStore(path, clock)
  expect(await after.counts()).toMatchObject({ inbox: 2, pending: 1, outbox: 1 })
  expect(await after.cursors.get('jira')).toBeNull()
  await after.close()
})
