/**
 * Machines that do nothing but get into a state, on real libvirt: paused, asleep, or with a full disk. Their disk is a boot
 * sector, so that they are there within a second. With AGENT_SWARM_NAMESPACE_LANG=de_DE.UTF-8 (and Debian's libvirt-l10n and
 * that locale) libvirtd speaks another language, and all of this ends alike.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openKvm } from '../../providers/kvm/index.ts'
import type { Provider } from '../../providers/provider.ts'
import { isFailure } from '../../src/errors.ts'
import { openRun } from '../../src/exec.ts'
import { until } from '../support/wait.ts'
import { program, succeed } from './cli.ts'
import { defaults, type Kind, openSectors, type Sectors } from './sectors.ts'

let stage: Sectors
let home: string
let provider: Provider
let vmIds: Sectors['vmIds']
const virsh = (...words: string[]) => succeed(program('virsh', ['-q', ...words]))

const listed = async (kind: Kind) => (await provider.listVms()).find(({ vmId }) => vmId === vmIds[kind])
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    error => (isFailure(error) ? error.failure : error),
  )
const FILTERED = /<port isolated='yes'\/>[\s\S]*<filterref filter='agent-swarm-/
/** As an interrupted restore of an older checkpoint leaves it. */
const withoutIsolation = async (vmId: string) => {
  const mac = (await virsh('dumpxml', vmId)).match(/<mac address='([^']*)'/)?.[1] ?? ''
  const file = join(home, 'plain.xml')
  writeFileSync(
    file,
    `<interface type="network"><mac address="${mac}"/><source network="agent-swarm"/><model type="virtio"/></interface>`,
  )
  await virsh('update-device', vmId, file, '--live')
  expect(await virsh('dumpxml', vmId)).not.toMatch(FILTERED)
}

beforeAll(async () => {
  stage = await openSectors('agent-swarm-states', 1)
  ;({ home, provider, vmIds } = stage)
})
afterAll(() => stage.close())

test('a machine that somebody paused is shown as that, and start lets it go on, isolated', async () => {
  const vmId = vmIds.idle
  await provider.startVm(vmId)
  expect(await listed('idle')).toMatchObject({ status: 'running' })
  expect(await listed('idle')).not.toHaveProperty('paused')
  await virsh('suspend', vmId)
  expect(await listed('idle')).toMatchObject({ status: 'running', paused: 'by a user', pauseCause: 'asked' })
  await withoutIsolation(vmId)
  await provider.startVm(vmId)
  expect(await listed('idle')).not.toHaveProperty('paused')
  expect(await virsh('dumpxml', vmId)).toMatch(FILTERED)
  await provider.startVm(vmId)
})

test('a checkpoint whose name is taken, one that is gone, and one that somebody paused', async () => {
  const vmId = vmIds.idle
  await provider.checkpoint(vmId, 'one')
  expect(await failure(provider.checkpoint(vmId, 'one'))).toMatchObject({ kind: 'already-exists' })
  expect(await failure(provider.restore(vmId, 'zz'))).toMatchObject({ kind: 'no-such-checkpoint' })
  await provider.deleteCheckpoint?.(vmId, 'one')
  await provider.deleteCheckpoint?.(vmId, 'one')
  expect(await provider.listCheckpoints(vmId)).toEqual([])
})

test('a guest that sleeps is shown as that, and start wakes it, isolated', async () => {
  const vmId = vmIds.sleeper
  await provider.startVm(vmId)
  await until('the guest to sleep', async () => (await listed('sleeper'))?.paused !== undefined, { within: 60_000 })
  expect(await listed('sleeper')).toMatchObject({ status: 'running', paused: 'suspended by the guest' })
  await withoutIsolation(vmId)
  // It may sleep again as soon as it is awake.
  await provider.startVm(vmId)
  expect(await virsh('dumpxml', vmId)).toMatch(FILTERED)
  await provider.deleteVm(vmId)
})

test('a guest whose disk is full is shown as that; start says so first, and then lets it go on', async () => {
  const vmId = vmIds.writer
  await stage.sizeOfFolder('12m')
  await provider.startVm(vmId)
  await until('the disk to be full', async () => (await listed('writer'))?.paused !== undefined, { within: 60_000 })
  expect(await listed('writer')).toMatchObject({ status: 'running', paused: 'disk full', pauseCause: 'disk-full' })
  expect(await failure(provider.startVm(vmId))).toMatchObject({
    kind: 'disk-full',
    message: expect.stringContaining(`resuming ${vmId}, which is paused (disk full): it needs about 64 MiB`),
  })
  expect(await listed('writer')).toMatchObject({ paused: 'disk full' })
  await stage.sizeOfFolder('600m')
  await provider.startVm(vmId)
  expect(await listed('writer')).not.toHaveProperty('paused')
  await provider.deleteVm(vmId)
})

test('stop of a machine that is paused, and of one that is off', async () => {
  const vmId = vmIds.idle
  await virsh('suspend', vmId)
  await withoutIsolation(vmId)
  // The guest does not listen to the power button: only its end is sure.
  const stopped = provider.stopVm(vmId)
  await until('the guest to go on', async () => (await listed('idle'))?.paused === undefined, { within: 60_000 })
  expect(await virsh('dumpxml', vmId)).toMatch(FILTERED)
  await virsh('suspend', vmId)
  await stopped
  expect(await provider.status(vmId)).toBe('stopped')
  await provider.stopVm(vmId)
})

test('a pool that is in the way is named; the folder of a pool that is gone is built again', async () => {
  const run = openRun({ PATH: process.env.PATH, HOME: home })
  const settings = { ...defaults, kvmPool: 'agent-swarm-other' }
  const other = openKvm({ run, home, homeId: '00112233445566ff', knows: () => false, settings })
  const folder = '/var/lib/libvirt/agent-swarm-other'
  await virsh('pool-define-as', 'swarm-old', 'dir', '--target', folder)
  const refused = { kind: 'not-configured', remedy: expect.stringContaining('AGENT_SWARM_KVM_POOL=swarm-old') }
  expect(await failure(other.capacity?.() ?? Promise.resolve())).toMatchObject(refused)
  expect(await other.diagnose?.(new AbortController().signal)).toContainEqual(
    expect.objectContaining({ status: 'error', text: expect.stringContaining('swarm-old') }),
  )
  await virsh('pool-undefine', 'swarm-old')
  expect(await other.available()).toEqual({ available: true })
  await other.capacity?.()
  rmSync(folder, { recursive: true })
  expect((await other.capacity?.())?.diskBytes.total).toBeGreaterThan(0)
  rmSync(folder, { recursive: true })
  await program('virsh', ['-q', 'pool-refresh', 'agent-swarm-other'])
  expect((await other.capacity?.())?.diskBytes.total).toBeGreaterThan(0)
  await virsh('pool-destroy', 'agent-swarm-other')
  await virsh('pool-undefine', 'agent-swarm-other')
  rmSync(folder, { recursive: true })
})
