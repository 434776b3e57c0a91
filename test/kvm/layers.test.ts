/**
 * External checkpoints on real libvirt, of machines that are there within a second: frozen layers, memory beside them, restores,
 * deletes in any order, merges, forks of deleted machines, and what a crash leaves. Live where the host can.
 */
import { chmodSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Provider } from '../../providers/provider.ts'
import { isFailure } from '../../src/errors.ts'
import { until } from '../support/wait.ts'
import { makeOlder, program, succeed } from './cli.ts'
import { openSectors, optionsOf, type Sectors } from './sectors.ts'

const POOL = 'agent-swarm-live'
let stage: Sectors
let provider: Provider
let id: string
const virsh = (...words: string[]) => succeed(program('virsh', ['-q', ...words]))

/** The machine's volumes besides those that every machine has. */
const volumes = async (of = id) => {
  await virsh('pool-refresh', POOL)
  const names = (await virsh('vol-list', POOL)).split('\n').map(line => line.trim().split(/\s+/)[0] ?? '')
  const own = names.filter(name => name.startsWith(`${of}.`) && !/seed|console/.test(name))
  return own.map(name => name.slice(of.length + 1)).sort()
}
const disk = async (...flags: string[]) =>
  (await virsh('domblklist', id, ...flags)).match(/vda\s+\S*\/(\S+)/)?.[1]?.slice(id.length + 1)
/** The layer below the one in use. */
const below = async (): Promise<string> => {
  const file = `${stage.folder}/${id}.${await disk('--inactive')}`
  const info = JSON.parse(await succeed(program('qemu-img', ['info', '-U', '--output=json', file])))
  return basename(info['backing-filename']).slice(id.length + 1)
}
const monitor = (execute: string, more = {}) => virsh('qemu-monitor-command', id, JSON.stringify({ execute, ...more }))
const capability = async () =>
  (await monitor('query-migrate-capabilities')).match(/\{[^{}]*background-snapshot[^{}]*\}/)?.[0]
const setCapability = (state: boolean) =>
  monitor('migrate-set-capabilities', {
    arguments: { capabilities: [{ capability: 'background-snapshot', state }] },
  })
const listed = async () => (await provider.listVms()).find(({ vmId }) => vmId === id)
const notes = () => readdirSync(join(stage.home, 'kvm')).filter(name => !/^domain-type|^tmp-|\.lock$/.test(name))
/** Of a process that died. */
const leaveNote = () => writeFileSync(join(stage.home, 'kvm', `live-${id}`), JSON.stringify({ fifo: null }))

beforeAll(async () => {
  stage = await openSectors(POOL, 2, { kvmLiveCheckpoints: 'on' })
  provider = stage.provider
  id = stage.vmIds.idle
})
afterAll(() => stage.close())

test('a checkpoint of a running machine freezes its layer, and tells how long the machine stood still', async () => {
  await provider.startVm(id)
  const made = await provider.checkpoint(id, 'one')
  expect(made.sizeBytes).toBeGreaterThan(0)
  expect(made.livePauseMs).toBeGreaterThan(0)
  console.log(`it stood still for ${made.livePauseMs} ms`)
  expect(await volumes()).toEqual(['0.memory', '0.one.checkpoint', '1.qcow2', 'qcow2'])
  expect([await disk(), await disk('--inactive')]).toEqual(['1.qcow2', '1.qcow2'])
  expect(await listed()).toMatchObject({ status: 'running' })
  expect(await listed()).not.toHaveProperty('paused')
  expect(await capability()).toContain('"state":false')
  expect(notes()).toEqual([])
  await provider.checkpoint(id, 'two')
  expect(await provider.listCheckpoints(id)).toEqual(['one', 'two'])
  await expect(provider.checkpoint(id, 'one')).rejects.toSatisfy(
    error => isFailure(error) && error.failure.kind === 'already-exists',
  )
})

