/** The state that forks are made of: a layer of the source's disk that is written no more, with or without a memory. */
import { randomBytes } from 'node:crypto'
import { fail } from '../../src/errors.ts'
import { capture, captureDisk } from './capture.ts'
import type { Context, Machine } from './context.ts'
import { requireDiskFile } from './disk-file.ts'
import { requireSpace } from './disk-space.ts'
import { memoryInUse } from './domain-type.ts'
import { syncByAgent } from './guest-agent.ts'
import { listVolumes } from './host.ts'
import { layersIn, layerVolume, memoryVolume } from './layers.ts'
import { DISK_FULL, isSavedIn, type Pool, parseSnapshots } from './parse.ts'
import { endMerge, tidyLayers } from './pool-layers.ts'
import { forksMemory } from './settings.ts'
import type { Answer, Command } from './virsh.ts'

/** Writes the guest's memory to the disk. */
const CAPTURE_DEADLINE_MS = 5 * 60_000
/** Of the memory's image besides the guest's memory. */
const STATE_BYTES = 16 * 1024 ** 2
/** What a fork writes before anybody works in it. */
const FORK_BYTES = 64 * 1024 ** 2

/** A frozen layer, and the memory of its moment: names of volumes. */
type Captured = { layer: string; memory: string | null }
export type ForkSource =
  /** `isTemporary`: the memory is for these forks alone. */
  | (Captured & { kind: 'layer'; isTemporary: boolean })
  /** A snapshot in the source's disk. Null: the disk as it is. */
  | { kind: 'snapshot'; snapshot: string | null; isTemporary: boolean }

/** The commands whose answer `openSource` reads, besides those of the pool. */
export const sourceCommands = (id: string): Command[] => [
  ['domstats', id, '--state', '--balloon', '--nowait'],
  ['snapshot-list', id, '--topological'],
  ['dominfo', id],
]

type Looked = Machine & Answer & { pool: Pool; doing: string }

/** The layer that a checkpoint froze. */
const findCaptured = async (context: Context, { mark, doing }: Looked, checkpoint: string): Promise<Captured> => {
  const { checkpoints, memories } = layersIn(await listVolumes(context), mark.vmId)
  const found = checkpoints.find(({ name }) => name === checkpoint)
  if (found === undefined) throw fail('no-such-checkpoint', `${doing}: it has no checkpoint ${checkpoint}`)
  const memory = memories.includes(found.layer) ? memoryVolume(mark.vmId, found.layer) : null
  return { layer: layerVolume(mark.vmId, found.layer), memory }
}

/** An unnamed checkpoint of the present state: of the disk alone, where forks boot from it. */
const captureForFork = async (context: Context, { mark, status, paused, doing }: Looked): Promise<Captured> => {
  const id = mark.vmId
  const boots = !forksMemory(context.settings)
  if (boots && status === 'running' && paused === undefined) await syncByAgent(context, id)
  try {
    const { layer, memory } = await (boots ? captureDisk : capture)(context, id, doing)
    return { layer: layerVolume(id, layer), memory }
  } catch (error) {
    // What was made before it failed.
    await tidyLayers(context, id).catch(() => {})
    throw error
  }
}

/** No name of a checkpoint: no command can name it. */
const TEMPORARY = 'Fork.'

/** A snapshot in the disk, which also holds the memory of a running guest; nothing reads that. */
const takeSnapshot = async (context: Context, { mark, paused, stdout, pool, doing }: Looked): Promise<string> => {
  const id = mark.vmId
  const memory = memoryInUse(context, stdout, id)
  if (memory !== null) requireSpace(doing, memory + STATE_BYTES, pool)
  const name = `${TEMPORARY}${randomBytes(4).toString('hex')}`
  // Forks boot from the disk: what the guest has not written to it yet goes there first.
  if (paused === undefined) await syncByAgent(context, id)
  await context.virsh.run(['snapshot-create-as', id, `--name=${name}`, '--atomic'], {
    deadline: CAPTURE_DEADLINE_MS,
    doing,
  })
  return name
}

const openSnapshot = async (context: Context, machine: Looked, checkpoint: string | null): Promise<ForkSource> => {
  const { mark, status, stdout, doing } = machine
  const snapshots = parseSnapshots(stdout)
  // What a killed fork left.
  for (const name of snapshots.filter(each => each.startsWith(TEMPORARY)))
    await context.virsh.run(['snapshot-delete', mark.vmId, `--snapshotname=${name}`], {
      deadline: CAPTURE_DEADLINE_MS,
      doing,
    })
  if (checkpoint !== null && !snapshots.includes(checkpoint))
    throw fail('no-such-checkpoint', `${doing}: it has no checkpoint ${checkpoint}`)
  if (checkpoint !== null) return { kind: 'snapshot', snapshot: checkpoint, isTemporary: false }
  if (status === 'stopped') return { kind: 'snapshot', snapshot: null, isTemporary: false }
  return { kind: 'snapshot', snapshot: await takeSnapshot(context, machine), isTemporary: true }
}

/** `machine`: with the answer to `sourceCommands` and to `diskCommands`. `count`: how many forks there will be. */
export const openSource = async (
  context: Context,
  machine: Looked,
  checkpoint: string | null,
  count: number,
): Promise<ForkSource> => {
  const { mark, status, paused, stdout, pool, doing } = machine
  requireSpace(doing, count * FORK_BYTES, pool)
  const isExternal = mark.checkpoints === 'external'
  if (checkpoint !== null && isExternal) {
    const captured = await findCaptured(context, machine, checkpoint)
    // A merge that runs writes into a layer below, and QEMU lets no fork open that. Later merges skip layers that forks stand on.
    await context.virsh.ask([endMerge(mark.vmId)])
    return { kind: 'layer', ...captured, isTemporary: false }
  }
  if (checkpoint === null && paused === DISK_FULL)
    throw fail('disk-full', `${doing}: it is paused, because the disk is full`, 'Free disk space and start it first.')
  if (checkpoint === null && status === 'stopped' && isSavedIn(stdout))
    throw fail('not-running', `${doing}: its memory is saved`, 'Start it first: agent-swarm start <TICKET>')
  await requireDiskFile(context, machine, doing)
  if (!isExternal) return openSnapshot(context, machine, checkpoint)
  return { kind: 'layer', ...(await captureForFork(context, machine)), isTemporary: true }
}

/** Removes what was for these forks alone. */
export const closeSource = async (context: Context, id: string, source: ForkSource): Promise<void> => {
  const { virsh } = context
  if (!source.isTemporary) return
  // The layer stays as long as a fork stands on it.
  if (source.kind === 'layer') await tidyLayers(context, id)
  if (source.kind === 'snapshot' && source.snapshot !== null)
    await virsh.ask([['snapshot-delete', id, `--snapshotname=${source.snapshot}`]], { deadline: CAPTURE_DEADLINE_MS })
}
