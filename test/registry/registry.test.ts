import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'
import type { ActionKind } from '../../src/schema/action.ts'
import { plansOf, recordStatements, scansIn } from '../support/query-plans.ts'

recordStatements('/src/registry/')

let home: string
let path: string
const opened: Registry[] = []
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-registry-'))
  path = join(home, 'registry.db')
})
afterEach(() => {
  for (const registry of opened.splice(0)) registry.close()
  rmSync(home, { recursive: true, force: true })
})

const by = { via: 'cli', who: 'tester' } as const
const vmId = 'as-drop-1-00000001'
const at = '2026-11-24T10:00:00.000Z'
const open = () => {
  const registry = openRegistry(path)
  opened.push(registry)
  return registry
}
/** Runs SQL on the registry's file, which nobody has open. */
const withFile = <T>(work: (db: DatabaseSync) => T): T => {
  openRegistry(path).close()
  const db = new DatabaseSync(path)
  try {
    return work(db)
  } finally {
    db.close()
  }
}
const withEnvironment = () => {
  const registry = open()
  const operation = registry.startOperation({
    ...{ actionId: null, correlation: null, ticket: 'DROP-1', kind: 'create', by, at },
  })
  registry.begin({ ticket: 'DROP-1', provider: 'kvm', vmId, baseImage: 'base', by, operation })
  return { registry, operation }
}

test('it is in WAL mode', () => {
  expect(withFile(db => db.prepare('pragma journal_mode').get())).toEqual({ journal_mode: 'wal' })
})

test('the table that others rely on has the names and defaults of the contract', () => {
  withFile(db => {
    db.exec(`insert into environment (ticket, provider, vm_id, base_image) values ('DROP-1', 'kvm', '${vmId}', 'base')`)
    const row = db.prepare('select ticket, provider, vm_id, base_image, ip, status, created_at from environment').get()
    expect(row).toMatchObject({
      ...{ ticket: 'DROP-1', provider: 'kvm', vm_id: vmId, base_image: 'base', ip: null, status: 'running' },
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/),
    })
    const required = ['provider', 'vm_id', 'base_image']
    for (const missing of required) {
      const rest = required.filter(name => name !== missing).join(', ')
      expect(() => db.exec(`insert into environment (ticket, ${rest}) values ('DROP-9', 'a', 'b')`)).toThrow(/NOT NULL/)
    }
  })
})

test('the schema of a newer version is refused, and left alone', () => {
  withFile(db => db.exec('pragma user_version = 99'))
  expect(() => openRegistry(path)).toThrow(/schema 99/)
})

test('a file that is not a database is refused', () => {
  writeFileSync(path, 'this is not a database, and long enough to be read as one'.repeat(20))
  expect(() => openRegistry(path)).toThrow(/not a database/)
})

test('a ticket stays on its provider until it is deleted', () => {
  const { registry } = withEnvironment()
  withFile(db =>
    expect(() => db.exec(`update environment set provider = 'aws' where ticket = 'DROP-1'`)).toThrow(
      /stays on the provider/,
    ),
  )
  expect(() =>
    registry.begin({ ticket: 'DROP-1', provider: 'aws', vmId: 'as-x-00000001', baseImage: 'y', by, operation: 1 }),
  ).toThrow(/UNIQUE/)
})

test('the journal outlives the environment', () => {
  const { registry, operation } = withEnvironment()
  expect(registry.environment('DROP-1')).toMatchObject({ status: 'creating', desired: 'running', desiredBy: by, vmId })
  expect(registry.openOperations()).toMatchObject([{ id: operation, kind: 'create', vmId, by, endedAt: null }])
  registry.addCheckpoint('DROP-1', {
    ...{ name: 'one', why: 'command', commit: null, createdAt: at, withMemory: true, sizeBytes: null },
  })
  registry.endOperation(operation, at, 'done', { result: 'done', summary: 'made', environment: null, seconds: 60 })
  registry.remove('DROP-1')
  expect(registry.environments()).toEqual([])
  expect(registry.checkpoints('DROP-1')).toEqual([])
  expect(registry.operations('DROP-1', 10)).toMatchObject([{ result: 'done', outcome: { summary: 'made' } }])
})

