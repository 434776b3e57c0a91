/** What is left of machines that libvirt does not have any more, and a machine made again from the disk that it left. */
import { randomBytes } from 'node:crypto'
import { seedImage } from '../../base-image/seed.ts'
import { type Ticket, VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { CreateOptions, Leftover } from '../provider.ts'
import { type Context, lookIfExists } from './context.ts'
import { defineMachine, machineOf, volumesOf } from './definition.ts'
import { findDomainType } from './domain-type.ts'
import { ensurePool, freshMac, listVolumes } from './host.ts'
import { downloadPart, keepCheckpoints } from './in-disk.ts'
import { openIsolator } from './isolation.ts'
import { chainOf, keptVolume, layerOf, layersIn, layerVolume, memoryVolume } from './layers.ts'
import { ensureNetwork, releaseAddress } from './network.ts'
import { parseNames, parseVersions, parseVolumes } from './parse.ts'
import { readBacking, unneededOfDeleted } from './pool-layers.ts'
import { HEADER_BYTES, snapshotTable } from './qcow2.ts'
import { isSession } from './settings.ts'
import { type Command, inBatches } from './virsh.ts'

/**
 * Somebody may have undefined the machine and kept its volumes. Layers of a deleted machine that forks stand on are none of its. libvirt's
 * list of volumes is as old as its last refresh.
 */
export const hasLeftDisk = async (context: Context, id: string): Promise<boolean> => {
  await context.virsh.ask([['pool-refresh', context.settings.kvmPool]])
  const volumes = await listVolumes(context)
  return layersIn(volumes, id).disks.length > 0 && !volumes.includes(keptVolume(id))
}

const infoOf = ({ settings }: Context, volume: string): Command => [
  ...['vol-info', '--pool', settings.kvmPool, volume, '--bytes'],
]

/** A machine that is made at this moment may be among them: its volumes come first. */
export const listLeftovers = async (context: Context): Promise<Leftover[]> => {
  const { virsh, settings } = context
  // While an image is copied into the pool, the list is that of before.
  await virsh.ask([['pool-refresh', settings.kvmPool]])
  const volumes = await listVolumes(context)
  const machines = new Set(parseNames(await virsh.run(['list', '--all', '--name'])))
  const kept = new Set(volumes.filter(name => name === keptVolume(machineOf(name) ?? '')).map(machineOf))
  const orphans =
    kept.size === 0 ? [] : unneededOfDeleted({ volumes, backing: await readBacking(context, volumes) }, machines)
  const left = volumes.filter(name => {
    const vmId = machineOf(name)
    if (vmId === null || !VM_ID.test(vmId) || machines.has(vmId)) return false
    return !kept.has(vmId) || orphans.includes(name)
  })
  const answers = await Promise.all(inBatches(left.map(name => infoOf(context, name))).map(batch => virsh.ask(batch)))
  const leftovers = new Map<string, Leftover>()
  for (const [name, size] of answers.flatMap(({ stdout }) => [...parseVolumes(stdout)])) {
    const vmId = machineOf(name) ?? ''
    const { hasDisk = false, bytes = 0 } = leftovers.get(vmId) ?? {}
    leftovers.set(vmId, {
      vmId,
      hasDisk: hasDisk || (layerOf(name, vmId) !== null && !kept.has(vmId)),
      bytes: bytes + size,
    })
  }
  return [...leftovers.values()]
}

const MAX_SEED_BYTES = 1024 ** 2

/** The MAC in the seed that the machine left. Null without a seed that can be read. */
const macInSeed = async (context: Context, id: string, volumes: readonly string[]): Promise<string | null> => {
  const { seed } = volumesOf(id)
  if (!volumes.includes(seed)) return null
  const text = (await downloadPart(context, seed, 0, MAX_SEED_BYTES)).toString('latin1')
  return text.match(/"macaddress":"([0-9a-f]{2}(?::[0-9a-f]{2}){5})"/)?.[1] ?? null
}

/** Fails when something that the disk is on top of is gone. */
const requireBacking = async (
  context: Context,
  id: string,
  disk: string,
  volumes: readonly string[],
): Promise<void> => {
  const missing = chainOf(disk, await readBacking(context, volumes)).find(volume => !volumes.includes(volume))
  if (missing !== undefined)
    throw fail(
      'no-such-image',
      `making ${id} again from its disk: the image that the disk depends on, ${missing}, is not in the pool ${context.settings.kvmPool}`,
      'Put the image back, and try again. The disk is kept.',
    )
}

/** A disk of an earlier version, whose checkpoints are inside it. */
const hasSnapshots = async (context: Context, disk: string): Promise<boolean> =>
  snapshotTable(await downloadPart(context, disk, 0, HEADER_BYTES)) !== null

/**
 * With the seed that it left, the guest is what it was: its MAC, its host key and its login key stay, and those of `options` are
 * not used. Without one, cloud-init takes it for a new machine at its next boot, and installs the keys of `options`. The disk is
 * never removed, whatever fails.
 */
export const recoverMachine = async (
  context: Context,
  id: string,
  ticket: Ticket | null,
  { cpus, memoryMiB, publicKey, hostKey }: CreateOptions,
): Promise<void> => {
  const { virsh, settings } = context
  if ((await lookIfExists(context, id)) !== undefined) return
  const doing = `making ${id} again from its disk`
  const pool = await ensurePool(context)
  const volumes = await listVolumes(context)
  const { seed: seedVolume, console, nvram } = volumesOf(id)
  const { disks, memories } = layersIn(volumes, id)
  const active = disks.at(-1)
  if (active === undefined || volumes.includes(keptVolume(id)))
    throw fail('no-such-vm', `${doing}: no disk of it is left`)
  const disk = layerVolume(id, active)
  await requireBacking(context, id, disk, volumes)
  const isExternal = active > 0 || !(await hasSnapshots(context, disk))
  const oldMac = await macInSeed(context, id, volumes)
  const mac = oldMac ?? freshMac()
  const instanceId = `${id}-${randomBytes(4).toString('hex')}`
  const seed =
    oldMac === null ? seedImage({ hostname: id, instanceId, network: { by: 'mac', mac }, publicKey, hostKey }) : null
  await ensureNetwork(context)
  if (oldMac === null && !isSession(settings)) await virsh.ask(releaseAddress(context, id))
  const isolator = await openIsolator(context)
  const domainType = await findDomainType(context, parseVersions(await virsh.run(['version', '--daemon'])).all)
  // A memory is of a definition that is gone: a restore of its checkpoint boots the disk.
  const replaced = [console, ...(seed === null ? [] : [seedVolume]), ...memories.map(n => memoryVolume(id, n))]
  await virsh.ask(replaced.map(volume => ['vol-delete', '--pool', settings.kvmPool, volume]))
  const kvmFirmware = volumes.includes(nvram) ? ('uefi' as const) : ('bios' as const)
  await defineMachine(
    { ...context, settings: { ...settings, kvmFirmware } },
    {
      ...{ vmId: id, ticket, mac, domainType, cpus, memoryMiB, seed, folder: pool.folder, isolator, disk },
      ...(isExternal ? { checkpoints: 'external' as const } : {}),
    },
  )
  if (!isExternal) await keepCheckpoints(context, id)
}
