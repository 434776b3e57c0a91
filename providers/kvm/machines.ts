/** The life of machines: created, started, stopped, deleted, listed. */
import { setTimeout as delay } from 'node:timers/promises'
import { GUEST_USER, seedImage } from '../../base-image/seed.ts'
import { type Ticket, VM_ID } from '../../src/domain.ts'
import { allow, fail, unless } from '../../src/errors.ts'
import { noSuchImage } from '../no-such-image.ts'
import type { CreateOptions, ForeignMachine, SshInfo, StartOptions, VmInfo } from '../provider.ts'
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
import { diskCommands, requireDiskFile, settleDisk } from './disk-file.ts'
import { requireSpace, withFreeSpace } from './disk-space.ts'
import { findDomainType } from './domain-type.ts'
import { FREE_DISK_SPACE, USE_BIOS, whyNoUefi } from './explain.ts'
import { forgetHeld, noteHeld, unlessStillPaused, withHeld } from './held.ts'
import { ensurePool, freePort, freshMac, isFreePort, listVolumes, poolCommands, withFile } from './host.ts'
import { imageVolumes, listImages } from './images.ts'
import { removeUnfinished } from './in-disk.ts'
import {
  definitionCommands,
  type Isolator,
  isolateMachine,
  isolatePaused,
  isolateStopped,
  isolateUnlessIsolated,
  isolatorCommands,
  openIsolator,
  prepareIsolator,
} from './isolation.ts'
import { jobIn, lookWhenIdle } from './jobs.ts'
import { keptVolume } from './layers.ts'
import { overlayXml, withPort, withSessionNet } from './libvirt-xml.ts'
import {
  endInterrupted,
  endNoted,
  forgetLive,
  notedCheckpoint,
  removeCheckpointLock,
  settleLive,
  withCheckpointLock,
} from './live.ts'
import { parseMarks, readMark, writeMark } from './marks.ts'
import { removePipe } from './memory-image.ts'
import { ensureNetwork, releaseAddress } from './network.ts'
import {
  DISK_FULL,
  isActive,
  isSavedIn,
  parseAddresses,
  parseLeases,
  parseNames,
  parsePool,
  parseSaved,
  parseStates,
  parseVersions,
  SHUTTING_DOWN,
  type State,
  SUSPENDED,
} from './parse.ts'
import { neededByForks, noteKept, removeOrphans, tidyLayers } from './pool-layers.ts'
import { LIST_SAVED, settleWoken, unreadableMemory } from './saved.ts'
import { isSession } from './settings.ts'
import { beginning } from './ubuntu.ts'
import { type Answer, type Command, inBatches } from './virsh.ts'
import { deleteVolume, volumeInfo } from './volumes.ts'
import { keepIsolated } from './watch.ts'

const LOOPBACK = '127.0.0.1'
const START_DEADLINE_MS = 120_000
/** A guest that has not shut down within this time is powered off. */
const SHUTDOWN_GRACE_MS = 60_000
const POLL_MS = 250
/** What a first boot writes, and a little for the work after it. */
const NEW_MACHINE_BYTES = 512 * 1024 ** 2
/** Less would soon be full again. */
const RESUME_BYTES = 64 * 1024 ** 2

// ── Create ──

/**
 * `image`: `unproven` is for the machine that proves it alone. A build deletes an image that does not prove itself, and would
 * delete it under any other machine.
 */
export const createMachine = async (
  context: Context,
  ticket: Ticket | null,
  baseImage: string,
  options: CreateOptions,
  onPhase: (phase: string) => void,
  image: 'proven' | 'unproven' = 'proven',
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
    await createDisk(context, vmId, { baseImage, image }, diskGiB, pool.folder)
    onPhase('seed')
    const mac = freshMac()
    const seed = seedImage({ hostname: vmId, network: { by: 'mac', mac }, publicKey, hostKey })
    const checkpoints = 'external' as const
    const made = { vmId, ticket, mac, domainType, cpus, memoryMiB, seed, folder: pool.folder, isolator, checkpoints }
    await defineMachine(context, made)
  } catch (error) {
    await deleteMachine(context, vmId)
    return withFreeSpace(context)(error)
  }
  return { vmId, ticket, ip: null, status: 'stopped' }
}