test('the id of the runner stays', () => {
  const id = open().runnerId()
  expect(open().runnerId()).toBe(id)
})

test('everything of a ticket gets its new key in one step, and a failure changes nothing', () => {
  const { registry, operation } = withEnvironment()
  registry.addCheckpoint('DROP-1', {
    ...{ name: 'one', why: 'command', commit: null, createdAt: at, withMemory: true, sizeBytes: null },
  })
  registry.beginWaiting({ pid: 1, ticket: 'DROP-1', kind: 'stop', by, since: at, why: null })
  registry.renameTicket('DROP-1', 'WEB-7')
  expect(registry.environments()).toMatchObject([{ ticket: 'WEB-7', vmId }])
  expect(registry.checkpoints('WEB-7')).toHaveLength(1)
  expect(registry.openOperations('WEB-7')).toMatchObject([{ id: operation }])
  expect(registry.waiting()).toMatchObject([{ ticket: 'WEB-7' }])
  expect(registry.movedTo('DROP-1')).toBe('WEB-7')
  expect(registry.movedTo('WEB-7')).toBeNull()

  registry.begin({ ticket: 'DROP-2', provider: 'kvm', vmId: 'as-x-00000001', baseImage: 'y', by, operation: 1 })
  expect(() => registry.renameTicket('WEB-7', 'DROP-2')).toThrow(/UNIQUE/)
  expect(registry.environments().map(({ ticket }) => ticket)).toEqual(['DROP-2', 'WEB-7'])
  expect(registry.checkpoints('WEB-7')).toHaveLength(1)
})

/** A registry with these environments, whose machines have the numbers of their order here. */
const withKeys = (...keys: string[]) => {
  const registry = open()
  for (const [n, ticket] of keys.entries()) {
    const operation = registry.startOperation({ actionId: null, correlation: null, ticket, kind: 'create', by, at })
    registry.begin({ ticket, provider: 'kvm', vmId: `as-x-0000000${n}`, baseImage: 'base', by, operation })
    registry.setStatus(ticket, 'running')
    registry.endOperation(operation, at, 'done', null)
  }
  return registry
}
const machinesIn = (registry: Registry) =>
  Object.fromEntries(registry.environments().map(({ ticket, vmId }) => [ticket, Number(vmId.at(-1))]))

test('a list has each ticket, then its attempts', () => {
  const registry = withKeys('DROP-10', 'DROP-2~10', 'DROP-2~9', 'DROP-1~1', 'DROP-2', 'AB-3~1')
  const order = ['AB-3~1', 'DROP-1~1', 'DROP-2', 'DROP-2~9', 'DROP-2~10', 'DROP-10']
  expect(registry.environments().map(({ ticket }) => ticket)).toEqual(order)
  expect(registry.attempts('DROP-2')).toEqual(['DROP-2~9', 'DROP-2~10'])
  expect(registry.attempts('DROP-10')).toEqual([])
})

test('the runner reports what people do by hand, and work that the reconciler rescued', () => {
  const registry = open()
  const deleted = (ticket: string, via: 'cli' | 'clock', rescued?: string) => {
    const asked = { via, who: null } as const
    const id = registry.startOperation({ actionId: null, correlation: null, ticket, kind: 'delete', by: asked, at })
    const common = { result: 'done', summary: 'Deleted', environment: null, seconds: 1 } as const
    registry.endOperation(id, at, 'done', rescued === undefined ? common : { ...common, rescued })
  }
  deleted('DROP-1', 'cli')
  deleted('DROP-1~1', 'clock')
  deleted('DROP-1~2', 'clock', 'in ~/x')
  const told = registry.manualOperations(9).map(({ ticket, by: { via }, outcome }) => [ticket, via, outcome?.rescued])
  expect(told).toEqual([
    ['DROP-1~2', 'clock', 'in ~/x'],
    ['DROP-1', 'cli', undefined],
  ])
  expect(registry.lastManualOperation('DROP-1~2')).toBeNull()
})

