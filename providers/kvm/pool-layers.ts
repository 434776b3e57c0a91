/** The layers of machines in the pool: read, removed when nothing needs them, and merged. */
import { VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { Context } from './context.ts'
import { machineOf } from './definition.ts'
import { nameOf, settleDisk } from './disk-file.ts'
import { listVolumes, refreshPool, withFile } from './host.ts'
import {
  chainOf,
  keptVolume,
  layersIn,
  layerVolume,
  mergeable,
  neededByOthers,
  type Pool,
  unneededVolumes,
} from './layers.ts'
import { overlayXml } from './libvirt-xml.ts'
import { parseBacking, parseNames } from './parse.ts'
import { type Command, inBatches } from './virsh.ts'
import { deleteVolume, makeVolume, volumeInfo } from './volumes.ts'

/** MiB/s: the guest and others use the disk, too. */
const MERGE_MIB_PER_S = '100'
/** Forks of forks of deleted machines, each below the other. */
const MAX_PASSES = 20

/**
 * What each of these disks stands on. A volume that was deleted meanwhile is left out; one that cannot be read fails, because
 * what it stands on would be taken for unneeded.
 */
export const readBacking = async (context: Context, volumes: readonly string[]): Promise<Pool['backing']> => {
  const { virsh, settings } = context
  const disks = volumes.filter(volume => volume.endsWith('.qcow2'))
  const show = (volume: string): Command => ['vol-dumpxml', '--pool', settings.kvmPool, volume]
  const answers = await Promise.all(inBatches(disks).map(batch => virsh.ask(batch.map(show))))
  const text = answers.map(({ stdout }) => stdout).join('\n')
  const errors = answers.map(({ stderr }) => stderr).join('')
  if (errors === '') return parseBacking(text)
  const read = new Set([...text.matchAll(/<name>([^<]*)<\/name>/g)].map(([, name]) => name))
  const unread = disks.filter(disk => !read.has(disk))
  const left = unread.length === 0 ? [] : (await listVolumes(context)).filter(volume => unread.includes(volume))
  if (left.length > 0)
    throw virsh.failed(`reading what ${left.slice(0, 5).join(', ')} of the pool ${settings.kvmPool} stand on`, errors)
  return parseBacking(text)
}

/** A disk `volume` on top of the volume `on`, as large as it. */
export const makeOverlay = async (
  context: Context,
  { volume, on, folder, doing }: { volume: string; on: string; folder: string; doing: string },
): Promise<void> => {
  const { virsh, settings } = context
  const info = await virsh.run(volumeInfo(context, on), { doing })
  const bytes = Number(info.match(/^Capacity:\s+(\d+)/m)?.[1] ?? 0)
  if (bytes === 0) throw fail('unknown', `${doing}: libvirt does not tell the size of ${on}`)
  await withFile(context, overlayXml(volume, bytes, `${folder}/${on}`), file =>
    virsh.run(['vol-create', settings.kvmPool, file], { doing }),
  )
}

/** As it is now: libvirt makes layers and memories without telling the pool. */
export const readPool = async (context: Context): Promise<Pool> => {
  await refreshPool(context)
  const volumes = await listVolumes(context)
  // Images stand on nothing.
  const disks = volumes.filter(volume => VM_ID.test(machineOf(volume) ?? ''))
  return { volumes, backing: await readBacking(context, disks) }
}

const deleteVolumes = (context: Context, volumes: readonly string[]) =>
  context.virsh.ask(volumes.map(volume => deleteVolume(context, volume)))

/**
 * Removes layers and memories of the machine that nothing needs, and begins to merge two layers of a running one when they need
 * not be two. QEMU merges by itself then, and removes the upper file. Ended in the middle, both layers still hold what they held.
 */
export const tidyLayers = async (context: Context, id: string): Promise<void> => {
  const { virsh } = context
  const { active, isUnknown, used, isAll } = await settleDisk(context, id)
  // Of a machine whose disks nobody can name, everything may be needed.
  if (active === null || !isAll) return
  const pool = await readPool(context)
  const unneeded = unneededVolumes(pool, id, used)
  await deleteVolumes(context, unneeded)
  // libvirt must know all of QEMU's layers to merge two.
  if (isUnknown) return
  const volumes = pool.volumes.filter(volume => !unneeded.includes(volume))
  const pair = mergeable({ ...pool, volumes }, id, [nameOf(active)])
  if (pair === null) return
  const folder = active.slice(0, -nameOf(active).length)
  const files = ['--base', `${folder}${pair.base}`, '--top', `${folder}${pair.top}`]
  // It fails for a machine that is off, and while another merge goes on.
  await virsh.ask([['blockcommit', id, 'vda', ...files, '--bandwidth', MERGE_MIB_PER_S, '--delete']])
}

/** Ends a merge, which may go on later: libvirt makes no checkpoint and saves no memory meanwhile. Fails when there is none. */
export const endMerge = (id: string): Command => ['blockjob', id, 'vda', '--abort']

/** What forks of the machine need of it, and the note of that; none when they need nothing. */
export const neededByForks = async (context: Context, id: string): Promise<Set<string>> => {
  const volumes = await listVolumes(context)
  if (layersIn(volumes, id).disks.length === 0) return new Set()
  // A fork's first layer stands on another machine's, and all its others stand on that.
  const first = volumes.filter(
    volume => volume === layerVolume(machineOf(volume) ?? '', 0) && !volume.startsWith(`${id}.`),
  )
  const below = [...(await readBacking(context, first)).values()]
  if (!below.some(volume => volume.startsWith(`${id}.`))) return new Set()
  const needed = neededByOthers(await readPool(context), id)
  return new Set([...needed, keptVolume(id)])
}

/** Of a machine that is not defined any more: its layers are nobody's leftover. */
export const noteKept = async (context: Context, id: string): Promise<void> => {
  await context.virsh.run(makeVolume(context, keptVolume(id)), { doing: `deleting ${id}` })
}

/** Of deleted machines: the layers that no fork needs any more. */
export const unneededOfDeleted = ({ volumes, backing }: Pool, machines: ReadonlySet<string>): string[] =>
  volumes.flatMap(volume => {
    const id = machineOf(volume) ?? ''
    if (volume !== keptVolume(id) || machines.has(id)) return []
    const needed = neededByOthers({ volumes, backing }, id)
    const unneeded = volumes.filter(each => machineOf(each) === id && each !== volume && !needed.includes(each))
    return needed.length === 0 ? [...unneeded, volume] : unneeded
  })

/** `known`: the names of all volumes, among others. */
export const removeOrphans = async (context: Context, known: readonly string[]): Promise<void> => {
  if (!known.some(volume => volume === keptVolume(machineOf(volume) ?? ''))) return
  const machines = new Set(parseNames(await context.virsh.run(['list', '--all', '--name'])))
  // A fork that is deleted as well stands on another machine's layers until its own are gone.
  for (let pass = 0; pass < MAX_PASSES; pass += 1) {
    const orphans = unneededOfDeleted(await readPool(context), machines)
    if (orphans.length === 0) return
    await deleteVolumes(context, orphans)
  }
}

/** Fails when the layer is not there, or something that it stands on. */
export const requireLayer = ({ volumes, backing }: Pool, id: string, layer: number, doing: string): void => {
  const chain = chainOf(layerVolume(id, layer), backing)
  const missing = chain.find(volume => !volumes.includes(volume))
  if (missing !== undefined)
    throw fail(
      'unknown',
      `${doing}: ${missing}, which it stands on, is not in the pool`,
      'Put the file back, and try again.',
    )
}
