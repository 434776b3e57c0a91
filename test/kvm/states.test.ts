/**
 * Machines that do nothing but get into a state, on real libvirt: paused, asleep, or with a full disk. Their disk is a boot
 * sector, so that they are there within a second. With AGENT_SWARM_NAMESPACE_LANG=de_DE.UTF-8 (and Debian's libvirt-l10n and
 * that locale) libvirtd speaks another language, and all of this ends alike.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openKvm } from '../../providers/kvm/index.ts'
import { type KvmSettings, kvmSettings } from '../../providers/kvm/settings.ts'
import type { Provider } from '../../providers/provider.ts'
import { isFailure } from '../../src/errors.ts'
import { openRun } from '../../src/exec.ts'
import { until } from '../support/wait.ts'
import { program, succeed } from './cli.ts'

const POOL = 'agent-swarm-states'
const FOLDER = `/var/lib/libvirt/${POOL}`
const defaults = Object.fromEntries(
  Object.entries(kvmSettings).map(([name, row]) => [name, row.default]),
) as unknown as KvmSettings

/** What the BIOS loads to 0x7c00 and runs. */
const sectors = {
  /** hlt, again and again */
  idle: [0xf4, 0xeb, 0xfd],
  /** Writes SLP_TYP 1 and SLP_EN to the power management of q35: the guest sleeps (S3). */
  sleeper: [0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef, 0xf4, 0xeb, 0xfd],
  /** Writes 32 KiB of its memory after the other to the disk, by the BIOS: `add dword [7c30], 64; int 13h, ah=43h`, DAP at 7c28. */
  writer: [
    ...[0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x28, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13],
    ...[0x66, 0x83, 0x06, 0x30, 0x7c, 0x40, 0xeb, 0xec],
  ],
}
const DAP = [0x10, 0, 64, 0, 0x00, 0x7c, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]
type Kind = keyof typeof sectors

const diskOf = (kind: Kind): Buffer => {
  const disk = Buffer.alloc(1024 ** 2)
  disk.set(sectors[kind], 0)
  disk.set(DAP, 0x28)
  disk.set([0x55, 0xaa], 510)
  return disk
}

const vmIds = { idle: 'as-state-1-00000001', sleeper: 'as-state-2-00000002', writer: 'as-state-3-00000003' } as const
let home: string
let provider: Provider
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
const sizeOfFolder = (size: string) => succeed(program('mount', ['-o', `remount,size=${size}`, FOLDER]))

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-states-'))
  mkdirSync(FOLDER, { recursive: true })
  await succeed(program('mount', ['-t', 'tmpfs', '-o', 'mode=711,size=600m', 'states', FOLDER]))
  const settings = { ...defaults, kvmPool: POOL, kvmDomainType: 'qemu' } as const
  const run = openRun({ PATH: process.env.PATH, HOME: home })
  provider = openKvm({ run, home, homeId: '00112233445566ff', knows: () => false, settings })
  // Makes the pool.
  await provider.capacity?.()
  for (const kind of Object.keys(sectors) as Kind[]) {
    const raw = join(home, kind)
    writeFileSync(raw, diskOf(kind))
    await succeed(program('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, join(FOLDER, `${kind}.qcow2`)]))
    writeFileSync(join(FOLDER, `${kind}.manifest.json`), '{}')
    const options = { vmId: vmIds[kind], cpus: 1, memoryMiB: 64, diskGiB: 1, publicKey: 'ssh-ed25519 A x' }
    await provider.createVm(null, kind, { ...options, hostKey: { privateKey: 'p', publicKey: 'q' } })
  }
})
afterAll(async () => {
  for (const vmId of Object.values(vmIds)) await provider.deleteVm(vmId)
  await virsh('pool-destroy', POOL)
  await virsh('pool-undefine', POOL)
  await succeed(program('umount', [FOLDER]))
  rmSync(home, { recursive: true })
})

test('a machine that somebody paused is shown as that, and start lets it go on, isolated', async () => {
  const vmId = vmIds.idle
  await provider.startVm(vmId)
  expect(await listed('idle')).toMatchObject({ status: 'running' })
  expect(await listed('idle')).not.toHaveProperty('paused')
  await virsh('suspend', vmId)
  expect(await listed('idle')).toMatchObject({ status: 'running', paused: 'by a user' })
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
  await sizeOfFolder('12m')
  await provider.startVm(vmId)
  await until('the disk to be full', async () => (await listed('writer'))?.paused !== undefined, { within: 60_000 })
  expect(await listed('writer')).toMatchObject({ status: 'running', paused: 'disk full' })
  expect(await failure(provider.startVm(vmId))).toMatchObject({
    kind: 'disk-full',
    message: expect.stringContaining(`resuming ${vmId}, which is paused (disk full): it needs about 64 MiB`),
  })
  expect(await listed('writer')).toMatchObject({ paused: 'disk full' })
  await sizeOfFolder('600m')
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
  expect(await other.available()).toMatchObject({ available: false, reason: expect.stringContaining('swarm-old') })
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