test('a restore brings the memory back on a new layer, and the definition names that layer', async () => {
  await provider.restore(id, 'one')
  expect(await listed()).toMatchObject({ status: 'running' })
  expect(await listed()).not.toHaveProperty('paused')
  expect([await disk(), await disk('--inactive')]).toEqual(['3.qcow2', '3.qcow2'])
  for (const flags of [[], ['--inactive']]) {
    const definition = await virsh('dumpxml', id, ...flags)
    expect(definition).toMatch(/<filterref filter='agent-swarm-/)
    expect(definition).toMatch(/checkpoints=['"]external['"]/)
  }
  expect(await volumes()).toEqual([
    ...['0.memory', '0.one.checkpoint', '1.memory', '1.qcow2', '1.two.checkpoint', '3.qcow2', 'qcow2'],
  ])
  await provider.restore(id, 'two', { cold: true })
  expect(await provider.status(id)).toBe('stopped')
  expect(await disk()).toBe('4.qcow2')
})

test('a checkpoint of a machine that is off has no memory', async () => {
  await provider.checkpoint(id, 'three')
  expect(await disk()).toBe('5.qcow2')
  await provider.startVm(id)
  await provider.restore(id, 'three')
  expect(await provider.status(id)).toBe('stopped')
  expect(await provider.listCheckpoints(id)).toEqual(['one', 'two', 'three'])
})

test('a machine whose memory is saved goes on with its memory after a checkpoint, on the new layer', async () => {
  await provider.startVm(id)
  await provider.save?.(id)
  await provider.checkpoint(id, 'asleep')
  const active = await disk()
  await provider.startVm(id)
  expect(await virsh('dominfo', id)).toMatch(/Managed save:\s+no/)
  expect([await disk(), await disk('--inactive')]).toEqual([active, active])
  await provider.deleteCheckpoint?.(id, 'asleep')
})

test('after a crash in a checkpoint of a saved memory, the machine goes on with the disk of before, and keeps what it writes', async () => {
  await provider.save?.(id)
  const before = (await disk()) ?? ''
  const path = (name: string) => `${stage.folder}/${id}.${name}`
  // The new layer, which the definition names, and the memory does not.
  await succeed(
    program('qemu-img', [...['create', '-q', '-f', 'qcow2', '-b', path(before), '-F', 'qcow2'], path('50.qcow2')]),
  )
  const file = join(stage.home, 'definition')
  writeFileSync(
    file,
    (await virsh('dumpxml', id, '--inactive', '--security-info')).replace(path(before), path('50.qcow2')),
  )
  await virsh('define', file)
  await virsh('pool-refresh', POOL)
  await provider.startVm(id)
  expect([await disk(), await disk('--inactive')]).toEqual([before, before])
  await provider.checkpoint(id, 'crashed')
  const active = await disk()
  expect(await disk('--inactive')).toBe(active)
  // Its boot sector knows no power button.
  await virsh('destroy', id)
  expect(await disk()).toBe(active)
  await provider.startVm(id)
  await provider.deleteCheckpoint?.(id, 'crashed')
  expect(await volumes()).not.toContain('50.qcow2')
})

test('a layer that QEMU writes into and libvirt does not know is kept, and the machine goes on with it after a restart', async () => {
  const before = (await disk()) ?? ''
  const path = (name: string) => `${stage.folder}/${id}.${name}`
  // As if libvirt was killed in a snapshot, between QEMU's change to the new layer and its own note of that.
  await succeed(
    program('qemu-img', [...['create', '-q', '-f', 'qcow2', '-b', path(before), '-F', 'qcow2'], path('60.qcow2')]),
  )
  chmodSync(path('60.qcow2'), 0o666)
  const node = (await monitor('query-block')).match(/"node-name":"([^"]+)"/)?.[1]
  const file = { driver: 'file', filename: path('60.qcow2') }
  await monitor('blockdev-add', { arguments: { driver: 'qcow2', 'node-name': 'unknown', backing: null, file } })
  await monitor('blockdev-snapshot', { arguments: { node, overlay: 'unknown' } })
  expect(await disk()).toBe(before)
  for (const work of [() => provider.checkpoint(id, 'lost'), () => provider.save?.(id)])
    await expect(work()).rejects.toSatisfy(
      error => isFailure(error) && error.failure.remedy?.includes('agent-swarm restart') === true,
    )
  await provider.settle?.(id)
  expect(await volumes()).toContain('60.qcow2')
  await virsh('destroy', id)
  await provider.startVm(id)
  expect([await disk(), await disk('--inactive')]).toEqual(['60.qcow2', '60.qcow2'])
  await provider.checkpoint(id, 'known-again')
  await provider.deleteCheckpoint?.(id, 'known-again')
})

test('checkpoints are deleted in any order, and layers that need not be two become one', async () => {
  await provider.checkpoint(id, 'four')
  await provider.deleteCheckpoint?.(id, 'two')
  await provider.deleteCheckpoint?.(id, 'two')
  await provider.deleteCheckpoint?.(id, 'one')
  await until('the merge to end', async () => !(await volumes()).includes('1.qcow2'), { within: 60_000 })
  expect(await provider.listCheckpoints(id)).toEqual(['three', 'four'])
  await provider.restore(id, 'four')
  expect(await listed()).toMatchObject({ status: 'running' })
  await provider.restore(id, 'three')
  await provider.startVm(id)
})

test('what a checkpoint left whose process died is ended: the guest runs, QEMU saves memory as always, and no file is left', async () => {
  // It made the new layer and the memory, and neither the marker nor an end.
  const before = await provider.listCheckpoints(id)
  leaveNote()
  await virsh('suspend', id)
  expect(await listed()).toMatchObject({ paused: 'making a checkpoint', pauseCause: 'interrupted' })
  await provider.startVm(id)
  expect(await listed()).not.toHaveProperty('paused')
  expect(notes()).toEqual([])
  const canBeLive = (await setCapability(true)).includes('"return"')
  const findings = (await provider.diagnose?.(new AbortController().signal)) ?? []
  expect(findings.some(({ text }) => text.startsWith('checkpoints of running machines are live'))).toBe(canBeLive)
  console.log(canBeLive ? 'checkpoints are live here' : 'checkpoints cannot be live here')
  for (const end of [() => provider.listVms(), () => provider.settle?.(), () => provider.save?.(id)]) {
    await setCapability(true)
    expect(await capability()).toContain(`"state":${canBeLive}`)
    leaveNote()
    await end()
    if ((await provider.status(id)) === 'stopped') await provider.startVm(id)
    expect(await capability()).toContain('"state":false')
  }
  await provider.listVms()
  expect(notes()).toEqual([])
  expect(await provider.listCheckpoints(id)).toEqual(before)
})

test('a checkpoint without room for the memory is refused before anything is made', async () => {
  const before = await volumes()
  await stage.sizeOfFolder('40m')
  const refused = await provider.checkpoint(id, 'full').catch((error: unknown) => error)
  await stage.sizeOfFolder('600m')
  expect(isFailure(refused) && refused.failure.kind).toBe('disk-full')
  expect(await volumes()).toEqual(before)
  expect(await listed()).not.toHaveProperty('paused')
})

test("layers of a deleted machine stay while a disk of another stands on them, are nobody's leftover, and go with it", async () => {
  const source = 'as-state-8-00000002'
  const fork = 'as-state-9-00000002'
  await provider.createVm(null, 'idle', optionsOf(source))
  await provider.checkpoint(source, 'base')
  await provider.createVm(null, 'idle', optionsOf(fork))
  await virsh('vol-delete', '--pool', POOL, `${fork}.qcow2`)
  await virsh(
    ...['vol-create-as', POOL, `${fork}.qcow2`, '1G', '--format', 'qcow2'],
    ...['--backing-vol', `${source}.qcow2`, '--backing-vol-format', 'qcow2'],
  )
  await provider.deleteVm(source)
  expect(await volumes(source)).toEqual(['kept', 'qcow2'])
  expect(await provider.hasLeftDisk?.(source)).toBe(false)
  expect((await provider.leftovers?.())?.map(({ vmId }) => vmId)).not.toContain(source)
  await provider.deleteVm(source)
  expect(await volumes(source)).toEqual(['kept', 'qcow2'])
  await provider.startVm(fork)
  await provider.deleteVm(fork)
  expect([await volumes(source), await volumes(fork)]).toEqual([[], []])
})

test('a machine that libvirt lost is made again from its newest layer, with its checkpoints, as checkpoints of the disk', async () => {
  await provider.checkpoint(id, 'five')
  const active = await disk()
  await virsh('destroy', id)
  await virsh('undefine', id)
  expect(await provider.hasLeftDisk?.(id)).toBe(true)
  await provider.recoverVm?.(id, null, optionsOf(id))
  expect(await disk()).toBe(active)
  expect(await provider.listCheckpoints(id)).toEqual(['three', 'four', 'five'])
  await provider.restore(id, 'five')
  expect(await provider.status(id)).toBe('stopped')
  await provider.startVm(id)
})

test('a machine that was removed with its newest layer goes on above its checkpoint, which stays as it was', async () => {
  await provider.checkpoint(id, 'six')
  const frozen = await below()
  await virsh('destroy', id)
  await virsh('undefine', id, '--remove-all-storage')
  expect(await provider.hasLeftDisk?.(id)).toBe(true)
  expect(await provider.recoverVm?.(id, null, optionsOf(id))).toMatch(/^The file of its newest layer is gone/)
  expect(await below()).toBe(frozen)
  await provider.startVm(id)
  await provider.restore(id, 'six')
  expect(await provider.listCheckpoints(id)).toContain('six')
})

test('a machine of an earlier version keeps its checkpoints inside its disk', async () => {
  const old = stage.vmIds.sleeper
  await makeOlder(old)
  await provider.checkpoint(old, 'inside')
  expect(await virsh('snapshot-list', old, '--name')).toBe('inside')
  expect(await provider.listCheckpoints(old)).toEqual(['inside'])
  await provider.restore(old, 'inside')
  await provider.deleteCheckpoint?.(old, 'inside')
  expect(await volumes(old)).toEqual(['qcow2'])
})
