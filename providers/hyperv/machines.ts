/** The life of machines: created, started, stopped, deleted, listed. */
import { existsSync } from 'node:fs'
import { GUEST_USER, seedImage } from '../../base-image/seed.ts'
import type { Ticket } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { CreateOptions, ForeignMachine, SshInfo, StartOptions, VmInfo, VmStatus } from '../provider.ts'
import { usableAddress } from './addresses.ts'
import {
  aboutMachine,
  type Context,
  isOurs,
  type Machine,
  machinesIn,
  orDiskFull,
  requireRoomForMemory,
  requireSpace,
  surveyHost,
  surveyMachines,
} from './context.ts'
import { FREE_DISK_SPACE } from './explain.ts'
import { filesOf, folderOf, isInRecovery, makeFolder, type Owner, removeFolder, requireShortPath } from './folders.ts'
import { imageFiles, requireImage } from './images.ts'
import { rulesOf } from './isolation.ts'
import { hostOf, type Mark, parseMark } from './marks.ts'
import { choosePlace, ensureNetwork, type Network, type Place, seedNetworkOf } from './network.ts'
import { createAnswer, doneAnswer, type Host, isStopped, lookAnswer, parseState, stateAnswer } from './parse.ts'
import { refusalOf } from './powershell.ts'

/** The scripts wait this long, in seconds; the deadlines are longer. */
const SHUTDOWN_GRACE_S = 60
const MERGE_PATIENCE_S = 300
const DEADLINE_MS = 10 * 60_000
/** What a first boot writes, and a little for the work after it. */
const NEW_MACHINE_BYTES = 512 * 1024 ** 2
const MIB = 1024 ** 2
const GIB = 1024 ** 3
/** Others may take an address at the same moment. */
const MOST_TRIES = 10

// ── Create ──

/**
 * `image`: the base image that the disk depends on. `base`: its file, of which the disk is made; null when the disk is there already.
 * `seed` null: the seed is, too. `recovery`: the machine is made again from its disk.
 */
export type Definition = {
  vmId: string
  ticket: Ticket | null
  place: Place
  network: Network
  image: string | null
  base: string | null
  disk: string
  seed: Buffer | null
  recovery?: Owner['recovery']
  size: Pick<CreateOptions, 'cpus' | 'memoryMiB' | 'diskGiB'>
}

/** Makes the VM with its mark. `existed`: only of a machine that is made again, by another call meanwhile. */
export const defineMachine = async (context: Context, machine: Definition): Promise<{ existed: boolean }> => {
  const { script, home, homeId } = context
  const { vmId, ticket, place, network, image, base, disk, seed, recovery, size } = machine
  const { mac, address } = place
  const mark: Mark = { vmId, ticket, home: homeId, mac, address, made: false }
  makeFolder(home, vmId, { home: homeId, ...place, image, ...(recovery && { recovery }) })
  const data = {
    ...aboutMachine(context, vmId),
    ...{ mark, base, mayBeAbsent: true, disk, switch: network.name, rules: rulesOf(context, vmId) },
    ...{ seedPath: filesOf(home, vmId).seed, seed: seed?.toString('base64') ?? null },
    ...{ cpus: size.cpus, memory: size.memoryMiB * MIB, bytes: size.diskGiB * GIB },
  }
  const doing = `creating ${vmId}`
  return script('create', data, createAnswer, { doing, deadline: DEADLINE_MS }).catch(orDiskFull(context, doing))
}

/** `machineId`: for a disk that has the machine-id of another machine. */
type NewMachine = Pick<Definition, 'ticket' | 'image' | 'base'> & {
  options: CreateOptions
  host: Host
  machineId?: string
}

/** Makes a machine with an address of its own. Another process may take the address at the same moment. */
export const defineNew = async (
  context: Context,
  { ticket, image, base, options, host, machineId }: NewMachine,
  onPhase: (phase: string) => void,
): Promise<void> => {
  const { vmId, publicKey, hostKey } = options
  const network = await ensureNetwork(context, host)
  const { disk } = filesOf(context.home, vmId)
  const taken = new Set<string>()
  for (let tries = 1; ; tries += 1) {
    const place = choosePlace(network, host, taken)
    onPhase('seed')
    const seed = seedImage({
      ...{ hostname: vmId, publicKey, hostKey },
      network: seedNetworkOf(context.settings, place),
      ...(machineId !== undefined && { machineId }),
    })
    onPhase('define')
    try {
      await defineMachine(context, { vmId, ticket, place, network, image, base, disk, seed, size: options })
      return
    } catch (error) {
      if (refusalOf(error) !== 'address-taken' || tries === MOST_TRIES) throw error
      taken.add(place.address?.split('/')[0] ?? '')
    }
  }
}

export const createMachine = async (
  context: Context,
  ticket: Ticket | null,
  baseImage: string,
  options: CreateOptions,
  onPhase: (phase: string) => void,
): Promise<VmInfo> => {
  const { vmId } = options
  const doing = `creating ${vmId}`
  aboutMachine(context, vmId)
  requireShortPath(context.home, vmId)
  const host = await surveyHost(context)
  const existing = await requireOurs(context, vmId, machinesIn(host))
  if (existing?.mark?.made === true)
    return { vmId, ticket: existing.mark.ticket, ip: null, status: parseState(existing.row.state).status }
  // What an interrupted call left.
  if (existing !== undefined || existsSync(folderOf(context.home, vmId))) await deleteMachine(context, vmId)
  requireImage(context, baseImage)
  requireSpace(context, doing, NEW_MACHINE_BYTES)
  onPhase('disk')
  try {
    const { image: base } = imageFiles(context.home, baseImage)
    await defineNew(context, { ticket, image: baseImage, base, options, host }, onPhase)
  } catch (error) {
    await deleteMachine(context, vmId)
    throw error
  }
  return { vmId, ticket, ip: null, status: 'stopped' }
}

