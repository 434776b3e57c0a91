/** What is left of machines that Hyper-V does not have any more, and a machine made again from the disk that it left. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { seedImage } from '../../base-image/seed.ts'
import type { Ticket } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { isIn, parseAddress } from '../ipv4.ts'
import type { CreateOptions, Leftover } from '../provider.ts'
import { aboutMachine, type Context, machinesIn, surveyHost, surveyMachines } from './context.ts'
import { filesIn, filesOf, folderOf, isDisk, listFolders, makeFolder, type Owner, readOwner } from './folders.ts'
import { imageFiles } from './images.ts'
import { defineMachine, isUnfinishedRecovery, look } from './machines.ts'
import { hostOf } from './marks.ts'
import { choosePlace, ensureNetwork, type Network, type Place, seedNetworkOf } from './network.ts'
import { type Host, parentsAnswer } from './parse.ts'
import { refusalOf } from './powershell.ts'

const disksOf = async (home: string, id: string) =>
  (await filesIn(folderOf(home, id))).filter(({ path }) => isDisk(path))

export const hasLeftDisk = async ({ home }: Context, id: string): Promise<boolean> => {
  aboutMachine({ home, homeId: '' }, id)
  return (await disksOf(home, id)).length > 0
}

/** A machine that is made at this moment has its folder first: the folders are read before the machines. */
export const listLeftovers = async (context: Context): Promise<Leftover[]> => {
  const folders = listFolders(context.home)
  const whole = (await surveyMachines(context)).filter(machine => !isUnfinishedRecovery(context, machine))
  const machines = new Set(whole.map(({ vmId }) => vmId))
  return Promise.all(
    folders
      .filter(vmId => !machines.has(vmId))
      .map(async vmId => {
        const files = await filesIn(folderOf(context.home, vmId))
        const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
        return { vmId, hasDisk: files.some(({ path }) => isDisk(path)), bytes }
      }),
  )
}

/** The disk that the machine had last: no other is on top of it. Of several, the one that was written last. */
const lastDisk = async ({ home, script }: Context, id: string, doing: string): Promise<string> => {
  const disks = (await disksOf(home, id)).sort((a, b) => b.changed - a.changed)
  const [only] = disks
  if (only === undefined) throw fail('no-such-vm', `${doing}: no disk of it is left`)
  if (disks.length === 1) return only.path
  const answer = await script('parents', { disks: disks.map(({ path }) => path) }, parentsAnswer, { doing })
  const parents = new Set(answer.disks.map(({ parent }) => parent?.toLowerCase()))
  return (disks.find(({ path }) => !parents.has(path.toLowerCase())) ?? only).path
}

/** Its place of before, when its seed is of that place, the network is the same and nobody else has the address. */
const formerPlace = (home: string, id: string, { own }: Network, host: Host, former: Owner): Place | null => {
  if (former.recovery === 'new-seed' || !existsSync(filesOf(home, id).seed)) return null
  const { mac, gateway } = former
  const place = { mac, address: former.address, gateway }
  const address = parseAddress(former.address?.split('/')[0] ?? '')
  if (own === null || address === null) return own === null && former.address === null ? place : null
  const isTaken = machinesIn(host).some(
    ({ vmId, mark }) => vmId !== id && mark !== null && parseAddress(hostOf(mark) ?? '') === address,
  )
  const isThere = isIn(address, own.range) && parseAddress(gateway ?? '') === own.gateway
  return isThere && !isTaken ? place : null
}

/**
 * With the seed that it left, the guest is what it was, and the keys of `options` are not used. Without one, or on another network,
 * cloud-init takes it for a new machine at its next boot. The disk is never removed, whatever fails. Its checkpoints are lost. What an
 * interrupted call left of the machine is made anew, but for the disk.
 */
export const recoverMachine = async (
  context: Context,
  id: string,
  ticket: Ticket | null,
  { cpus, memoryMiB, diskGiB, publicKey, hostKey }: CreateOptions,
): Promise<string | null> => {
  const { home, settings } = context
  aboutMachine(context, id)
  const host = await surveyHost(context)
  if (host.machines.some(({ name }) => name === id)) {
    const { mark } = await look(context, id)
    if (mark?.made === true) return null
  }
  const doing = `making ${id} again from its disk`
  const disk = await lastDisk(context, id, doing)
  const former = readOwner(home, id)
  const image = former?.image ?? null
  if (image !== null && !existsSync(imageFiles(home, image).image))
    throw fail(
      'no-such-image',
      `${doing}: the base image that the disk depends on, ${image}, is gone`,
      `Put ${imageFiles(home, image).image} back, and try again. The disk is kept.`,
    )
  const network = await ensureNetwork(context, host)
  const kept = former === null ? null : formerPlace(home, id, network, host, former)
  const place = kept ?? choosePlace(network, host, new Set())
  const instanceId = `${id}-${randomBytes(4).toString('hex')}`
  const seed =
    kept === null
      ? seedImage({ hostname: id, instanceId, network: seedNetworkOf(settings, place), publicKey, hostKey })
      : null
  const size = { cpus, memoryMiB, diskGiB }
  const recovery = kept === null ? 'new-seed' : 'old-seed'
  const machine = { vmId: id, ticket, place, network, image, base: null, disk, seed, recovery, size } as const
  const { existed } = await defineMachine(context, machine).catch(error => {
    // A script that refuses has not touched the seed: what the folder says is as true as before.
    if (former !== null && refusalOf(error) !== null) makeFolder(home, id, former)
    throw error
  })
  // Of one that a killed call made after all, the place is in its mark.
  const { mac, address } = (existed ? (await look(context, id)).mark : null) ?? place
  makeFolder(home, id, { home: context.homeId, mac, address, gateway: address === null ? null : place.gateway, image })
  return 'Its checkpoints are gone'
}