const createDisk = async (
  context: Context,
  vmId: string,
  of: { baseImage: string; image: 'proven' | 'unproven' },
  gibibytes: number,
  folder: string,
): Promise<void> => {
  const { virsh, settings } = context
  const { baseImage } = of
  const { image, manifest } = imageVolumes(baseImage)
  const needed = of.image === 'proven' ? [image, manifest] : [image]
  const text = overlayXml(volumesOf(vmId).disk, gibibytes * 1024 ** 3, `${folder}/${image}`)
  const create = () =>
    withFile(context, text, file =>
      virsh.all([...needed.map(volume => volumeInfo(context, volume)), ['vol-create', settings.kvmPool, file]]),
    )
  const info = await create().catch(async error => {
    const volumes = await listVolumes(context)
    const isLeft = volumes.includes(volumesOf(vmId).disk)
    // The machine does not exist: an interrupted call left the volume, or this call made it of an image that is missing.
    if (isLeft) await deleteMachine(context, vmId)
    if (!needed.every(volume => volumes.includes(volume))) await requireImage(context, baseImage)
    else if (!isLeft) throw error
    return create()
  })
  requireDisk(`creating ${vmId}`, baseImage, info, gibibytes)
}

/** A guest whose disk ends before its file system does not boot. `info`: of the image, as `vol-info --bytes` prints it. */
const requireDisk = (doing: string, baseImage: string, info: string, gibibytes: number): void => {
  const needed = Math.ceil(Number(info.match(/^Capacity:\s+(\d+)/m)?.[1] ?? 0) / 1024 ** 3)
  if (needed > gibibytes)
    throw fail(
      'usage',
      `${doing}: its disk of ${gibibytes} GiB is smaller than that of the base image ${baseImage}, ${needed} GiB`,
      `Give machines a larger disk: AGENT_SWARM_DISK_GIB=${needed}`,
    )
}

/** Also makes libvirt read the pool again, which may not know an image yet. */
const requireImage = async (context: Context, baseImage: string): Promise<void> => {
  await ensurePool(context)
  if (!(await listImages(context)).includes(baseImage)) throw noSuchImage(baseImage, beginning)
}

// ── Start, stop, delete ──

/** Makes sure of the network and of the filter that machines need next. `answer`: to `connectCommands`. */
const connect = async (context: Context, answer: Answer): Promise<Isolator | null> => {
  if (isActive(answer.stdout)) return prepareIsolator(context, answer)
  await ensureNetwork(context)
  return openIsolator(context)
}

/** Looks at the machine, and makes sure of what it needs before it runs next. */
export const lookAndConnect = async (context: Context, id: string, doing: string, more: readonly Command[] = []) => {
  const commands: Command[] = [['net-info', context.settings.kvmNetwork], ...isolatorCommands(context)]
  const machine = await lookWhenIdle(context, id, doing, [...commands, ...more])
  return { ...machine, isolator: await connect(context, machine) }
}

