/** The life of machines: created, started, stopped, deleted, listed. */
import { setTimeout as delay } from 'node:timers/promises'
import { GUEST_USER, seedImage } from '../../base-image/seed.ts'
import { type Ticket, VM_ID } from '../../src/domain.ts'
import { allow, fail, unless } from '../../src/errors.ts'
import type { CreateOptions, SshInfo, VmInfo } from '../provider.ts'
import {
  type Context,
  completeMarks,
  isOurs,
  look,
  lookCommands,
  lookIfExists,
  type Machine,
  machineIn,
} from './context.ts'
import { defineMachine, machineOf, volumesOf } from './definition.ts'
import { addFreeSpace, requireSpace } from './disk-space.ts'
import { findDomainType } from './domain-type.ts'
import { FREE_DISK_SPACE, USE_BIOS, whyNoUefi } from './explain.ts'
import {
  ensureNetwork,
  ensurePool,
  freePort,
  freshMac,
  isFreePort,
  listVolumes,
  poolCommands,
  withFile,
} from './host.ts'
import { imageVolumes, listImages } from './images.ts'
import { overlayXml, withPort } from './libvirt-xml.ts'
import { parseMarks, readMark, writeMark } from './marks.ts'
import {
  DISK_FULL,
  isActive,
  parseAddresses,
  parseLeases,
  parseNames,
  parsePool,
  parseStates,
  parseVersions,
  SHUTTING_DOWN,
  SUSPENDED,
} from './parse.ts'
import { isSession } from './settings.ts'
import { type Command, inBatches } from './virsh.ts'

const LOOPBACK = '127.0.0.1'
const START_DEADLINE_MS = 120_000
/** A guest that has not shut down within this time is powered off. */
const SHUTDOWN_GRACE_MS = 60_000
const POLL_MS = 250
/** What a first boot writes, and a little for the work after it. */
const NEW_MACHINE_BYTES = 512 * 1024 ** 2
/** Less would soon be full again. */
const RESUME_BYTES = 64 * 1024 ** 2

/** For `.catch()`. */
export const withFreeSpace = (context: Context) => addFreeSpace(() => ensurePool(context))

// ── Create ──

export const createMachine = async (
  context: Context,
  ticket: Ticket | null,
  baseImage: string,
  options: CreateOptions,
  onPhase: (phase: string) => void,
): Promise<VmInfo> => {
  const { vmId, cpus, memoryMiB, diskGiB, publicKey, hostKey } = options
  const { virsh, settings } = context
  const hostCommands: Command[] = [
    ['net-info', settings.kvmNetwork],
    ['version', '--daemon'],
    ...poolCommands(settings),
  ]
  const answer = await virsh.ask([...lookCommands(vmId), ...hostCommands])
  const existing = await machineIn(context, vmId, answer).catch(allow('no-such-vm'))
  if (existing !== undefined) return { vmId, ticket: existing.mark.ticket, ip: null, status: existing.status }

  const versions = parseVersions(answer.stdout)
  const noUefi = settings.kvmFirmware === 'uefi' ? whyNoUefi(versions.libvirt) : null
  if (noUefi !== null) throw fail('unsupported', `creating ${vmId}: ${noUefi}`, USE_BIOS)
  const pool = parsePool(answer.stdout) ?? (await ensurePool(context))
  requireSpace(`creating ${vmId}`, NEW_MACHINE_BYTES, pool)
  try {
    const domainType = await findDomainType(context, versions.all)
    if (!isActive(answer.stdout)) await ensureNetwork(context)
    onPhase('disk')
    await createDisk(context, vmId, baseImage, diskGiB, pool.folder)
    onPhase('seed')
    const mac = freshMac()
    const seed = seedImage({ hostname: vmId, mac, publicKey, hostKey })
    await defineMachine(context, { vmId, ticket, mac, domainType, cpus, memoryMiB, seed, folder: pool.folder })
  } catch (error) {
    await deleteMachine(context, vmId)
    return withFreeSpace(context)(error)
  }
  return { vmId, ticket, ip: null, status: 'stopped' }
}

