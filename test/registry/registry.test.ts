import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openRegistry } from '../../src/registry/registry.ts'
import { ifUnlocked, withTicketLock } from '../../src/registry/ticket-lock.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-registry-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))
const path = () => join(home, 'registry.db')
const by = { via: 'cli', who: 'tester' } as const

const withOne = () => {
  const registry = openRegistry(path())
  const operation = registry.startOperation({
    actionId: null,
    correlation: null,
    ticket: 'DROP-1',
    kind: 'create',
    by,
    at: '2026-11-24T10:00:00.000Z',
  })
  registry.begin({
    ticket: 'DROP-1',
    provider: 'kvm',
    vmId: 'as-drop-1-00000001',
    baseImage: 'base',
    by,
    hostKey: null,
    operation,
  })
  return { registry, operation }
}

test('it is written ahead, synced in full, and waits for others', () => {
  openRegistry(path()).close()
  const db = new DatabaseSync(path())
  expect(db.prepare('pragma journal_mode').get()).toEqual({ journal_mode: 'wal' })
  db.close()
})

test('the table that others rely on has the names and defaults that they know', () => {
  openRegistry(path()).close()
  const db = new DatabaseSync(path())
  db.exec(
    `insert into environment (ticket, provider, vm_id, base_image) values ('DROP-1', 'kvm', 'as-drop-1-00000001', 'base')`,
  )
  const row = db.prepare('select ticket, provider, vm_id, base_image, ip, status, created_at from environment').get()
  expect(row).toMatchObject({
    ticket: 'DROP-1',
    provider: 'kvm',
    vm_id: 'as-drop-1-00000001',
    base_image: 'base',
    ip: null,
    status: 'running',
  })
  expect(row?.created_at).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/)
  for (const missing of ['provider', 'vm_id', 'base_image']) {
    expect(() =>
      db.exec(
        `insert into environment (ticket, ${['provider', 'vm_id', 'base_image'].filter(name => name !== missing).join(', ')}) values ('DROP-9', 'a', 'b')`,
      ),
    ).toThrow(/NOT NULL/)
  }
  db.close()
})

test('a schema of a newer version is refused, and left alone', () => {
  openRegistry(path()).close()
  const db = new DatabaseSync(path())
  db.exec('pragma user_version = 99')
  db.close()
  expect(() => openRegistry(path())).toThrow(/written by a newer agent-swarm \(schema 99/)
})

test('a file that is none is refused', async () => {
  const { writeFileSync } = await import('node:fs')
  writeFileSync(path(), 'this is no database, and long enough to be looked at as one'.repeat(20))
  expect(() => openRegistry(path())).toThrow(/not a database/)
})

test('a ticket stays on its provider until it is deleted', () => {
  const { registry } = withOne()
  const db = new DatabaseSync(path())
  expect(() => db.exec(`update environment set provider = 'aws' where ticket = 'DROP-1'`)).toThrow(
    /stays on the provider/,
  )
  expect(() =>
    registry.begin({ ticket: 'DROP-1', provider: 'aws', vmId: 'x', baseImage: 'y', by, hostKey: null, operation: 1 }),
  ).toThrow(/UNIQUE/)
  db.close()
  registry.close()
})

test('an environment and its journal are there together, or not at all', () => {
  const { registry, operation } = withOne()
  expect(registry.environment('DROP-1')).toMatchObject({
    status: 'creating',
    desired: 'running',
    desiredBy: by,
    vmId: 'as-drop-1-00000001',
  })
  expect(registry.openOperations()).toMatchObject([
    { id: operation, kind: 'create', vmId: 'as-drop-1-00000001', by, endedAt: null },
  ])
  registry.addCheckpoint('DROP-1', {
    name: 'one',
    why: 'command',
    commit: null,
    createdAt: '2026-11-24T10:00:00.000Z',
    withMemory: true,
    sizeBytes: null,
  })
  registry.endOperation(operation, '2026-11-24T10:01:00.000Z', 'done', {
    result: 'done',
    summary: 'made',
    environment: null,
    seconds: 60,
  })
  registry.remove('DROP-1')
  expect(registry.environments()).toEqual([])
  expect(registry.checkpoints('DROP-1')).toEqual([])
  // The journal is the audit log: it outlives what it is about.
  expect(registry.operations('DROP-1', 10)).toMatchObject([{ result: 'done', outcome: { said: 'made' } }])
  registry.close()
})

test('it knows itself by an id that stays', () => {
  const registry = openRegistry(path())
  const id = registry.runnerId()
  registry.close()
  const again = openRegistry(path())
  expect(again.runnerId()).toBe(id)
  again.close()
})

test('the lock of a ticket is one for all, and another ticket has its own', async () => {
  const signal = new AbortController().signal
  const order: string[] = []
  let waited = 0
  const first = withTicketLock(home, 'DROP-1', { signal, onWait: () => {} }, async () => {
    expect(await ifUnlocked(home, 'DROP-1', async () => 'mine')).toBeNull()
    expect(await ifUnlocked(home, 'DROP-2', async () => 'mine')).toBe('mine')
    order.push('first')
  })
  const second = withTicketLock(home, 'DROP-1', { signal, onWait: () => (waited += 1) }, async () =>
    order.push('second'),
  )
  await Promise.all([first, second])
  expect(order).toEqual(['first', 'second'])
  expect(waited).toBe(1)
  expect(await ifUnlocked(home, 'DROP-1', async () => 'free')).toBe('free')
})

test('a lock is free again when its work fails, and waiting can be called off', async () => {
  const signal = new AbortController().signal
  await expect(
    withTicketLock(home, 'DROP-1', { signal, onWait: () => {} }, () => Promise.reject(new Error('broken'))),
  ).rejects.toThrow('broken')
  await withTicketLock(home, 'DROP-1', { signal, onWait: () => {} }, async () => {
    const off = new AbortController()
    await expect(
      withTicketLock(home, 'DROP-1', { signal: off.signal, onWait: () => off.abort() }, async () => 'no'),
    ).rejects.toThrow(/cancelled/)
  })
})
