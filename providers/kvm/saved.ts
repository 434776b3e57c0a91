/** Machines whose memory libvirt has in a file of its own (managed save): saved by us, or by the host as it shut down. */
import { stat, statfs } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { type FailureError, fail, failureOf, unless } from '../../src/errors.ts'
import { type Context, look, type Machine, settleReturned } from './context.ts'
import { diskCommands, requireDiskFile, requireKnownDisk, settleDisk } from './disk-file.ts'
import { addFreeSpace, requireSpace } from './disk-space.ts'
import { memoryInUse } from './domain-type.ts'
import { lookWhenIdle } from './jobs.ts'
import { requireNotLive } from './live.ts'
import { endMerge } from './pool-layers.ts'
import { isSession } from './settings.ts'
import type { Command } from './virsh.ts'

/** Writes the guest's memory to the disk. */
const DEADLINE_MS = 10 * 60_000
/** Of the state besides the guest's memory, and for others who write there. */
const MORE_BYTES = 256 * 1024 ** 2

/** The names of those that have one. */
export const LIST_SAVED: Command = ['list', '--all', '--with-managed-save', '--name']
/** Where this host's libvirt keeps them (its qemu_conf.c); null for the libvirt of another host. */
const saveFolder = (settings: Context['settings']): string | null => {
  if (!URL.canParse(settings.kvmUri) || new URL(settings.kvmUri).hostname !== '') return null
  return isSession(settings) ? join(homedir(), '.config/libvirt/qemu/save') : '/var/lib/libvirt/qemu/save'
}

/** Bytes on the disk of the machine's saved memory; 0 where it has none, or this user may not look. */
export const savedBytes = async (settings: Context['settings'], id: string): Promise<number> => {
  const folder = saveFolder(settings)
  const file = folder === null ? null : await stat(join(folder, `${id}.save`)).catch(() => null)
  return (file?.blocks ?? 0) * 512
}

/** Of the folder, or of the nearest one above it that exists and that we may look at. */
export const spaceIn = async (folder: string): Promise<{ folder: string; available: number }> => {
  try {
    const { bavail, bsize } = await statfs(folder)
    return { folder, available: bavail * bsize }
  } catch (error) {
    if (dirname(folder) === folder) throw error
    return spaceIn(dirname(folder))
  }
}

/** libvirt keeps the machine running when its memory cannot be written. */
export const saveMachine = async (context: Context, id: string): Promise<void> => {
  const { virsh, settings } = context
  const doing = `saving the memory of ${id}`
  const measure: Command[] = [...diskCommands(context, id), ['domstats', id, '--state', '--balloon', '--nowait']]
  const machine = await lookWhenIdle(context, id, doing, measure)
  const { status, paused, stdout } = machine
  if (status !== 'running') return
  if (paused !== undefined)
    throw fail('busy', `${doing}: it is paused (${paused})`, 'Start it: agent-swarm start <TICKET>')
  await requireDiskFile(context, machine, doing)
  const folder = saveFolder(settings)
  const memory = memoryInUse(context, stdout, id)
  if (folder !== null && memory !== null) requireSpace(doing, memory + MORE_BYTES, await spaceIn(folder))
  if (machine.mark.checkpoints === 'external') {
    await requireNotLive(context, id, doing)
    await virsh.ask([endMerge(id)])
    await requireKnownDisk(context, id, doing)
  }
  await virsh
    .run(['managedsave', id, '--running'], { deadline: DEADLINE_MS, doing })
    .catch(unless(async () => (await look(context, id)).status === 'stopped'))
    .catch(folder === null ? rethrow : addFreeSpace(() => spaceIn(folder)))
}
/** It keeps its memory, and goes on within a fraction of a second. */
export const suspendMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `suspending ${id}`
  const { status, paused, pauseCause } = await lookWhenIdle(context, id, doing)
  if (status !== 'running')
    throw fail('not-running', `${doing}: it is stopped`, 'Start it first: agent-swarm start <TICKET>')
  if (pauseCause === 'asked') return
  if (paused !== undefined)
    throw fail('busy', `${doing}: it is paused (${paused})`, 'Start it: agent-swarm start <TICKET>')
  await context.virsh
    .run(['suspend', id], { doing })
    .catch(unless(async () => (await look(context, id)).pauseCause === 'asked'))
}
const rethrow = (error: unknown): never => {
  throw error
}

/** The start of a machine whose saved memory libvirt did not bring back. */
export const unreadableMemory = (id: string, error: unknown): FailureError => {
  const { kind, message, remedy } = failureOf(error, `starting ${id}`)
  const cold = 'To boot it without that memory, as after a power cut: agent-swarm restart <TICKET>'
  return fail(
    kind,
    `${message}. Its memory was saved, and is kept`,
    remedy === null ? cold : `${remedy} ${cold}`,
    error,
  )
}

/** The memory brought the disk, the mark and the clock of its time back. */
export const settleWoken = async (context: Context, { mark }: Machine): Promise<void> => {
  const { vmId, ticket } = mark
  if (mark.checkpoints === 'external') await settleDisk(context, vmId)
  await settleReturned(context, vmId, { ticket })
}