const createDisk = async (
  context: Context,
  vmId: string,
  baseImage: string,
  gibibytes: number,
  folder: string,
): Promise<void> => {
  const { virsh, settings } = context
  const { image } = imageVolumes(baseImage)
  const text = overlayXml(volumesOf(vmId).disk, gibibytes, `${folder}/${image}`)
  const create = () =>
    withFile(context, text, file =>
      virsh.all([
        ['vol-info', '--pool', settings.kvmPool, image],
        ['vol-create', settings.kvmPool, file],
      ]),
    )
  try {
    await create()
  } catch (error) {
    const volumes = await listVolumes(context)
    // There is no such machine, so the volume is what an interrupted call left.
    if (volumes.includes(volumesOf(vmId).disk)) await deleteMachine(context, vmId)
    else if (!volumes.includes(image)) await requireImage(context, baseImage)
    else throw error
    await create()
  }
}

/** Also makes libvirt read the pool again, which may not know an image yet. */
const requireImage = async (context: Context, baseImage: string): Promise<void> => {
  await ensurePool(context)
  if (!(await listImages(context)).includes(baseImage))
    throw fail(
      'no-such-image',
      `the base image ${baseImage} does not exist`,
      `Make it: agent-swarm init-base ${baseImage} --from debian-packages (or --from FILE, a cloud image).`,
    )
}

// ── Start, stop, delete ──

/** Looks at the machine, and makes sure of the network that it needs next. */
export const lookAndConnect = async (context: Context, id: string): Promise<Machine> => {
  const { stdout, ...machine } = await look(context, id, [['net-info', context.settings.kvmNetwork]])
  if (!isActive(stdout)) await ensureNetwork(context)
  return machine
}

export const startMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh } = context
  const { status, paused, mark } = await lookAndConnect(context, id)
  if (paused !== undefined) return resumeMachine(context, id, paused)
  if (status === 'stopped' && mark.port !== null && !(await isFreePort(mark.port))) {
    // Another program took the port in the meantime. Everything else in the definition stays.
    const text = withPort(await virsh.run(['dumpxml', id, '--inactive', '--security-info']), await freePort())
    await withFile(context, text, path => virsh.run(['define', path]))
  }
  await virsh
    .run(['start', id], { deadline: START_DEADLINE_MS, doing: `starting ${id}` })
    .catch(unless(async () => (await look(context, id)).status === 'running'))
    .catch(withFreeSpace(context))
}

const wakeCommand = (id: string, paused: string): Command => [paused === SUSPENDED ? 'dompmwakeup' : 'resume', id]

/** A full disk is reported instead: the guest would pause again at once. */
const resumeMachine = async (context: Context, id: string, paused: string): Promise<void> => {
  const doing = `resuming ${id}, which is paused (${paused})`
  if (paused === DISK_FULL) requireSpace(doing, RESUME_BYTES, await ensurePool(context))
  await context.virsh
    .run(wakeCommand(id, paused), { deadline: START_DEADLINE_MS, doing })
    .catch(unless(async () => (await look(context, id)).paused === undefined))
  if ((await look(context, id)).paused === DISK_FULL)
    return withFreeSpace(context)(fail('disk-full', `${doing}: its disk is still full`, FREE_DISK_SPACE))
}

export const stopMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh } = context
  const { status, paused } = await look(context, id)
  if (status === 'stopped') return
  // Only a guest that runs can shut down. Whether it runs now is looked at below.
  if (paused !== undefined) await virsh.ask([wakeCommand(id, paused)])
  const cannotShutDown = async () => {
    const now = await look(context, id)
    return now.status === 'stopped' || (now.paused !== undefined && now.paused !== SHUTTING_DOWN)
  }
  await virsh.run(['shutdown', id]).catch(unless(cannotShutDown))
  const end = performance.now() + SHUTDOWN_GRACE_MS
  while (performance.now() < end && !(await cannotShutDown())) await delay(POLL_MS)
  const isStopped = async () => (await look(context, id)).status === 'stopped'
  if (!(await isStopped())) await virsh.run(['destroy', id]).catch(unless(isStopped))
}