export const startMachine = async (
  context: Context,
  id: string,
  { cold = false }: StartOptions = {},
): Promise<void> => {
  const { virsh } = context
  const machine = await lookAndConnect(context, id, `starting ${id}`, definitionCommands(id))
  const { status, paused, mark, isolator, stdout } = machine
  if (paused !== undefined) return resumeMachine(context, { ...machine, paused }, isolator)
  const isSaved = status === 'stopped' && !cold && isSavedIn(stdout)
  if (status === 'stopped') await forgetLive(context, id)
  if (status === 'stopped' && mark.port !== null) await adaptSessionNet(context, id, mark.port, isSaved)
  const isHeld =
    isolator !== null && status === 'stopped' && (await isolateStopped(context, isolator, machine, stdout)) && !cold
  if (isHeld) noteHeld(context, id)
  const options = [...(isHeld ? ['--paused'] : []), ...(cold ? ['--force-boot'] : [])]
  await virsh
    .run(['start', id, ...options], { deadline: START_DEADLINE_MS, doing: `starting ${id}` })
    .catch(unless(async () => (await look(context, id)).status === 'running'))
    .catch(unlessStillPaused(context, id, () => look(context, id)))
    .catch(withFreeSpace(context))
    .catch(error => {
      throw isSaved ? unreadableMemory(id, error) : error
    })
  if (isolator !== null && isHeld) {
    await isolatePaused(context, isolator, machine)
    await virsh.run(['resume', id])
    forgetHeld(context, id)
  }
  if (isSaved) await settleWoken(context, machine)
}

/**
 * Another program may have taken the port in the meantime, and the setting may be another. All else in the definition stays. A
 * saved memory has a definition of its own, with the port that the mark names.
 */
const adaptSessionNet = async (context: Context, id: string, port: number, isSaved: boolean): Promise<void> => {
  const { virsh, settings } = context
  const before = await virsh.run(
    isSaved ? ['managedsave-dumpxml', id, '--security-info'] : ['dumpxml', id, '--inactive', '--security-info'],
  )
  const text = withSessionNet(
    (await isFreePort(port)) ? before : withPort(before, await freePort()),
    settings.kvmSessionNet === 'closed',
  )
  if (text !== before)
    await withFile(context, text, path => virsh.run(isSaved ? ['managedsave-define', id, path] : ['define', path]))
}

type Paused = Machine & { paused: string }

const wakeCommand = (id: string, paused: string): Command => [paused === SUSPENDED ? 'dompmwakeup' : 'resume', id]

/** A full disk is reported instead: the guest would pause again at once. */
const resumeMachine = async (context: Context, machine: Paused, isolator: Isolator | null): Promise<void> => {
  const { paused, pauseCause } = machine
  const id = machine.mark.vmId
  const doing = `resuming ${id}, which is paused (${paused})`
  if (paused === DISK_FULL) requireSpace(doing, RESUME_BYTES, await ensurePool(context))
  // An interrupted restore leaves a machine that is not isolated yet.
  if (isolator !== null) await isolateUnlessIsolated(context, isolator, machine)
  if (notedCheckpoint(context, id) !== null) await withCheckpointLock(context, id, doing, () => endNoted(context, id))
  await context.virsh
    .run(wakeCommand(id, paused), { deadline: START_DEADLINE_MS, doing })
    .catch(unless(async () => (await look(context, id)).paused === undefined))
  forgetHeld(context, id)
  // The machine runs, which matters more than the room that it takes up.
  if (pauseCause === 'interrupted') await removeRest(context, machine).catch(() => {})
  if ((await look(context, id)).paused === DISK_FULL)
    return withFreeSpace(context)(fail('disk-full', `${doing}: its disk is still full`, FREE_DISK_SPACE))
}

/** What an interrupted checkpoint or restore left in the pool. */
const removeRest = (context: Context, { mark: { vmId, checkpoints } }: Machine): Promise<void> =>
  checkpoints === 'external' ? tidyLayers(context, vmId) : removeUnfinished(context, vmId)

/** An interrupted restore leaves a machine that is not isolated yet, and a shutdown lets it run for seconds. */
const wakeIsolated = async (context: Context, machine: Paused): Promise<void> => {
  const isolator = await openIsolator(context)
  if (isolator !== null) await isolateMachine(context, isolator, machine)
  await context.virsh.run(wakeCommand(machine.mark.vmId, machine.paused))
}

