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
import { ensureNetwork, releaseAddress } from './network.ts'
import { parseBacking, parseNames, parseVersions, parseVolumes } from './parse.ts'
import { isSession } from './settings.ts'
import { type Command, inBatches } from './virsh.ts'

/** Somebody may have undefined the machine and kept its volumes. libvirt's list of them is as old as its last refresh. */
export const hasLeftDisk = async (context: Context, id: string): Promise<boolean> => {
  await context.virsh.ask([['pool-refresh', context.settings.kvmPool]])
  return (await listVolumes(context)).includes(volumesOf(id).disk)
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
  const left = volumes.filter(name => {
    const vmId = machineOf(name)
    return vmId !== null && VM_ID.test(vmId) && !machines.has(vmId)
  })
  const answers = await Promise.all(inBatches(left.map(name => infoOf(context, name))).map(batch => virsh.ask(batch)))
  const leftovers = new Map<string, Leftover>()
  for (const [name, size] of answers.flatMap(({ stdout }) => [...parseVolumes(stdout)])) {
    const vmId = machineOf(name) ?? ''
    const { hasDisk = false, bytes = 0 } = leftovers.get(vmId) ?? {}
    leftovers.set(vmId, { vmId, hasDisk: hasDisk || name === volumesOf(vmId).disk, bytes: bytes + size })
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

/** Fails when the image that the disk is on top of is gone. */
const requireBacking = async (context: Context, id: string, volumes: readonly string[]): Promise<void> => {
  const { virsh, settings } = context
  const { disk } = volumesOf(id)
  const backing = parseBacking(await virsh.run(['vol-dumpxml', '--pool', settings.kvmPool, disk])).get(disk)
  if (backing !== undefined && !volumes.includes(backing))
    throw fail(
      'no-such-image',
      `making ${id} again from its disk: the image that the disk depends on, ${backing}, is not in the pool ${settings.kvmPool}`,
      'Put the image back, and try again. The disk is kept.',
    )
}

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
  const { disk, seed: seedVolume, console, nvram } = volumesOf(id)
  if (!volumes.includes(disk)) throw fail('no-such-vm', `${doing}: no disk of it is left`)
  await requireBacking(context, id, volumes)
  const oldMac = await macInSeed(context, id, volumes)
  const mac = oldMac ?? freshMac()
  const instanceId = `${id}-${randomBytes(4).toString('hex')}`
  const seed =
    oldMac === null ? seedImage({ hostname: id, instanceId, network: { by: 'mac', mac }, publicKey, hostKey }) : null
  await ensureNetwork(context)
  if (oldMac === null && !isSession(settings)) await virsh.ask(releaseAddress(context, id))
  const isolator = await openIsolator(context)
  const domainType = await findDomainType(context, parseVersions(await virsh.run(['version', '--daemon'])).all)
  const replaced = [console, ...(seed === null ? [] : [seedVolume])]
  await virsh.ask(replaced.map(volume => ['vol-delete', '--pool', settings.kvmPool, volume]))
  const kvmFirmware = volumes.includes(nvram) ? ('uefi' as const) : ('bios' as const)
  await defineMachine(
    { ...context, settings: { ...settings, kvmFirmware } },
    { vmId: id, ticket, mac, domainType, cpus, memoryMiB, seed, folder: pool.folder, isolator },
  )
  await keepCheckpoints(context, id)
}
