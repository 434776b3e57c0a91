/** The life of machines: created, started, stopped, deleted, listed. */
import { setTimeout as delay } from 'node:timers/promises'
import { GUEST_USER, seedImage } from '../../base-image/seed.ts'
import { type Ticket, VM_ID } from '../../src/domain.ts'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { CreateOptions, Provider, SshInfo, VmInfo } from '../provider.ts'
import { type Context, completeMarks, isOurs, look, lookCommands, lookIfExists, machineIn } from './context.ts'
import { defineMachine, machineOf, volumesOf } from './definition.ts'
import { addFreeSpace, requireSpace } from './disk-space.ts'
import { findDomainType } from './domain-type.ts'
import { USE_BIOS, whyNoUefi } from './explain.ts'
import { ensurePool, freePort, isFreePort, poolCommands, withFile } from './host.ts'
import { imageVolumes, listImages } from './images.ts'
import {
  definitionCommands,
  type Isolator,
  isolatePaused,
  isolateStopped,
  isolatorCommands,
  openIsolator,
  prepareIsolator,
} from './isolation.ts'
import { overlayXml, withPort, withSessionNet } from './libvirt-xml.ts'
import { parseMarks, readMark, writeMark } from './marks.ts'
import { ensureNetwork, releaseAddress } from './network.ts'
import { isActive, parseAddresses, parseNames, parsePool, parseStates, parseVersions } from './parse.ts'
import { isSession } from './settings.ts'
import { type Answer, type Command, inBatches } from './virsh.ts'
import { keepIsolated } from './watch.ts'

const LOOPBACK = '127.0.0.1'
const START_DEADLINE_MS = 120_000
/** A guest that has not shut down within this time is powered off. */
const SHUTDOWN_GRACE_MS = 60_000
const POLL_MS = 250
/** What a first boot writes, and a little for the work after it. */
const NEW_MACHINE_BYTES = 512 * 1024 ** 2

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
    ...isolatorCommands(context),
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
    const isolator = await connect(context, answer)
    onPhase('disk')
    await createDisk(context, vmId, baseImage, diskGiB, pool.folder)
    onPhase('seed')
    const seed = seedImage({ hostname: vmId, publicKey, hostKey })
    await defineMachine(context, { vmId, ticket, domainType, cpus, memoryMiB, seed, folder: pool.folder, isolator })
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
    const kind = isFailure(error) ? error.failure.kind : 'unknown'
    // There is no such machine, so the volume is what an interrupted call left.
    if (kind === 'already-exists') await deleteMachine(context, vmId)
    else if (kind === 'no-such-image' || kind === 'not-configured') await requireImage(context, baseImage)
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

/** Makes sure of the network and of the filter that machines need next. `answer`: to `connectCommands`. */
const connect = async (context: Context, answer: Answer): Promise<Isolator | null> => {
  if (isActive(answer.stdout)) return prepareIsolator(context, answer)
  await ensureNetwork(context)
  return openIsolator(context)
}

/** Looks at the machine, and makes sure of what it needs before it runs next. */
export const lookAndConnect = async (context: Context, id: string, more: readonly Command[] = []) => {
  const commands: Command[] = [['net-info', context.settings.kvmNetwork], ...isolatorCommands(context)]
  const machine = await look(context, id, [...commands, ...more])
  return { ...machine, isolator: await connect(context, machine) }
}

export const startMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh } = context
  const machine = await lookAndConnect(context, id, definitionCommands(id))
  const { status, mark, isolator, stdout } = machine
  if (status === 'stopped' && mark.port !== null) await adaptSessionNet(context, id, mark.port)
  const isHeld = isolator !== null && status === 'stopped' && (await isolateStopped(context, isolator, machine, stdout))
  await virsh
    .run(['start', id, ...(isHeld ? ['--paused'] : [])], { deadline: START_DEADLINE_MS, doing: `starting ${id}` })
    .catch(allow('already-running'))
    .catch(withFreeSpace(context))
  if (isolator === null || !isHeld) return
  await isolatePaused(context, isolator, machine)
  await virsh.run(['resume', id])
}

/** Another program may have taken the port in the meantime, and the setting may be another. All else in the definition stays. */
const adaptSessionNet = async (context: Context, id: string, port: number): Promise<void> => {
  const { virsh, settings } = context
  const before = await virsh.run(['dumpxml', id, '--inactive', '--security-info'])
  const text = withSessionNet(
    (await isFreePort(port)) ? before : withPort(before, await freePort()),
    settings.kvmSessionNet === 'closed',
  )
  if (text !== before) await withFile(context, text, path => virsh.run(['define', path]))
}