export const stopMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh } = context
  const doing = `stopping ${id}`
  const machine = await lookWhenIdle(context, id, doing, diskCommands(context, id))
  const { status, paused } = machine
  if (status === 'stopped') return
  await requireDiskFile(context, machine, doing)
  if (machine.mark.checkpoints === 'external') await settleDisk(context, id)
  // Only a guest that runs can shut down. Whether it runs now is looked at below: one that cannot is powered off.
  if (paused !== undefined) await wakeIsolated(context, { ...machine, paused }).catch(() => {})
  const cannotShutDown = async () => {
    const now = await look(context, id)
    return now.status === 'stopped' || (now.paused !== undefined && now.paused !== SHUTTING_DOWN)
  }
  await virsh.run(['shutdown', id]).catch(unless(cannotShutDown))
  const end = performance.now() + SHUTDOWN_GRACE_MS
  while (performance.now() < end && !(await cannotShutDown())) await delay(POLL_MS)
  const isStopped = async () => (await look(context, id)).status === 'stopped'
  if (!(await isStopped())) await virsh.run(['destroy', id]).catch(unless(isStopped))
  forgetHeld(context, id)
  await forgetLive(context, id)
}

/**
 * Deletes the machine and its volumes, except layers of its disk that forks stand on: they go with the last fork. Done when libvirt
 * lists nothing else of it any more.
 */
export const deleteMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh, settings } = context
  const machine = await lookIfExists(context, id)
  // A fork that was killed while it began: libvirt may wait for somebody who writes into it.
  removePipe(context, id)
  const kept = await neededByForks(context, id)
  const flags = ['--managed-save', '--snapshots-metadata', '--checkpoints-metadata', '--nvram']
  let volumes = Object.values(volumesOf(id)).filter(volume => !kept.has(volume))
  let everything: string[] = []
  for (let pass = 1; ; pass += 1) {
    const { stderr } = await virsh.ask([
      ...(machine?.status === 'running' ? [['destroy', id]] : []),
      ...(machine === undefined ? [] : [['undefine', id, ...flags]]),
      ...(isSession(settings) ? [] : releaseAddress(context, id)),
      ...volumes.map(volume => deleteVolume(context, volume)),
      // Only a refresh shows what libvirt wrote by itself: older parts of the console's log, layers and memories.
      ['pool-refresh', settings.kvmPool],
    ])
    everything = await listEverything(context)
    const left = everything.filter(name => name === id || (machineOf(name) === id && !kept.has(name)))
    if (left.length === 0) break
    // At the first pass, libvirt may not have known a file that somebody had moved away and back.
    if (left.some(name => name === id || (pass > 1 && volumes.includes(name))))
      throw virsh.failed(`deleting ${id}`, stderr)
    volumes = left
  }
  if (kept.size > 0 && !everything.includes(keptVolume(id))) await noteKept(context, id)
  forgetHeld(context, id)
  await forgetLive(context, id)
  removeCheckpointLock(context, id)
  // The last fork may have been deleted while this was.
  await removeOrphans(context, [...everything, ...kept])
}

/** The names of all domains and volumes. A list that cannot be read is not an empty list. */
const listEverything = async (context: Context): Promise<string[]> => {
  const { stdout, stderr } = await context.virsh.ask([
    ['list', '--all', '--name'],
    ['vol-list', context.settings.kvmPool],
  ])
  return stderr === '' ? parseNames(stdout) : [...parseNames(stdout), ...(await listVolumes(context))]
}

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
  // The network keeps this one for the machine, which may send from no other: known before the guest has asked for it.
  const kept = status === 'running' ? mark.ip : null
  const host = leased ?? kept ?? (addresses.length === 0 ? undefined : await reportedAddress(virsh, id, mark.mac))
  if (host === undefined) throw fail('no-address-yet', `${id} has no address yet`)
  return { host, port: 22, user: GUEST_USER }
}

