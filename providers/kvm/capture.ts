/**
 * Captures a machine at one moment: its active layer is frozen, a new one begins, and the memory of one that runs goes into a file
 * beside it. By libvirt's own external snapshots, and libvirt keeps no name that we gave.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { fail } from '../../src/errors.ts'
import type { Context, Machine } from './context.ts'
import { activeDisk, diskCommands, requireDiskFile, requireKnownDisk, settleDisk } from './disk-file.ts'
import { requireSpace } from './disk-space.ts'
import { memoryInUse } from './domain-type.ts'
import { canDrain, finishDrainer, openDrainer } from './drainer.ts'
import { ensurePool, poolCommands, refreshPool, withFile } from './host.ts'
import { downloadPart } from './in-disk.ts'
import { lookWhenIdle } from './jobs.ts'
import { layerOf, layersIn, layerVolume, memoryVolume } from './layers.ts'
import { withDisk } from './libvirt-xml.ts'
import { endCheckpoint, endNoted, noteLive, SAFE_SINCE, turnLiveOn, wantsLive, withCheckpointLock } from './live.ts'
import { monitor } from './monitor.ts'
import { isSavedIn, parseMemory, parseNames, parsePool, parseQemuVersion, parseVolumes, SUSPENDED } from './parse.ts'
import { resumeWhenProtected, watchPause } from './pause.ts'
import { endMerge, makeOverlay } from './pool-layers.ts'
import { COMPLETE } from './save-image.ts'
import type { Answer, Command } from './virsh.ts'
import { volumeInfo } from './volumes.ts'

/** A guest's memory is written to the disk. */
export const MEMORY_DEADLINE_MS = 10 * 60_000
/** Of the machine's state besides the guest's memory: devices, header, and the new layer's own tables. */
const STATE_BYTES = 32 * 1024 ** 2

export type Capture = {
  /** The layer that is frozen. */
  layer: number
  /** The volume of the memory, a save image of libvirt. Null: the machine was off. */
  memory: string | null
  /** Bytes of what was made; null when unknown. */
  sizeBytes: number | null
  /** How long a running guest stood still; undefined when unknown. */
  pauseMs: number | undefined
}

type Request = {
  context: Context
  id: string
  doing: string
  machine: Machine & Answer
  /** The present disk, and its layer. */
  disk: string
  layer: number
  next: number
  folder: string
}

/** The machine, its disk and its room, once libvirt and QEMU do nothing else with it. */
const prepare = async (context: Context, id: string, doing: string): Promise<Request & { available: number }> => {
  const { virsh, settings } = context
  const machine = await lookWhenIdle(context, id, doing, [
    ...diskCommands(context, id),
    ['domstats', id, '--state', '--balloon', '--nowait'],
    ['dominfo', id],
    monitor(id, 'query-version'),
  ])
  if (machine.paused === SUSPENDED)
    throw fail('busy', `${doing}: its guest sleeps (${SUSPENDED})`, 'Wake it: agent-swarm start <TICKET>')
  await requireDiskFile(context, machine, doing)
  if (machine.status === 'running') await requireKnownDisk(context, id, doing)
  const { stdout } = await virsh.ask([endMerge(id), ...poolCommands(settings), ['vol-list', settings.kvmPool]])
  const pool = parsePool(stdout) ?? (await ensurePool(context))
  const disk = activeDisk(machine.stdout)
  const layer = disk === null ? null : layerOf(disk, id)
  if (disk === null || layer === null)
    throw fail(
      'unknown',
      `${doing}: its disk, ${disk ?? 'none'}, is not one that agent-swarm made`,
      'See virsh domblklist.',
    )
  const { next } = layersIn(parseNames(stdout), id)
  const { folder, available } = pool
  return { context, id, doing, machine, disk, layer, next: Math.max(next, layer + 1), folder, available }
}

// ── A machine that is off ──

/**
 * The definition first: if we die in between, a memory that libvirt saved goes on with the layer of before, whose name its start puts
 * back into the definition. The new layer is empty, and garbage then.
 */
const captureOff = async ({ context, id, doing, machine, layer, next, folder }: Request): Promise<Capture> => {
  const { virsh } = context
  await makeOverlay(context, { volume: layerVolume(id, next), on: layerVolume(id, layer), folder, doing })
  const path = `${folder}/${layerVolume(id, next)}`
  const definition = await virsh.run(['dumpxml', id, '--inactive', '--security-info'])
  await withFile(context, withDisk(definition, path), file => virsh.run(['define', file]))
  if (isSavedIn(machine.stdout)) {
    const saved = await virsh.run(['managedsave-dumpxml', id, '--security-info'])
    await withFile(context, withDisk(saved, path), file => virsh.run(['managedsave-define', id, file]))
  }
  const made = await virsh.ask([volumeInfo(context, layerVolume(id, next))])
  return {
    layer,
    memory: null,
    sizeBytes: parseVolumes(made.stdout).get(layerVolume(id, next)) ?? null,
    pauseMs: undefined,
  }
}

// ── A machine that runs ──

/** Memory and disk in two snapshots: in one, libvirt would take the disk when the memory is written, and the memory is of before. */
const fileSpec = (path: string): string => `file=${path.replaceAll(',', ',,')}`
const newLayer = ({ id, next, folder }: Request): string => `${folder}/${layerVolume(id, next)}`
const diskSnapshot = (request: Request): Command => [
  ...['snapshot-create-as', request.id, '--disk-only', '--no-metadata', '--atomic'],
  ...['--diskspec', `vda,snapshot=external,${fileSpec(newLayer(request))}`, '--diskspec', 'sda,snapshot=no'],
]
const memorySnapshot = ({ id }: Request, memory: string): Command => [
  ...['snapshot-create-as', id, '--no-metadata', '--memspec', `${fileSpec(memory)},snapshot=external`],
  ...['--diskspec', 'vda,snapshot=no', '--diskspec', 'sda,snapshot=no'],
]

