/** Disks, files and host keys that machines left. */
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { withLock } from '../../../src/registry/lock.ts'
import { planPrune, prune } from '../../../src/runner/prune/prune.ts'
import { reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { knownHostsFile } from '../../../src/runner/ssh/keys.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
})
afterEach(() => it.close())

const by = { via: 'cli', who: 'tester' } as const
const { signal } = new AbortController()
const plan = () => planPrune(it.context)
const removing = { by, signal, onPhase: () => {} }
const run = async () => prune((await plan()).prunable, removing)
const disk = (vmId: string) => join(it.home, 'synthetic', vmId, 'disk')
const row = (ticket = 'DROP-1') => it.context.registry.environment(ticket)

/** A machine that somebody removed from the hypervisor, and the registry does not have: its disk is left. Returns its vmId. */
const leaveDisk = async (ticket = 'DROP-1', { dirty = false } = {}): Promise<string> => {
  await it.do(actions.create(ticket))
  const vmId = it.vmIdOf(ticket)
  if (dirty) it.addUnsavedWork(ticket)
  it.forgetMachine(ticket)
  it.context.registry.remove(ticket)
  return vmId
}

test('where all is in use, there is nothing to prune', async () => {
  await it.do(actions.create('DROP-1'))
  await it.do(actions.create('DROP-2'))
  await it.do(actions.stop('DROP-2'))
  expect(await plan()).toEqual({ prunable: [], kept: [], unread: [] })
})

test('a disk without a machine is read, and goes with its host key when nothing in it is unsaved', async () => {
  const vmId = await leaveDisk()
  const phases: string[] = []
  const { prunable, kept } = await plan()
  expect(prunable).toMatchObject([{ kind: 'disk', name: vmId, reason: expect.stringContaining('DROP-1') }])
  expect(kept).toEqual([])
  expect(existsSync(disk(vmId))).toBe(true)
  const pruned = await prune(prunable, { ...removing, onPhase: phase => phases.push(phase) })
  expect(pruned).toMatchObject({ removed: [{ name: vmId, rescued: null }], failed: [] })
  expect(phases).toContain('DROP-1: looking for unsaved work')
  expect([it.machines(), existsSync(knownHostsFile(it.home, vmId)), row()]).toEqual([[], false, null])
  expect(it.context.registry.operations('DROP-1', 1)).toMatchObject([{ kind: 'delete', by, result: 'done' }])
  expect(await plan()).toEqual({ prunable: [], kept: [], unread: [] })
})

test('what cannot be saved is kept and told: the machine of its ticket has it, stopped', async () => {
  // git does not run in a unit test.
  const vmId = await leaveDisk('DROP-1', { dirty: true })
  expect(await run()).toMatchObject({
    removed: [],
    failed: [{ name: vmId, failure: { kind: 'unsaved-work', remedy: expect.stringContaining('agent-swarm start') } }],
  })
  expect(existsSync(disk(vmId))).toBe(true)
  expect(row()).toMatchObject({ vmId, status: 'stopped' })
  expect(await run()).toEqual({ removed: [], failed: [] })
})

test('a disk of another home is listed, and not touched, whatever it is called', async () => {
  const vmId = 'as-drop-1-0000000a'
  mkdirSync(disk(vmId), { recursive: true })
  writeFileSync(join(disk(vmId), 'work'), 'of somebody')
  const { prunable, kept } = await plan()
  expect(prunable).toEqual([])
  expect(kept).toEqual([
    { kind: 'disk', name: vmId, bytes: 11, reason: 'another home has it, or nobody knows whose it is' },
  ])
})

test('without the ticket, or a way to read it, or with another machine of the ticket, a disk is kept', async () => {
  const vmId = await leaveDisk()
  const kept = async () => {
    const { prunable, kept } = await plan()
    return [prunable.length, kept.find(({ name }) => name === vmId)?.reason]
  }
  await it.do(actions.create('DROP-1'))
  expect(await kept()).toEqual([0, expect.stringContaining(`DROP-1 has another machine, ${it.vmIdOf('DROP-1')}`)])
  await it.do(actions.delete('DROP-1'))
  const { provider } = it.context
  wrapProviders(it.context, ({ recoverVm: _, ...rest }) => rest)
  expect(await kept()).toEqual([0, expect.stringContaining('synthetic cannot read it')])
  it.context.provider = provider
  // The host key stays, and the journal is lost.
  it.context.registry.madeFor = () => null
  expect(await kept()).toEqual([0, expect.stringContaining('the journal does not have its ticket')])
  expect(existsSync(disk(vmId))).toBe(true)
})

test('the journal keeps what made a machine as long as its host key is here', async () => {
  const [left, gone] = [await leaveDisk(), await leaveDisk('DROP-2')]
  rmSync(knownHostsFile(it.home, gone))
  await it.context.registry.purge({ before: '2999-01-01T00:00:00.000Z', pinned: [left] }, () => false)
  const { madeFor } = it.context.registry
  expect([madeFor(left), madeFor(gone)]).toEqual([{ kind: 'create', ticket: 'DROP-1' }, null])
})

