/** A registry that an earlier version wrote, as SQL in test/fixtures/home-before, is opened by this one. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { parse, pick } from 'valibot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'
import { outcome } from '../../src/schema/outcome.ts'
import { heartbeatRequest } from '../../src/schema/runner-protocol.ts'

let home: string
let registry: Registry
let db: DatabaseSync
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-before-'))
  const path = join(home, 'registry.db')
  db = new DatabaseSync(path)
  db.exec(
    readFileSync(resolve(import.meta.dirname, '../fixtures/home-before/registry.sql'), 'utf8').replaceAll(
      '@HOME@',
      home,
    ),
  )
  // Shapes that the fixture lacks.
  db.exec(`
    insert into checkpoint (ticket, name, why, created_at, with_memory) values
      ('DROP-1', 'Before.Upgrade', 'command', '2026-11-28T15:00:00Z', 0);
    update environment set work_at_risk = '{"known":false,"because":"no answer"}' where ticket = 'DROP-4';
    insert into operation (ticket, kind, asked_by, started_at, ended_at, result, outcome) values
      ('DROP-5', 'stop', '{"via":"cli","who":null}', '2026-11-28T15:00:00Z', '2026-11-28T15:00:01Z', 'skipped',
        '{"result":"skipped","because":"DROP-5 is already stopped","environment":null}'),
      ('DROP-5', 'delete', '{"via":"cli","who":null}', '2026-11-28T15:00:00Z', '2026-11-28T15:00:01Z', 'failed',
        '{"result":"failed","failure":{"kind":"work-at-risk","message":"kept","remedy":null},"environment":{"ticket":"DROP-5","workAtRisk":{"known":false,"because":"no answer"}}}');
  `)
  registry = openRegistry(path)
})
afterAll(() => {
  registry.close()
  db.close()
  rmSync(home, { recursive: true, force: true })
})

test('environments and checkpoints are as before', () => {
  expect(registry.environments()).toMatchObject([
    { ticket: 'DROP-1', vmId: 'as-drop-1-c5e274b8', status: 'running', unsavedWork: null },
    { ticket: 'DROP-2', status: 'stopped', unsavedWork: { known: true, repositories: [] } },
    { ticket: 'DROP-4', status: 'running', unsavedWork: { known: false, reason: 'no answer' } },
  ])
  expect(registry.checkpoints('DROP-1').map(({ name }) => name)).toEqual([
    'push-1298fc8',
    'push-4a55b3c',
    'before',
    'pre-restore-20261128-154838',
  ])
  expect(registry.runnerId()).toBe('6fa766de-3455-44dc-81d6-f57c127f5632')
})

test('every stored outcome parses with its present names', () => {
  const stored = ['DROP-1', 'DROP-2', 'DROP-3', 'DROP-4']
    .flatMap(ticket => registry.operations(ticket, 100))
    .flatMap(row => (row.outcome === null ? [] : [row.outcome]))
  expect(stored.length).toBeGreaterThan(15)
  for (const each of stored) expect(parse(outcome, each)).toEqual(each)
  expect(registry.operations('DROP-5', 2).map(row => row.outcome)).toMatchObject([
    {
      result: 'failed',
      failure: { kind: 'unsaved-work' },
      environment: { unsavedWork: { known: false, reason: 'no answer' } },
    },
    { result: 'skipped', reason: 'DROP-5 is already stopped' },
  ])
})

test('an attempt that was begun before continues with what it had resolved', () => {
  const [attempt] = registry.tries('github:7dcf11ff-0c88-4bb0-aaa6-5a2548f02a67:0')
  expect(attempt?.detail).toMatchObject({
    force: false,
    reached: 'decided',
    rescued: expect.stringMatching(/^its unsaved work \(1 untracked file, 1 unpushed commit in /),
  })
  expect(registry.outcomeOf('jira:49c823af-8f5d-43dd-b793-6f891acb9aa0:0')).toMatchObject({
    summary: 'DROP-2 is stopped; its disk and checkpoints are kept',
    environment: { unsavedWork: { known: true, repositories: [] } },
  })
})

test('the interrupted operation is still open, and the journal continues after its last id', () => {
  expect(registry.openOperations()).toMatchObject([{ id: 18, ticket: 'DROP-2', kind: 'start' }])
  const by = { via: 'cli', who: null } as const
  const at = '2026-11-28T16:00:00.000Z'
  const id = registry.startOperation({ actionId: null, correlation: null, ticket: 'DROP-1', kind: 'stop', by, at })
  expect(id).toBe(21)
})

test('manual operations are reported as before', () => {
  const { manualOperations } = pick(heartbeatRequest.pipe[0], ['manualOperations']).entries
  const reported = registry.manualOperations(10)
  expect(parse(manualOperations, reported)).toEqual(reported)
  expect(reported.find(({ ticket }) => ticket === 'DROP-4')).toMatchObject({ id: 15, kind: 'start' })
  expect(registry.lastManualOperation('DROP-4')).toMatchObject({ id: 15, kind: 'start' })
})

test('no member has its former name', () => {
  const cells = [
    ...db.prepare('select outcome as cell from operation union all select detail from operation').all(),
    ...db.prepare('select work_at_risk as cell from environment').all(),
  ].map(({ cell }) => String(cell))
  for (const cell of cells) expect(cell).not.toMatch(/"(said|because|kept|workAtRisk)":|work-at-risk/)
})

test('phases have their present names', () => {
  const phases = ['DROP-2', 'DROP-3'].flatMap(ticket => registry.operations(ticket, 100)).flatMap(row => row.phases)
  const names = phases.map(({ phase }) => phase)
  expect([...new Set(names)]).toEqual(
    expect.arrayContaining(['looking for unsaved work', 'saving unsaved work', 'checking the saved work']),
  )
  for (const former of ['looking for work at risk', 'saving work', 'proving it']) expect(names).not.toContain(former)
})
