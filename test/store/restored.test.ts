/** A backup that took the place of the bot's store. What comes after that is in test/bot/restored.test.ts. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { writeBackup } from '../../src/backups.ts'
import { openRegistry } from '../../src/registry/registry.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { delivery, MINUTE, offer, queued, request, START, status } from './fixtures.ts'

const DAY = 24 * 60 * MINUTE
const newHome = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-restored-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return home
}
/** The store that a backup of `before` makes of it a day later. */
const restored = async (before: (store: Store) => Promise<void>) => {
  const home = newHome()
  const path = join(home, 'bot.db')
  let now = START
  const original = openStore(path, () => now)
  await before(original)
  const { file } = writeBackup(path, START + MINUTE)
  await original.close()
  copyFileSync(file, path)
  now = START + DAY
  const store = openStore(path, () => now)
  onTestFinished(() => store.close())
  return { store, path, later: () => openStore(path, () => now + MINUTE) }
}

const queueAll = async (store: Store) => {
  await store.inbox.accept([delivery('1')])
  const [{ seq } = { seq: 0 }] = await store.inbox.due(1)
  const remove = queued('remove', 'delete', 'DROP-1', { force: true })
  await store.inbox.settle([
    {
      ...{ seq, verdict: 'actions', reason: null, effects: [], messages: [status('DROP-1'), status('DROP-2')] },
      actions: [queued('done', 'delete', 'DROP-3', { force: true }), remove, queued('stop', 'stop', 'DROP-2')],
      requests: [request('remove', remove.action)],
    },
  ])
  await store.cursors.set('github:acme/shop', { began: 'x' })
  await store.cursors.set('jira', { at: 1 })
}

test('nothing of its queue and outbox is carried out, and all of it is listed', async () => {
  const { store } = await restored(async original => {
    await queueAll(original)
    const lease = await original.queue.claim('runner-1', offer)
    expect(lease?.id).toBe('done')
    const outcome = { result: 'done', environment: null } as const
    await original.queue.complete('done', lease?.token ?? '', outcome as never, [])
    expect((await original.queue.claim('runner-1', offer))?.id).toBe('remove')
  })
  expect(await store.queue.claim('runner-1', offer)).toBeNull()
  expect(await store.queue.expired()).toEqual([])
  expect(await store.outbox.due(10)).toEqual([])
  expect(await store.counts()).toMatchObject({ pending: 0, active: 0, outbox: 0 })
  expect((await store.held.list(10)).map(({ id, action, message }) => [id, (action ?? message)?.kind])).toEqual([
    ['held:1', 'delete'],
    ['held:2', 'stop'],
    ['held:3', 'status'],
    ['held:4', 'status'],
  ])
  expect(await store.held.restoredAt()).toBe(START + DAY)
  expect(await store.queue.get('done')).toMatchObject({ state: 'done' })
  expect(await store.requests.get('remove')).toMatchObject({ ended: { ok: false, outcome: null } })
  // Repositories are polled as at a first start.
  expect(await store.cursors.get('github:acme/shop')).toBeNull()
  expect(await store.cursors.get('jira')).toEqual({ at: 1 })
})

test('what is held is queued again one by one, once', async () => {
  const { store } = await restored(queueAll)
  expect(await store.held.replay('held:2')).toBe('again')
  expect(await store.held.replay('held:2')).toBe('unknown')
  expect((await store.queue.claim('runner-1', offer))?.id).toBe('remove')
  expect(await store.requests.get('remove')).toMatchObject({ ended: null })
  expect(await store.queue.claim('runner-1', offer)).toBeNull()
  expect(await store.held.replay('held:4')).toBe('again')
  expect(await store.outbox.due(10)).toMatchObject([{ key: 'status:DROP-1' }])
  expect((await store.held.list(10)).map(({ id }) => id)).toEqual(['held:1', 'held:3', 'held:5'])
  expect(await store.held.replay('held:99')).toBe('unknown')
})

test('the next start of a restored store is an ordinary one', async () => {
  const { store, later } = await restored(queueAll)
  await store.queue.enqueue(queued('new', 'stop', 'DROP-9'))
  const next = later()
  expect((await next.queue.list({ state: 'pending' })).map(({ id }) => id)).toEqual(['new'])
  expect(await next.held.restoredAt()).toBe(START + DAY)
  await next.close()
})

test('what is held is forgotten with everything else that ended', async () => {
  const { store } = await restored(queueAll)
  await store.purge({ queueBefore: 0, knowledgeBefore: START + DAY, payloadBytes: 0 })
  expect(await store.held.list(10)).toHaveLength(5)
  await store.purge({ queueBefore: 0, knowledgeBefore: START + DAY + 1, payloadBytes: 0 })
  expect(await store.held.list(10)).toEqual([])
})

test('a registry that was restored finishes and undoes nothing of what was under way in the backup', () => {
  const path = join(newHome(), 'registry.db')
  const by = { via: 'cli', who: 'ada' } as const
  const original = openRegistry(path)
  for (const [ticket, status, desired] of [
    ['DROP-1', 'creating', 'running'],
    ['DROP-2', 'deleting', 'absent'],
    ['DROP-3', 'stopped', 'stopped'],
  ] as const) {
    const at = '2026-11-24T10:00:00Z'
    const operation = original.startOperation({ actionId: null, correlation: null, ticket, kind: 'create', by, at })
    const vmId = `as-${ticket.toLowerCase()}-1a2b3c4d`
    original.begin({ ticket, provider: 'synthetic', vmId, baseImage: 'base', by, operation })
    original.setStatus(ticket, status)
    original.setDesired(ticket, desired, by)
  }
  const { file } = writeBackup(path, START)
  original.close()
  copyFileSync(file, path)
  const registry = openRegistry(path)
  expect(registry.openOperations()).toEqual([])
  expect(registry.environments().map(({ ticket, status, desired }) => [ticket, status, desired])).toEqual([
    ['DROP-1', 'running', 'running'],
    ['DROP-2', 'running', 'stopped'],
    ['DROP-3', 'stopped', 'stopped'],
  ])
  registry.close()
})