/** Undefined when there is no such machine. */
export const requireOurs = async (
  context: Context,
  vmId: string,
  machines: Machine[],
): Promise<Machine | undefined> => {
  const named = machines.filter(each => each.vmId === vmId)
  const ours = named.find(each => isOurs(context, each))
  // The script says why.
  if (ours === undefined && named.length > 0) await look(context, vmId)
  return ours
}

// ── Start, stop, delete ──

export const startMachine = async (
  context: Context,
  id: string,
  { cold = false }: StartOptions = {},
): Promise<void> => {
  const { script } = context
  const doing = `starting ${id}`
  const about = aboutMachine(context, id)
  const { state } = await script('start', { ...about, cold, rules: rulesOf(context, id) }, stateAnswer, {
    ...{ doing, deadline: DEADLINE_MS },
  }).catch(orDiskFull(context, doing))
  const { status, pauseCause } = parseState(state)
  if (pauseCause === 'disk-full')
    throw fail('disk-full', `${doing}: Hyper-V paused it, since it cannot write its disk (${state})`, FREE_DISK_SPACE)
  if (status !== 'running') throw fail('unknown', `${doing}: it is ${state}`)
}

export const stopMachine = async (context: Context, id: string): Promise<void> => {
  const data = { ...aboutMachine(context, id), grace: SHUTDOWN_GRACE_S }
  const doing = `stopping ${id}`
  const { state } = await context.script('stop', data, stateAnswer, { doing, deadline: DEADLINE_MS })
  if (!isStopped(state)) throw fail('unknown', `${doing}: it is ${state}`)
}

export const saveMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `saving the memory of ${id}`
  await requireRoomForMemory(context, id, doing)
  const { state } = await context
    .script('save', aboutMachine(context, id), stateAnswer, { doing, deadline: DEADLINE_MS })
    .catch(orDiskFull(context, doing))
  if (!isStopped(state)) throw fail('unknown', `${doing}: it is ${state}`)
}

/** Done when Hyper-V has the machine no more, its disks are merged, and its files are gone. */
export const deleteMachine = async (context: Context, id: string): Promise<void> => {
  const data = { ...aboutMachine(context, id), patience: MERGE_PATIENCE_S }
  await context.script('delete', data, doneAnswer, { doing: `deleting ${id}`, deadline: DEADLINE_MS })
  await removeFolder(context.home, id)
}

// ── Look ──

/** `addresses`: also asks the neighbours of the host for one. */
export const look = async (context: Context, id: string, { addresses = false } = {}) => {
  const data = { ...aboutMachine(context, id), addresses, readsOnly: true }
  const answer = await context.script('look', data, lookAnswer, { doing: `looking at ${id}` })
  return { ...answer, mark: parseMark(answer.notes) }
}

export const statusOf = async (context: Context, id: string): Promise<VmStatus> => {
  const { mark, state } = await look(context, id)
  if (mark?.made === true) return parseState(state).status
  if (isInRecovery(context.home, id))
    throw fail('no-such-vm', `looking at ${id}: it is not made again from its disk yet`, 'Try that again.')
  return 'creating'
}

export const sshInfo = async (context: Context, id: string): Promise<SshInfo> => {
  const { mark, state, addresses, neighbours } = await look(context, id, { addresses: true })
  const fixed = mark === null ? null : hostOf(mark)
  const host = fixed ?? usableAddress(addresses) ?? usableAddress(neighbours)
  if (host === null || isStopped(state))
    throw fail('no-address-yet', `${id} ${isStopped(state) ? 'does not run' : 'has no address yet'}`)
  return { host, port: 22, user: GUEST_USER }
}

/** A machine that is not made again from its disk yet is as absent as before: that begins anew. */
export const isUnfinishedRecovery = ({ home }: Pick<Context, 'home'>, { vmId, mark }: Machine): boolean =>
  mark?.made !== true && isInRecovery(home, vmId)

const infoOf = ({ vmId, mark, row }: Machine): VmInfo => {
  if (mark === null || !mark.made) return { vmId, ticket: mark?.ticket ?? null, ip: null, status: 'creating' }
  const state = parseState(row.state)
  const ip = state.status === 'running' ? (hostOf(mark) ?? usableAddress(row.addresses)) : null
  return { vmId, ticket: mark.ticket, ip, ...state }
}

export const listMachines = async (context: Context): Promise<VmInfo[]> =>
  (await surveyMachines(context))
    .filter(machine => isOurs(context, machine) && !isUnfinishedRecovery(context, machine))
    .map(infoOf)

/** Machines with a mark of another home. */
export const listForeignMachines = async (context: Context): Promise<ForeignMachine[]> =>
  (await surveyMachines(context)).flatMap(machine => {
    const { vmId, mark } = machine
    return mark === null || isOurs(context, machine) ? [] : [{ vmId, ticket: mark.ticket, homeId: mark.home }]
  })

export const assignTicket = async (context: Context, id: string, ticket: Ticket): Promise<void> => {
  const data = { ...aboutMachine(context, id), ticket }
  await context.script('assign', data, doneAnswer, { doing: `assigning ${ticket} to ${id}` })
}