/** Deletes the machine and its volumes. Done when libvirt lists nothing of it any more. */
export const deleteMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh, settings } = context
  const machine = await lookIfExists(context, id)
  const flags = ['--managed-save', '--snapshots-metadata', '--checkpoints-metadata', '--nvram']
  let volumes: string[] = Object.values(volumesOf(id))
  while (true) {
    const { stderr } = await virsh.ask([
      ...(machine?.status === 'running' ? [['destroy', id]] : []),
      ...(machine === undefined ? [] : [['undefine', id, ...flags]]),
      ...volumes.map(volume => ['vol-delete', '--pool', settings.kvmPool, volume]),
      // Only a refresh shows what libvirt wrote by itself: older parts of the console's log.
      ['pool-refresh', settings.kvmPool],
    ])
    const left = (await listEverything(context)).filter(name => name === id || machineOf(name) === id)
    if (left.length === 0) return
    if (left.some(name => name === id || volumes.includes(name))) throw virsh.failed(`deleting ${id}`, stderr)
    volumes = left
  }
}

/** The names of all domains and volumes. A list that cannot be read is not an empty list. */
const listEverything = async (context: Context): Promise<string[]> => {
  const { stdout, stderr } = await context.virsh.ask([
    ['list', '--all', '--name'],
    ['vol-list', context.settings.kvmPool],
  ])
  return stderr === '' ? parseNames(stdout) : [...parseNames(stdout), ...(await listVolumes(context))]
}

/** Somebody may have undefined the machine and kept its volumes. */
export const hasLeftDisk = async (context: Context, id: string): Promise<boolean> =>
  (await listVolumes(context)).includes(volumesOf(id).disk)

// ── Look ──

export const sshInfo = async (context: Context, id: string): Promise<SshInfo> => {
  const { virsh, settings } = context
  const addresses: Command[] = isSession(settings)
    ? []
    : [
        ['net-dhcp-leases', settings.kvmNetwork],
        ['domifaddr', id, '--source', 'lease'],
      ]
  const { mark, status, stdout } = await look(context, id, addresses)
  if (mark.port !== null && status === 'running') return { host: LOOPBACK, port: mark.port, user: GUEST_USER }
  const leased = parseLeases(stdout).get(mark.mac) ?? parseAddresses(stdout).get(mark.mac)
  const host = leased ?? (addresses.length === 0 ? undefined : await reportedAddress(virsh, id, mark.mac))
  if (host === undefined) throw fail('no-address-yet', `${id} has no address yet`)
  return { host, port: 22, user: GUEST_USER }
}

/** The address of a machine without a lease: what the guest says of itself, or what the host's neighbour table has. */
const reportedAddress = async ({ ask }: Context['virsh'], id: string, mac: string): Promise<string | undefined> => {
  const { stdout } = await ask(['agent', 'arp'].map(source => ['domifaddr', id, '--source', source]))
  return parseAddresses(stdout).get(mac)
}

export const listMachines = async (context: Context): Promise<VmInfo[]> => {
  const { virsh, settings } = context
  const states = parseStates(await virsh.run(['domstats', '--state', '--nowait']))
  const ids = [...states.keys()].filter(name => VM_ID.test(name))
  const [leases, ...answers] = await Promise.all([
    isSession(settings) ? { stdout: '' } : virsh.ask([['net-dhcp-leases', settings.kvmNetwork]]),
    ...inBatches(ids).map(batch => virsh.ask(batch.map(readMark))),
  ])
  const machines = answers
    .flatMap(({ stdout }) => parseMarks(stdout))
    .flatMap(mark => {
      const state = states.get(mark.vmId)
      return state === undefined || !isOurs(context, mark) ? [] : [{ mark, ...state }]
    })
  for (const batch of inBatches(machines)) await completeMarks(context, batch)
  const addresses = parseLeases(leases.stdout)
  return machines.map(({ mark: { vmId, ticket, mac, port }, ...state }) => {
    const ip = port === null ? (addresses.get(mac) ?? null) : LOOPBACK
    return { vmId, ticket, ip: state.status === 'running' ? ip : null, ...state }
  })
}

export const assignTicket = async (context: Context, id: string, ticket: Ticket): Promise<void> => {
  const { mark, status } = await look(context, id)
  if (mark.ticket !== ticket)
    await context.virsh.all([writeMark({ ...mark, ticket, home: context.homeId }, status)], {
      doing: `assigning ${ticket} to ${id}`,
    })
}
