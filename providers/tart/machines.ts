/** The life of machines: created, deleted, listed, given a ticket. How they run is in running.ts. */
import { existsSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { GUEST_USER } from '../../base-image/seed.ts'
import type { Ticket } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { noSuchImage } from '../no-such-image.ts'
import type { CreateOptions, ForeignMachine, SshInfo, VmInfo } from '../provider.ts'
import { beginning } from './cloud-image.ts'
import {
  type Context,
  cloneVm,
  deleteVms,
  folderOf,
  type Look,
  listAll,
  look,
  ofKind,
  renameVm,
  requireMachine,
  requireSettled,
  runTart,
  type Vm,
  type VmOf,
  vmFile,
} from './context.ts'
import { type MachineMark, vmName } from './marks.ts'
import { isIpv4, parseConfig, parseLeaseFile } from './parse.ts'
import { powerOff } from './running.ts'
import { writeSeed } from './seed.ts'

const SSH_PORT = 22
/** Of `tart ip`, which takes a second when there is no address. */
const ADDRESS_DEADLINE_MS = 15_000
const DELETE_PASSES = 3

// ── Create ──

/** Tart counts a disk in decimal gigabytes, and only whole ones. */
export const decimalGb = (gibibytes: number): number => Math.ceil((gibibytes * 1024 ** 3) / 1000 ** 3)

/** A new machine gets its own MAC: macOS' DHCP server gives an address twice when a MAC comes back whose lease has ended. */
export const setArguments = (
  name: string,
  { cpus, memoryMiB, diskGiB }: Omit<CreateOptions, 'vmId' | 'publicKey' | 'hostKey'>,
) => [
  ...['set', name, '--cpu', String(cpus), '--memory', String(memoryMiB)],
  ...['--disk-size', String(decimalGb(diskGiB)), '--random-mac'],
]

const requireImage = ({ homeId }: Context, baseImage: string, vms: readonly Vm[]): string => {
  const image = vmName({ kind: 'image', name: baseImage, home: homeId })
  if (vms.some(({ name }) => name === image)) return image
  throw noSuchImage(baseImage, beginning)
}

type Source = { context: Context; image: string; doing: string }

/**
 * Clones the image under a name that no machine has, and renames the clone when it is whole: Tart writes a new size before it grows
 * the disk, so that a failure leaves half of it.
 */
const cloneImage = async ({ context, image, doing }: Source, mark: MachineMark, options: CreateOptions) => {
  const { vmId, home } = mark
  const unfinished = vmName({ kind: 'new', vmId, home })
  await cloneVm(context, image, unfinished, doing)
  await runTart(context, setArguments(unfinished, options), { doing })
  await renameVm(context, unfinished, vmName(mark))
}

/** `baseImage`: its name, or the VM that the machine is a clone of. */
export const createMachine = async (
  context: Context,
  ticket: Ticket | null,
  baseImage: string | { vm: string },
  options: CreateOptions,
  onPhase: (phase: string) => void,
): Promise<VmInfo> => {
  const { vmId, ...keys } = options
  const doing = `creating ${vmId}`
  const { machine, checkpoints, all, others } = await look(context, vmId, doing)
  if (machine !== null) return { vmId, ticket: machine.mark.ticket, ip: null, status: statusOf(machine) }
  const image = typeof baseImage === 'string' ? requireImage(context, baseImage, others) : baseImage.vm
  const mark: MachineMark = { kind: 'machine', vmId, ticket, home: context.homeId }
  // A ticket that is not one fails before anything is made.
  vmName(mark)
  if (checkpoints.length > 0)
    throw fail(
      'already-exists',
      `${doing}: its machine is gone, and ${checkpoints.length} of its checkpoints, which hold work, are there`,
      'Make it again from the newest one: agent-swarm create TICKET. Or delete it with them: agent-swarm delete TICKET',
    )
  try {
    await deleteVms(
      context,
      all.map(({ name }) => name),
      doing,
    )
    onPhase('seed')
    await writeSeed(context, vmId, { publicKey: keys.publicKey, hostKey: keys.hostKey })
    onPhase('disk')
    await cloneImage({ context, image, doing }, mark, options)
  } catch (error) {
    await deleteMachine(context, vmId)
    throw error
  }
  return { vmId, ticket, ip: null, status: 'stopped' }
}

// ── Delete ──

/** What of the machine is there, which all may be deleted: its checkpoints first, so that what is left has an owner. */
const partsOf = ({ all }: Look): Vm[] => [
  ...all.filter(({ mark }) => mark?.kind !== 'machine'),
  ...ofKind(all, 'machine'),
]

export const deleteMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `deleting ${id}`
  for (let pass = 1; ; pass += 1) {
    const parts = partsOf(await look(context, id, doing))
    if (parts.length === 0) break
    try {
      for (const part of parts) if (part.state === 'running') await powerOff(context, part, doing)
      // It ends at the first one that it cannot delete.
      await deleteVms(
        context,
        parts.map(({ name }) => name),
        doing,
      )
    } catch (error) {
      // Somebody else may have deleted a part of it.
      if (pass >= DELETE_PASSES) throw error
    }
  }
  await rm(folderOf(context, id), { recursive: true, force: true })
}