export const stopMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh } = context
  if ((await look(context, id)).status === 'stopped') return
  await virsh.run(['shutdown', id]).catch(allow('not-running'))
  const end = performance.now() + SHUTDOWN_GRACE_MS
  while (performance.now() < end) {
    if ((await look(context, id)).status === 'stopped') return
    await delay(POLL_MS)
  }
  await virsh.run(['destroy', id]).catch(allow('not-running'))
}

/** Deletes the machine and its volumes, usually in one process. Done when libvirt lists nothing of it any more. */
export const deleteMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh, settings } = context
  const machine = await lookIfExists(context, id)
  const flags = ['--managed-save', '--snapshots-metadata', '--checkpoints-metadata', '--nvram']
  let volumes: string[] = Object.values(volumesOf(id))
  while (true) {
    const { stdout, stderr } = await virsh.ask([
      ...(machine?.status === 'running' ? [['destroy', id]] : []),
      ...(machine === undefined ? [] : [['undefine', id, ...flags]]),
      ...(isSession(settings) ? [] : releaseAddress(context, id)),
      ...volumes.map(volume => ['vol-delete', '--pool', settings.kvmPool, volume]),
      // Only a refresh shows what libvirt wrote by itself: older parts of the console's log.
      ['pool-refresh', settings.kvmPool],
      ['list', '--all', '--name'],
      ['vol-list', settings.kvmPool],
    ])
    const left = parseNames(stdout).filter(name => name === id || machineOf(name) === id)
    if (left.length === 0) return
    if (left.some(name => name === id || volumes.includes(name))) throw virsh.failed(`deleting ${id}`, stderr)
    volumes = left
  }
}

/** Somebody may have undefined the machine and kept its volumes. */
export const hasLeftDisk = async ({ virsh, settings }: Context, id: string): Promise<boolean> =>
  parseNames(await virsh.run(['vol-list', settings.kvmPool])).includes(volumesOf(id).disk)

// ── Look ──

export const sshInfo = async (context: Context, id: string): Promise<SshInfo> => {
  const sources = isSession(context.settings) ? [] : ['lease', 'agent', 'arp']
  const { mark, status, stdout } = await look(
    context,
    id,
    sources.map(source => ['domifaddr', id, '--source', source]),
  )
  if (mark.port !== null && status === 'running') return { host: LOOPBACK, port: mark.port, user: GUEST_USER }
  const host = parseAddresses(stdout).get(mark.mac)
  if (host === undefined) throw fail('no-address-yet', `${id} has no address yet`)
  return { host, port: 22, user: GUEST_USER }
}

export const listMachines = async (context: Context): Promise<VmInfo[]> => {
  const { virsh } = context
  const states = parseStates(await virsh.run(['domstats', '--state', '--nowait']))
  const ids = [...states.keys()].filter(name => VM_ID.test(name))
  const [leases, ...answers] = await Promise.all([
    virsh.ask(isolatorCommands(context)),
    ...inBatches(ids).map(batch => virsh.ask(batch.map(readMark))),
  ])
  const machines = answers
    .flatMap(({ stdout }) => parseMarks(stdout))
    .flatMap(mark => {
      const state = states.get(mark.vmId)
      return state === undefined || !isOurs(context, mark) ? [] : [{ mark, ...state }]
    })
  for (const batch of inBatches(machines)) await completeMarks(context, batch)
  const addresses = parseAddresses(leases.stdout)
  await keepIsolated(context, leases, machines, addresses)
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

export const available = async ({ virsh, settings }: Context): ReturnType<Provider['available']> => {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64')
    return { available: false, reason: `it needs Linux on x86-64, and this is ${platform} on ${arch}.`, remedy: null }
  try {
    const versions = await virsh.run(['version', '--daemon'], { deadline: 10_000, doing: 'connecting to libvirt' })
    const reason = settings.kvmFirmware === 'uefi' ? whyNoUefi(parseVersions(versions).libvirt) : null
    return reason === null ? { available: true } : { available: false, reason: `${reason}.`, remedy: USE_BIOS }
  } catch (error) {
    if (!isFailure(error)) throw error
    const { message, remedy } = error.failure
    return { available: false, reason: `${message}.`, remedy }
  }
}
