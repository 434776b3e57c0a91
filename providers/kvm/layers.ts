/**
 * The layers of a machine's disk, and the checkpoints on them, as names of volumes; nothing else keeps them. Layer 0 is
 * `V.qcow2`, later ones `V.<n>.qcow2`. The domain's disk is the active one. A checkpoint on layer n froze it: its marker is the
 * empty volume `V.<n>.<name>.checkpoint`, its memory, if it has one, `V.<n>.memory`. The marker is made last and removed first,
 * so that without it the memory is garbage. `V.kept`: the machine is deleted, and forks stand on layers
 * of it.
 */
import { type CheckpointName, parseCheckpointName } from '../../src/domain.ts'

export const layerVolume = (id: string, layer: number): string => (layer === 0 ? `${id}.qcow2` : `${id}.${layer}.qcow2`)
export const memoryVolume = (id: string, layer: number): string => `${id}.${layer}.memory`
export const markerVolume = (id: string, layer: number, name: CheckpointName): string =>
  `${id}.${layer}.${name}.checkpoint`
export const keptVolume = (id: string): string => `${id}.kept`

export type Layers = {
  /** Ascending. */
  disks: number[]
  memories: number[]
  /** Oldest first: a checkpoint freezes a layer, and later layers have higher numbers. */
  checkpoints: { layer: number; name: CheckpointName }[]
  /** The number of the next layer: no volume has it or a higher one. */
  next: number
}

const ENDS = /^(?:(\d+)\.)?qcow2$|^(\d+)\.memory$|^(\d+)\.([a-z0-9-]+)\.checkpoint$/

export const layersIn = (volumes: readonly string[], id: string): Layers => {
  const layers: Layers = { disks: [], memories: [], checkpoints: [], next: 1 }
  for (const volume of volumes) {
    const found = volume.startsWith(`${id}.`) ? volume.slice(id.length + 1).match(ENDS) : null
    if (found === null) continue
    const [, disk, memory, marked, name = ''] = found
    const layer = Number(disk ?? memory ?? marked ?? 0)
    if (memory !== undefined) layers.memories.push(layer)
    else if (marked === undefined) layers.disks.push(layer)
    else if (parseCheckpointName(name) === name) layers.checkpoints.push({ layer, name })
    layers.next = Math.max(layers.next, layer + 1)
  }
  layers.disks.sort((a, b) => a - b)
  layers.checkpoints.sort((a, b) => a.layer - b.layer)
  return layers
}

/** The layer of this file or volume; null when it is none of the machine's. */
export const layerOf = (path: string, id: string): number | null =>
  layersIn([path.slice(path.lastIndexOf('/') + 1)], id).disks[0] ?? null

/** What each volume stands on, both by their names (`parseBacking`). */
export type Backing = ReadonlyMap<string, string>

/** The volume, and all that it stands on. */
export const chainOf = (volume: string, backing: Backing): string[] => {
  const chain: string[] = []
  for (let at: string | undefined = volume; at !== undefined && !chain.includes(at); at = backing.get(at))
    chain.push(at)
  return chain
}

export type Pool = { volumes: readonly string[]; backing: Backing }

const isDisk = (volume: string) => volume.endsWith('.qcow2')
const isOf = (volume: string, id: string) => volume.startsWith(`${id}.`)

/** Volumes of the machine that disks of others stand on, forks of it. */
export const neededByOthers = ({ volumes, backing }: Pool, id: string): string[] => {
  const others = volumes.filter(volume => isDisk(volume) && !isOf(volume, id))
  return [...new Set(others.flatMap(volume => chainOf(volume, backing)))].filter(volume => isOf(volume, id))
}

/** Layers and memories that neither the machine (its disks in use: `active`), a checkpoint of it nor another machine needs. */
export const unneededVolumes = (pool: Pool, id: string, active: readonly string[]): string[] => {
  const { disks, memories, checkpoints } = layersIn(pool.volumes, id)
  const roots = [...active, ...checkpoints.map(({ layer }) => layerVolume(id, layer))]
  const needed = new Set([...roots.flatMap(root => chainOf(root, pool.backing)), ...neededByOthers(pool, id)])
  const isMarked = (layer: number) => checkpoints.some(checkpoint => checkpoint.layer === layer)
  return [
    ...memories.filter(layer => !isMarked(layer)).map(layer => memoryVolume(id, layer)),
    // From the top, so that one who dies in between leaves no layer without what it stands on.
    ...disks
      .map(layer => layerVolume(id, layer))
      .filter(volume => !needed.has(volume))
      .reverse(),
  ]
}

/**
 * Two layers that can become one, `top` written into `base`; null when there are none. Neither is in use, has a checkpoint or is below
 * the disk of another machine, and nothing but the other stands on `base`, and nothing but one layer of the running machine's chain on
 * `top`. Both are the machine's own, or both of deleted machines, of which it is a fork: its first layer stays. `active`: the disk that
 * the machine uses, and others that it may use.
 */
export const mergeable = (
  { volumes, backing }: Pool,
  id: string,
  active: readonly string[],
): { base: string; top: string } | null => {
  const chain = chainOf(active[0] ?? '', backing)
  const marked = new Set(layersIn(volumes, id).checkpoints.map(({ layer }) => layerVolume(id, layer)))
  const onTopOf = (volume: string) => volumes.filter(each => backing.get(each) === volume).length
  const others = volumes.filter(volume => isDisk(volume) && !isOf(volume, id) && !chain.includes(volume))
  const needed = new Set(others.flatMap(volume => chainOf(volume, backing)))
  const isOfDeleted = (volume: string) => volumes.includes(keptVolume(volume.slice(0, volume.indexOf('.'))))
  const isFree = (volume: string) =>
    (isOf(volume, id) || isOfDeleted(volume)) &&
    !active.includes(volume) &&
    !marked.has(volume) &&
    !needed.has(volume) &&
    onTopOf(volume) === 1
  for (const [at, top] of chain.entries()) {
    const base = chain[at + 1]
    if (base !== undefined && isOf(base, id) === isOf(top, id) && isFree(top) && isFree(base)) return { base, top }
  }
  return null
}