// ── Ticket ──

/** Tart renames a VM that runs, too: its lock goes along. */
export const assignTicket = async (context: Context, id: string, ticket: Ticket): Promise<void> => {
  const { machine } = await requireSettled(context, id, `assigning ${ticket} to ${id}`)
  const name = vmName({ ...machine.mark, ticket })
  if (name !== machine.name) await renameVm(context, machine.name, name)
}

// ── Look ──

const statusOf = ({ state }: Pick<Vm, 'state'>): 'running' | 'stopped' => (state === 'running' ? 'running' : 'stopped')

export const statusOfMachine = async (context: Context, id: string): Promise<'running' | 'stopped'> =>
  statusOf((await requireMachine(context, id)).machine)

/** Tart may answer for a machine that is stopped, from a lease that has not ended. */
export const sshInfo = async (context: Context, id: string): Promise<SshInfo> => {
  const doing = `looking for the address of ${id}`
  const { machine } = await requireMachine(context, id, doing)
  if (machine.state !== 'running') throw fail('no-address-yet', `${id} is stopped, and has no address`)
  const answer = await runTart(context, ['ip', machine.name], { doing, deadline: ADDRESS_DEADLINE_MS })
  const host = answer.trim()
  if (!isIpv4(host)) throw fail('no-address-yet', `${doing}: tart printed no address`)
  return { host, port: SSH_PORT, user: GUEST_USER }
}

/** Undefined where the file is missing, which is Tart's or macOS' own. */
export const readIfThere = (path: string): string | undefined => {
  try {
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined
  } catch {
    return undefined
  }
}

/** The addresses of running VMs, without a command for each. */
const addressesOf = (context: Context, vms: readonly Vm[]): Map<string, string> => {
  const leases = parseLeaseFile(readIfThere(context.host.leases) ?? '', Date.now() / 1000)
  return new Map(
    vms.flatMap(({ name, state }) => {
      const text = state === 'running' ? readIfThere(vmFile(context, name, 'config.json')) : undefined
      const ip = text === undefined ? undefined : leases.get(parseConfig(text)?.mac ?? '')
      return ip === undefined ? [] : [[name, ip] as const]
    }),
  )
}

/** One for each vmId: a restore that was interrupted leaves its machine under another name, and perhaps the former one. */
export const machinesOf = (vms: readonly Vm[]): VmOf<MachineMark>[] => {
  const machines = new Map<string, VmOf<MachineMark>>()
  for (const kind of ['restored', 'machine'] as const)
    for (const vm of ofKind(vms, kind)) machines.set(`${vm.mark.vmId}.${vm.mark.home}`, vm)
  return [...machines.values()]
}

const isOurs = ({ homeId }: Context, { mark }: VmOf<MachineMark>): boolean => mark.home === homeId

export const listMachines = async (context: Context): Promise<VmInfo[]> => {
  const machines = machinesOf(await listAll(context)).filter(vm => isOurs(context, vm))
  const addresses = addressesOf(context, machines)
  return machines.map(vm => {
    const { vmId, ticket } = vm.mark
    return { vmId, ticket, ip: addresses.get(vm.name) ?? null, status: statusOf(vm) }
  })
}

export const listForeignMachines = async (context: Context): Promise<ForeignMachine[]> =>
  machinesOf(await listAll(context))
    .filter(vm => !isOurs(context, vm))
    .map(({ mark: { vmId, ticket, home } }) => ({ vmId, ticket, homeId: home }))