test('a new attempt gets a number that none has had, and there are 99', () => {
  const registry = withKeys('DROP-1~2', 'DROP-1~4', 'DROP-10~50')
  expect(registry.newAttempts('DROP-1', 2)).toEqual(['DROP-1~5', 'DROP-1~6'])
  registry.remove('DROP-1~4')
  expect(registry.newAttempts('DROP-1', 1)).toEqual(['DROP-1~5'])
  // What is asked of one that is not there makes none.
  const stop = registry.startOperation({
    ...{ actionId: null, correlation: null },
    ticket: 'DROP-1~88',
    kind: 'stop',
    by,
    at,
  })
  registry.endOperation(stop, at, 'failed', null)
  expect(registry.newAttempts('DROP-1', 1)).toEqual(['DROP-1~5'])
  registry.begin({ ticket: 'DROP-1~98', provider: 'kvm', vmId: 'as-y-00000001', baseImage: 'x', by, operation: 1 })
  expect(registry.newAttempts('DROP-1', 3)).toEqual(['DROP-1~99'])
  // One that was never made takes no number.
  registry.remove('DROP-1~98')
  expect(registry.newAttempts('DROP-1', 1)).toEqual(['DROP-1~5'])
  registry.begin({ ticket: 'DROP-1~99', provider: 'kvm', vmId: 'as-y-00000002', baseImage: 'x', by, operation: 1 })
  registry.setStatus('DROP-1~99', 'running')
  registry.remove('DROP-1~99')
  registry.renameTicket('DROP-1', 'WEB-1')
  expect(registry.newAttempts('WEB-1', 1)).toEqual([])
  // A machine that gives way to an attempt needs a key all the same.
  expect(registry.freeAttempt('WEB-1')).toBe('WEB-1~1')
})

test('a moved ticket takes its attempts along, and their old keys lead to them', () => {
  const registry = withKeys('DROP-1', 'DROP-1~1', 'DROP-1~2', 'DROP-10~1', 'WEB-7~2')
  registry.setAttempt('DROP-1~1', { of: 'DROP-1', from: 'one' })
  registry.renameTicket('DROP-1', 'WEB-7')
  // The new key may have an attempt of this number.
  expect(machinesIn(registry)).toEqual({ 'DROP-10~1': 3, 'WEB-7': 0, 'WEB-7~1': 1, 'WEB-7~2': 4, 'WEB-7~3': 2 })
  expect(registry.environment('WEB-7~1')).toMatchObject({ attempt: { of: 'WEB-7', from: 'one' } })
  expect(registry.movedTo('DROP-1~1')).toBe('WEB-7~1')
  expect(registry.movedTo('DROP-10~1')).toBe(null)
})

test('a promoted attempt becomes the machine of its ticket, and all others are to go', () => {
  const registry = withKeys('DROP-1', 'DROP-1~1', 'DROP-1~2')
  registry.addCheckpoint('DROP-1~2', {
    ...{ name: 'one', why: 'command', commit: null, createdAt: at, withMemory: true, sizeBytes: null },
  })
  const history = registry.operations('DROP-1', 10).map(({ id }) => id)
  expect(registry.promote('DROP-1~2')).toEqual({ others: ['DROP-1~1', 'DROP-1~3'], former: 'DROP-1~3' })
  expect(machinesIn(registry)).toEqual({ 'DROP-1': 2, 'DROP-1~1': 1, 'DROP-1~3': 0 })
  expect(registry.environments().map(({ dismissed = false }) => dismissed)).toEqual([false, true, true])
  expect(registry.checkpoints('DROP-1')).toMatchObject([{ name: 'one' }])
  expect(registry.operations('DROP-1', 10).map(({ id }) => id)).toEqual([3, ...history])
  registry.keep('DROP-1~3')
  expect(registry.environment('DROP-1~3')).not.toHaveProperty('dismissed')
})

test('an attempt is promoted where its ticket has no machine', () => {
  const registry = withKeys('DROP-1~2')
  expect(registry.promote('DROP-1~2')).toEqual({ others: [], former: null })
  expect(machinesIn(registry)).toEqual({ 'DROP-1': 0 })
})