/** The last command fails for a guest that goes on already. Whether it goes on is looked at afterwards, in any language. */
const FAILED_RESUME = /error: Failed to resume domain[\s\S]*$/

/** A guest that runs stands still from `suspend` on. One that somebody paused stays so. */
const takeSnapshots = async (request: Request, memory: string, isLive: boolean) => {
  const { context, id, machine } = request
  const isRunning = machine.paused === undefined
  const commands = [diskSnapshot(request), memorySnapshot(request, memory)]
  const watch = isRunning ? watchPause(context, id) : null
  const qemu = parseQemuVersion(machine.stdout)
  const resumer = isLive && qemu !== null && qemu >= 8 ? resumeWhenProtected(context, id) : null
  await Promise.all([watch?.isReady, resumer?.isReady])
  try {
    const all = isRunning ? [['suspend', id], ...commands, ['resume', id]] : commands
    const { stderr } = await context.virsh.ask(all, { deadline: MEMORY_DEADLINE_MS, doing: request.doing })
    return { stderr: stderr.replace(FAILED_RESUME, ''), pauseMs: await watch?.end() }
  } finally {
    await Promise.all([watch?.end(), resumer?.end()])
  }
}

/** Whether libvirt has written the whole file. While it writes, the header says otherwise. */
const isComplete = async (context: Context, memory: string): Promise<boolean> => {
  await refreshPool(context)
  const head = await downloadPart(context, memory, 0, COMPLETE.length)
  return head.toString('latin1') === COMPLETE
}

/** Room for the whole memory before a live one: nothing of it may fail. Through a pipe nothing can; otherwise the room is doubled. */
const requireRoom = (
  { context, doing, folder, id, machine }: Request,
  available: number,
  live: { isSafe: boolean } | null,
) => {
  const { stdout } = machine
  const all = parseMemory(stdout, id)
  const needed =
    live === null || all === null ? memoryInUse(context, stdout, id) : all * (live.isSafe || canDrain(context) ? 1 : 2)
  if (needed !== null) requireSpace(doing, needed + STATE_BYTES, { folder, available })
}

const captureRunning = async (request: Request, available: number): Promise<Capture> => {
  const { context, id, doing, machine, layer, next, folder } = request
  const { virsh, settings, home } = context
  const isRunning = machine.paused === undefined
  const qemu = parseQemuVersion(machine.stdout)
  const isSafe = qemu !== null && qemu >= SAFE_SINCE
  const maybeLive = isRunning && wantsLive(settings, qemu)
  requireRoom(request, available, maybeLive ? { isSafe } : null)
  const memory = memoryVolume(id, layer)
  const path = `${folder}/${memory}`
  const fifo =
    maybeLive && !isSafe && canDrain(context) ? join(home, 'kvm', `memory-${randomBytes(4).toString('hex')}`) : null
  // One that a person paused stays so.
  if (isRunning) noteLive(context, id, fifo)
  let taken: Awaited<ReturnType<typeof takeSnapshots>>
  try {
    const isLive = maybeLive && (await turnLiveOn(context, id))
    const piped = isLive ? fifo : null
    if (piped !== null) await openDrainer(context, piped, path)
    taken = await takeSnapshots(request, piped ?? path, isLive)
    if (piped !== null && taken.stderr === '') await finishDrainer(piped, path, doing)
  } finally {
    await endCheckpoint(context, id, isRunning)
  }
  if (taken.stderr !== '') throw virsh.failed(doing, taken.stderr)
  const { active } = await settleDisk(context, id)
  if (active !== newLayer(request) || !(await isComplete(context, memory)))
    throw fail('unknown', `${doing}: libvirt did not make the layer and the memory that it was asked for`)
  const made = [memory, layerVolume(id, next)]
  const { stdout } = await virsh.ask(made.map(volume => volumeInfo(context, volume)))
  const sizes = parseVolumes(stdout)
  const sizeBytes = made.every(volume => sizes.has(volume))
    ? made.reduce((sum, volume) => sum + (sizes.get(volume) ?? 0), 0)
    : null
  return { layer, memory, sizeBytes, pauseMs: taken.pauseMs }
}

/** The disk as it is at this moment: the guest goes on meanwhile. */
const captureRunningDisk = async (request: Request): Promise<Capture> => {
  const { context, id, doing, layer } = request
  await context.virsh.run(diskSnapshot(request), { doing })
  if ((await settleDisk(context, id)).active !== newLayer(request))
    throw fail('unknown', `${doing}: libvirt did not make the layer that it was asked for`)
  return { layer, memory: null, sizeBytes: null, pauseMs: undefined }
}

/**
 * Freezes the machine's active layer. Without a marker the memory is garbage; the layer stays, because the active disk stands on it.
 */
const captureWith =
  (captureRunning: (request: Request, available: number) => Promise<Capture>) =>
  (context: Context, id: string, doing: string): Promise<Capture> =>
    withCheckpointLock(context, id, doing, async () => {
      await endNoted(context, id)
      const { available, ...request } = await prepare(context, id, doing)
      if (request.machine.mark.checkpoints !== 'external')
        throw fail('unsupported', `${doing}: its checkpoints are inside its disk`)
      return request.machine.status === 'running' ? captureRunning(request, available) : captureOff(request)
    })

/** With the memory of a machine that runs. */
export const capture = captureWith(captureRunning)
/** Without any memory. */
export const captureDisk = captureWith(captureRunningDisk)