test.for([
  ['its row', 'it exists again', (vmId: string) => adoptRow('DROP-1', vmId)],
  ['its row under another key', 'it exists again', (vmId: string) => adoptRow('DROP-2', vmId)],
  [
    'the machine',
    'it exists again',
    async (vmId: string) => (await it.provider()).recoverVm?.(vmId, 'DROP-1', undefined as never),
  ],
  ['another machine of its ticket', 'has another machine', () => it.do(actions.create('DROP-1'))],
] as const)('%s is there again meanwhile: the disk stays', async ([, message, happens]) => {
  const vmId = await leaveDisk()
  const { prunable } = await plan()
  await happens(vmId)
  expect(await prune(prunable, removing)).toMatchObject({
    removed: [],
    failed: [{ name: vmId, failure: { message: expect.stringContaining(message) } }],
  })
  expect(existsSync(disk(vmId))).toBe(true)
})
const adoptRow = (ticket: string, vmId: string) =>
  it.context.registry.adopt({ ticket, provider: 'synthetic', vmId, baseImage: 'base', status: 'stopped' })

test('a disk whose ticket somebody works on stays', async () => {
  const vmId = await leaveDisk()
  const { prunable } = await plan()
  await withLock(it.home, 'DROP-1', { signal, onWait: () => {} }, async () => {
    expect(await prune(prunable, removing)).toMatchObject({ failed: [{ failure: { kind: 'busy' } }] })
  })
  expect(existsSync(disk(vmId))).toBe(true)
})

test('a lost machine of a ticket is kept for it', async () => {
  await it.do(actions.create('DROP-1'))
  it.forgetMachine('DROP-1')
  await reconcile(it.context, { dryRun: false, signal })
  const { prunable, kept } = await plan()
  expect(prunable).toEqual([])
  expect(kept).toMatchObject([{ kind: 'disk', reason: expect.stringContaining('the lost machine of DROP-1') }])
})

test('a cancellation leaves the machine of its ticket, stopped or running, with its disk', async () => {
  const vmId = await leaveDisk()
  const ending = new AbortController()
  const onPhase = (phase: string) => void (phase.endsWith('looking for unsaved work') && ending.abort())
  const pruned = await prune((await plan()).prunable, { by, signal: ending.signal, onPhase })
  expect(pruned).toMatchObject({ removed: [], failed: [{ failure: { kind: 'cancelled' } }] })
  expect([row()?.vmId, existsSync(disk(vmId))]).toEqual([vmId, true])
})

test('files without a disk, and the disk of a killed build, go without being read', async () => {
  const files = await leaveDisk()
  rmSync(disk(files), { recursive: true })
  const build = 'as-base-0000000b'
  const { registry } = it.context
  const at = new Date().toISOString()
  registry.beginMachine({ vmId: build, provider: 'synthetic', purpose: 'base' }, { kind: 'build-base', by, at })
  mkdirSync(disk(build), { recursive: true })
  const reasons = async () => (await plan()).kept.map(({ name, reason }) => [name, reason])
  expect(await reasons()).toEqual([[build, 'it is being built']])
  registry.endMachine(build, at, 'interrupted')
  const { prunable, kept } = await plan()
  expect(kept).toEqual([])
  expect(prunable.map(({ kind, name }) => [kind, name]).sort()).toEqual([
    ['disk', build],
    ['machine files', files],
  ])
  expect(await run()).toMatchObject({ failed: [] })
  expect([it.machines(), row(), existsSync(knownHostsFile(it.home, files))]).toEqual([[], null, false])
})

test('a disk that appears among the files stays', async () => {
  const vmId = await leaveDisk()
  rmSync(disk(vmId), { recursive: true })
  const { prunable } = await plan()
  mkdirSync(disk(vmId))
  expect(await prune(prunable, removing)).toMatchObject({
    failed: [{ failure: { message: expect.stringContaining('it has a disk now') } }],
  })
  expect(existsSync(disk(vmId))).toBe(true)
})

test('a host key goes when no hypervisor has its machine, and stays while one does not answer', async () => {
  await it.do(actions.create('DROP-1'))
  const gone = 'as-drop-9-0000000c'
  writeFileSync(knownHostsFile(it.home, gone), `${gone} ssh-ed25519 AAAA\n`)
  writeFileSync(join(it.home, 'ssh', 'notes.known_hosts'), '')
  const { provider } = it.context
  wrapProviders(it.context, opened => ({
    ...opened,
    listVms: async () => {
      throw fail('hypervisor-unreachable', 'no answer')
    },
  }))
  expect(await plan()).toMatchObject({ prunable: [], unread: [{ provider: 'synthetic' }] })
  it.context.provider = provider
  const { prunable } = await plan()
  expect(prunable).toMatchObject([{ kind: 'host key', name: gone }])
  expect(await prune(prunable, removing)).toMatchObject({ failed: [], removed: [{ name: gone }] })
  const left = readdirSync(join(it.home, 'ssh')).filter(name => name.endsWith('.known_hosts'))
  expect(left.sort()).toEqual([`${it.vmIdOf('DROP-1')}.known_hosts`, 'notes.known_hosts'])
})

test('a folder of host keys that is a link is left as it is', async () => {
  const elsewhere = join(it.home, 'elsewhere')
  mkdirSync(elsewhere)
  writeFileSync(join(elsewhere, 'as-drop-9-0000000c.known_hosts'), '')
  symlinkSync(elsewhere, join(it.home, 'ssh'))
  const { prunable, kept } = await plan()
  expect(prunable).toEqual([])
  expect(kept).toMatchObject([{ kind: 'host key', name: 'ssh', reason: expect.stringContaining('link') }])
})