test('a machine without a ticket has its own row and operation, which no ticket sees', () => {
  const registry = open()
  const machine = { vmId: 'as-base-00000001', provider: 'kvm', purpose: 'base' } as const
  expect(registry.knowsMachine(machine.vmId)).toBe(false)
  registry.beginMachine(machine, { kind: 'build-base', by, at })
  expect(registry.machines()).toEqual([machine])
  expect(registry.knowsMachine(machine.vmId)).toBe(true)
  expect(registry.openOperations()).toEqual([])
  registry.endMachine(machine.vmId, at, 'interrupted')
  expect(registry.machines()).toEqual([])
  expect(withFile(db => db.prepare('select ticket, vm_id, kind, result from operation').all())).toEqual([
    { ticket: null, vm_id: machine.vmId, kind: 'build-base', result: 'interrupted' },
  ])
})

test.for([
  ['a ticket', { ticket: '../DROP-1' }],
  ['a machine', { vmId: 'as-drop-1-00000001\n' }],
  ['a provider', { provider: 'kvm; reboot' }],
  ['an image', { baseImage: '../image' }],
] as const)('%s that is no name gets no row', ([, more]) => {
  const { registry } = withEnvironment()
  const good = { ticket: 'DROP-7', provider: 'kvm', vmId: 'as-drop-7-00000001', baseImage: 'base', by, operation: 1 }
  expect(() => registry.begin({ ...good, ...more })).toThrow('is not the name of')
  expect(() => registry.renameTicket('DROP-1', 'DROP-2\nHost *')).toThrow('is not the name of a ticket')
  const checkpoint = { why: 'command', commit: null, createdAt: '', withMemory: false, sizeBytes: null } as const
  expect(() => registry.addCheckpoint('DROP-1', { ...checkpoint, name: '../disk' })).toThrow('is not the name')
  expect(registry.environments().map(({ ticket }) => ticket)).toEqual(['DROP-1'])
})

test('the journal forgets what ended long ago, but not what was asked of a machine that exists', async () => {
  const { registry } = withEnvironment()
  const ended = (ticket: string, kind: ActionKind, endedAt: string) =>
    registry.endOperation(
      registry.startOperation({ actionId: null, correlation: null, ticket, kind, by, at }),
      ...([endedAt, 'done', null] as const),
    )
  for (const kind of ['stop', 'checkpoint'] as const) {
    ended('DROP-1', kind, '2026-11-01T00:00:00.000Z')
    ended('DROP-1', kind, '2026-11-24T00:00:00.000Z')
    ended('DROP-2', kind, '2026-11-01T00:00:00.000Z')
  }
  await registry.purge({ before: '2026-11-23T00:00:00.000Z', pinned: [] }, () => false)
  expect(registry.operations('DROP-1', 9).map(({ kind, endedAt }) => `${kind} ${endedAt?.slice(0, 10) ?? ''}`)).toEqual(
    [...['checkpoint 2026-11-24', 'stop 2026-11-24', 'stop 2026-11-01', 'create ']],
  )
  expect(registry.operations('DROP-2', 9)).toEqual([])
})

/** Of machines that exist, and of processes that run: what ended adds nothing to them. */
const BOUNDED = [
  ...[
    'environment',
    'checkpoint',
    'project',
    'push',
    'note',
    'agent',
    'machine',
    'waiting',
    'operation_open',
    'idleness',
  ],
  // The newest of them alone.
  'operation_newest_told',
]

test('no statement reads a whole table that grows', async () => {
  const registry = open()
  await registry.purge({ before: at, pinned: [] }, () => false)
  // Each query prepares its statements, whatever it is asked.
  for (const [name, query] of Object.entries(registry)) {
    if (['close', 'exclusively', 'purge'].includes(name)) continue
    for (const values of [['DROP-1', 'DROP-2', 'x'], ['DROP-1', 7, 'x'], [7, 'x', 'x', null], []])
      try {
        ;(query as (...values: unknown[]) => unknown)(...values)
      } catch {
        // These are not its arguments.
      }
  }
  const plans = [...plansOf(path)]
  expect(plans.length).toBeGreaterThan(50)
  expect(plans.flatMap(([sql, steps]) => scansIn(steps, BOUNDED).map(step => `${step}: ${sql}`))).toEqual([])
})