/** The address of a machine without a lease: what the guest says of itself, or what the host's neighbour table has. */
const reportedAddress = async ({ ask }: Context['virsh'], id: string, mac: string): Promise<string | undefined> => {
  const { stdout } = await ask(['agent', 'arp'].map(source => ['domifaddr', id, '--source', source]))
  return parseAddresses(stdout).get(mac)
}

/** A machine stands still while a checkpoint of it is made, which is nobody's concern unless its process died. */
const withNotes = (context: Context, id: string, state: State): State => {
  const noted = state.paused === undefined ? null : notedCheckpoint(context, id)
  if (noted === 'under-way') return { status: state.status }
  if (noted === null) return withHeld(context, id, state)
  // libvirt would say: by a user.
  return { ...state, paused: 'making a checkpoint', pauseCause: 'interrupted' }
}

export const listMachines = async (context: Context): Promise<VmInfo[]> => {
  const { virsh } = context
  const states = parseStates(await virsh.run(['domstats', '--state', '--nowait']))
  const ids = [...states.keys()].filter(name => VM_ID.test(name))
  const [leases, ...answers] = await Promise.all([
    virsh.ask([...isolatorCommands(context), LIST_SAVED]),
    ...inBatches(ids).map(batch => virsh.ask(batch.map(readMark))),
  ])
  const saved = parseSaved(leases.stdout)
  const machines = answers
    .flatMap(({ stdout }) => parseMarks(stdout))
    .flatMap(mark => {
      const state = states.get(mark.vmId)
      return state === undefined || !isOurs(context, mark) ? [] : [{ mark, ...state }]
    })
  for (const batch of inBatches(machines)) await completeMarks(context, batch)
  const addresses = parseLeases(leases.stdout)
  await keepIsolated(context, leases, machines, addresses)
  await endInterrupted(
    context,
    machines.flatMap(({ mark, status, paused }) => (status === 'running' && paused === undefined ? mark.vmId : [])),
  )
  return machines.map(({ mark: { vmId, ticket, mac, port }, ...state }) => {
    const ip = port === null ? (addresses.get(mac) ?? null) : LOOPBACK
    return {
      ...{ vmId, ticket, ip: state.status === 'running' ? ip : null, ...withNotes(context, vmId, state) },
      ...(state.status === 'stopped' && saved.has(vmId) ? { saved: true as const } : {}),
    }
  })
}

/** Of a machine whose operation died, for whoever holds its lock. */
export const settleMachine = async (context: Context, id: string): Promise<void> => {
  const { mark, stdout, ...state } = await look(context, id, [['domjobinfo', id]])
  if (mark.checkpoints !== 'external' || jobIn(stdout, state) !== null) return
  await withCheckpointLock(context, id, `ending a checkpoint of ${id}`, () => endNoted(context, id))
  await tidyLayers(context, id)
}

/** At the start of a runner. */
export const settleMachines = async (context: Context): Promise<void> =>
  settleLive(
    context,
    (await listMachines(context)).flatMap(({ vmId, status }) => (status === 'running' ? vmId : [])),
  )

/** Machines with our mark and another home's id. */
export const listForeignMachines = async (context: Context): Promise<ForeignMachine[]> => {
  const { virsh } = context
  const states = parseStates(await virsh.run(['domstats', '--state', '--nowait']))
  const ids = [...states.keys()].filter(name => VM_ID.test(name))
  const answers = await Promise.all(inBatches(ids).map(batch => virsh.ask(batch.map(readMark))))
  return answers
    .flatMap(({ stdout }) => parseMarks(stdout))
    .filter(mark => states.has(mark.vmId) && !isOurs(context, mark))
    .map(({ vmId, ticket, home }) => ({ vmId, ticket, homeId: home }))
}

export const assignTicket = async (context: Context, id: string, ticket: Ticket): Promise<void> => {
  const { mark, status } = await look(context, id)
  if (mark.ticket !== ticket)
    await context.virsh.all([writeMark({ ...mark, ticket, home: context.homeId }, status)], {
      doing: `assigning ${ticket} to ${id}`,
    })
}
