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
import {
  chainOf,
  keptVolume,
  layerOf,
  layersIn,
  layerVolume,
  memoryVolume,
  neededByOthers,
  type Pool,
} from './layers.ts'
import { ensureNetwork, releaseAddress } from './network.ts'
import { parseNames, parseVersions, parseVolumes } from './parse.ts'
import { makeOverlay, readBacking, readPool, unneededOfDeleted } from './pool-layers.ts'
import { HEADER_BYTES, snapshotTable } from './qcow2.ts'
import { isSession } from './settings.ts'
import { inBatches } from './virsh.ts'
import { deleteVolume, volumeInfo } from './volumes.ts'

/**
 * The newest layer that is left, and whether a checkpoint or another machine stands on it. Null: none is the machine's own, since
 * forks stand on layers of a deleted machine.
 */
const newestLayer = (pool: Pool, id: string): { layer: number; isFrozen: boolean } | null => {
  const { disks, checkpoints } = layersIn(pool.volumes, id)
  const needed = neededByOthers(pool, id)
  const isNeeded = (layer: number) => needed.includes(layerVolume(id, layer))
  const isMarked = (layer: number) => checkpoints.some(checkpoint => checkpoint.layer === layer)
  const layer = disks.at(-1)
  const isOwn = !pool.volumes.includes(keptVolume(id)) && disks.some(each => isMarked(each) || !isNeeded(each))
  return layer === undefined || !isOwn ? null : { layer, isFrozen: isMarked(layer) || isNeeded(layer) }
}

/** Somebody may have undefined the machine and kept its volumes. */
export const hasLeftDisk = async (context: Context, id: string): Promise<boolean> =>
  newestLayer(await readPool(context), id) !== null

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
  const answers = await Promise.all(
    inBatches(left.map(name => volumeInfo(context, name))).map(batch => virsh.ask(batch)),
  )
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
const requireBacking = (context: Context, id: string, disk: string, { volumes, backing }: Pool): void => {
  const missing = chainOf(disk, backing).find(volume => !volumes.includes(volume))
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
 * never removed, whatever fails; a layer that a checkpoint or a fork stands on is never written.
 */
export const recoverMachine = async (
  context: Context,
  id: string,
  ticket: Ticket | null,
  { cpus, memoryMiB, publicKey, hostKey }: CreateOptions,
): Promise<string | null> => {
  const { virsh, settings } = context
  if ((await lookIfExists(context, id)) !== undefined) return null
  const doing = `making ${id} again from its disk`
  const { folder } = await ensurePool(context)
  const pool = await readPool(context)
  const { volumes } = pool
  const { seed: seedVolume, console, nvram } = volumesOf(id)
  const { memories, next } = layersIn(volumes, id)
  const newest = newestLayer(pool, id)
  if (newest === null) throw fail('no-such-vm', `${doing}: no disk of it is left`)
  const { layer, isFrozen } = newest
  const left = layerVolume(id, layer)
  requireBacking(context, id, left, pool)
  const isExternal = isFrozen || layer > 0 || !(await hasSnapshots(context, left))
  const disk = isFrozen ? layerVolume(id, next) : left
  if (isFrozen) await makeOverlay(context, { volume: disk, on: left, folder, doing })
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
  await virsh.ask(replaced.map(volume => deleteVolume(context, volume)))
  const kvmFirmware = volumes.includes(nvram) ? ('uefi' as const) : ('bios' as const)
  await defineMachine(
    { ...context, settings: { ...settings, kvmFirmware } },
    {
      ...{ vmId: id, ticket, mac, domainType, cpus, memoryMiB, seed, folder, isolator, disk },
      ...(isExternal ? { checkpoints: 'external' as const } : {}),
    },
  )
  if (!isExternal) await keepCheckpoints(context, id)
  return isFrozen ? `The file of its newest layer is gone: its disk is that of before, ${left}` : null
}
