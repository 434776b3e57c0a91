/** The state that forks are made of: a layer of the source's disk that is written no more, with or without a memory. */
import { randomBytes } from 'node:crypto'
import { fail } from '../../src/errors.ts'
import type { Context, Machine } from './context.ts'
import { volumesOf } from './definition.ts'
import { requireDiskFile } from './disk-file.ts'
import { requireSpace } from './disk-space.ts'
import { diskAt } from './fork-definition.ts'
import { listVolumes, refreshPool } from './host.ts'
import { DISK_FULL, isSavedIn, type Pool, parseMemoryInUse, parseSnapshots } from './parse.ts'
import type { Answer, Command } from './virsh.ts'
import { unescapeXml } from './xml.ts'

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

/** The names of the layers of a machine's disk: 0 is the first. */
const layerNames = (id: string) => ({
  layer: (n: number) => (n === 0 ? volumesOf(id).disk : `${id}.${n}.qcow2`),
  memory: (n: number) => `${id}.${n}.memory`,
  /** The number of a volume of the machine; null when it is no layer and belongs to none. */
  numberOf: (volume: string): number | null => {
    const number = volume.startsWith(`${id}.`) ? volume.slice(id.length + 1).match(/^(\d+)\./)?.[1] : undefined
    return number === undefined ? (volume === volumesOf(id).disk ? 0 : null) : Number(number)
  },
})

const activeLayer = async ({ virsh }: Context, id: string): Promise<string> => {
  const definition = await virsh.run(['dumpxml', id])
  const path = definition.match(diskAt('vda'))?.[0].match(/<source\s[^>]*\bfile=["']([^"']*)/)?.[1]
  if (path === undefined) throw fail('unsupported', `looking for the disk of ${id}: its definition names no file`)
  return unescapeXml(path).replace(/^.*\//, '')
}

/** virsh takes a list there, so a comma is written twice. */
const inList = (path: string): string => path.replaceAll(',', ',,')

/**
 * An unnamed checkpoint of the present state: the guest stands still while its memory is written. The frozen layer stays as long
 * as a fork stands on it.
 */
const captureForFork = async (context: Context, machine: Looked): Promise<Captured> => {
  const { mark, status, stdout, pool, doing } = machine
  const id = mark.vmId
  const names = layerNames(id)
  const layer = await activeLayer(context, id)
  const number = names.numberOf(layer) ?? 0
  const next = 1 + Math.max(...(await listVolumes(context)).map(volume => names.numberOf(volume) ?? 0))
  const overlay = `${inList(`${pool.folder}/${names.layer(next)}`)}`
  const isRunning = status === 'running'
  const memory = isRunning ? parseMemoryInUse(stdout, id, Date.now() / 1000) : null
  if (memory !== null) requireSpace(doing, memory + STATE_BYTES, pool)
  const withMemory = ['--memspec', `file=${inList(`${pool.folder}/${names.memory(number)}`)},snapshot=external`]
  await context.virsh.run(
    [
      ...['snapshot-create-as', id, '--no-metadata', '--atomic', ...(isRunning ? withMemory : ['--disk-only'])],
      ...['--diskspec', `vda,snapshot=external,file=${overlay}`, '--diskspec', 'sda,snapshot=no'],
    ],
    { deadline: CAPTURE_DEADLINE_MS, doing },
  )
  await refreshPool(context)
  return { layer, memory: isRunning ? names.memory(number) : null }
}

/** The layer that a checkpoint froze. */
const findCaptured = async (context: Context, { mark, doing }: Looked, checkpoint: string): Promise<Captured> => {
  const volumes = await listVolumes(context)
  const names = layerNames(mark.vmId)
  const number = volumes
    .filter(volume => volume.endsWith(`.${checkpoint}.checkpoint`))
    .map(names.numberOf)
    .find(each => each !== null)
  if (number === undefined || number === null)
    throw fail('no-such-checkpoint', `${doing}: it has no checkpoint ${checkpoint}`)
  const memory = names.memory(number)
  return { layer: names.layer(number), memory: volumes.includes(memory) ? memory : null }
}

/** No name of a checkpoint: no command can name it. */
const TEMPORARY = 'Fork.'

/** A snapshot in the disk, which also holds the memory of a running guest; nothing reads that. */
const takeSnapshot = async (context: Context, { mark, stdout, pool, doing }: Looked): Promise<string> => {
  const id = mark.vmId
  const memory = parseMemoryInUse(stdout, id, Date.now() / 1000)
  if (memory !== null) requireSpace(doing, memory + STATE_BYTES, pool)
  const name = `${TEMPORARY}${randomBytes(4).toString('hex')}`
  // Forks boot from the disk: what the guest has not written to it yet goes there first. Without an agent, as after a power cut.
  await context.virsh.ask([
    ['domfsfreeze', id],
    ['domfsthaw', id],
  ])
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

/** `machine`: with the answer to `sourceCommands` and to `diskCommand`. `count`: how many forks there will be. */
export const openSource = async (
  context: Context,
  machine: Looked,
  checkpoint: string | null,
  count: number,
): Promise<ForkSource> => {
  const { mark, status, paused, stdout, pool, doing } = machine
  requireSpace(doing, count * FORK_BYTES, pool)
  const isExternal = mark.checkpoints === 'external'
  if (checkpoint !== null && isExternal)
    return { kind: 'layer', ...(await findCaptured(context, machine, checkpoint)), isTemporary: false }
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
  const { virsh, settings } = context
  if (!source.isTemporary) return
  if (source.kind === 'layer' && source.memory !== null)
    await virsh.ask([['vol-delete', '--pool', settings.kvmPool, source.memory]])
  if (source.kind === 'snapshot' && source.snapshot !== null)
    await virsh.ask([['snapshot-delete', id, `--snapshotname=${source.snapshot}`]], { deadline: CAPTURE_DEADLINE_MS })
}
