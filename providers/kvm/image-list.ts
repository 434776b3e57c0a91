/** Base images with their manifests and what depends on them, and their deletion. */
import { readFileSync } from 'node:fs'
import { failIfBuilding } from '../../base-image/build-note.ts'
import { isImageName, MAX_MANIFEST, parseManifest } from '../../base-image/image.ts'
import { fail } from '../../src/errors.ts'
import type { BaseImage, BaseManifest } from '../provider.ts'
import { folderOf, removeOldMachines } from './build-note.ts'
import type { Context } from './context.ts'
import { machineOf } from './definition.ts'
import { ensurePool, listVolumes, withFile } from './host.ts'
import { DISK, imageVolumes, MANIFEST } from './images.ts'
import { chainOf } from './layers.ts'
import { readBacking } from './pool-layers.ts'
import { removeVolume } from './volumes.ts'

/** Names of volumes that a machine cannot have: of images, finished or not. */
const imageNames = (volumes: readonly string[]): string[] => [
  ...new Set(
    volumes.flatMap(volume => {
      const name = [MANIFEST, DISK].flatMap(end => (volume.endsWith(end) ? [volume.slice(0, -end.length)] : []))[0]
      return name !== undefined && isImageName(name) ? [name] : []
    }),
  ),
]

/** The machines whose disks depend on each volume, also through another disk. */
const dependents = async (context: Context, volumes: readonly string[]): Promise<Map<string, string[]>> => {
  const backing = await readBacking(context, volumes)
  const found = new Map<string, string[]>()
  for (const disk of volumes.filter(volume => volume.endsWith(DISK))) {
    const machine = machineOf(disk) ?? disk
    for (const below of chainOf(disk, backing).slice(1)) {
      const machines = found.get(below) ?? []
      if (!machines.includes(machine)) found.set(below, [...machines, machine])
    }
  }
  return found
}

const readManifest = (context: Context, name: string): Promise<BaseManifest | null> =>
  withFile(context, '', async path => {
    const { settings, virsh } = context
    const { manifest } = imageVolumes(name)
    const length = ['--length', String(MAX_MANIFEST)]
    await virsh.run(['vol-download', '--pool', settings.kvmPool, manifest, path, ...length])
    return parseManifest(readFileSync(path, 'utf8'), name)
  })

/** Also what a killed build left of an image: it has no manifest. */
export const describeImages = async (context: Context): Promise<BaseImage[]> => {
  const volumes = await listVolumes(context)
  const names = imageNames(volumes)
  if (names.length === 0) return []
  const using = await dependents(context, volumes)
  const images: BaseImage[] = []
  for (const name of names.sort()) {
    const { image, manifest } = imageVolumes(name)
    const isWhole = volumes.includes(image) && volumes.includes(manifest)
    images.push({
      name,
      manifest: isWhole ? await readManifest(context, name) : null,
      machines: using.get(image) ?? [],
    })
  }
  return images
}

/** The machines that depend on an image, as libvirt read them when it refreshed the pool last. */
export const dependentsOf = async (context: Context, name: string): Promise<string[]> => {
  const using = await dependents(context, await listVolumes(context))
  return using.get(imageVolumes(name).image) ?? []
}

/** Fails with `refused` while a machine depends on the image, or on what a killed build left of it. */
export const requireUnused = async (context: Context, name: string, doing: string): Promise<void> => {
  const machines = await dependentsOf(context, name)
  if (machines.length > 0)
    throw fail(
      'refused',
      `${doing}: ${machines.slice(0, 10).join(', ')} depend on it`,
      'Delete these machines first: agent-swarm list',
    )
}

/** Deletes the manifest first: an image without one does not count. */
export const deleteImage = async (context: Context, name: string): Promise<void> => {
  const { image, manifest } = imageVolumes(name)
  const doing = `deleting the base image ${name}`
  await removeOldMachines(context)
  failIfBuilding(folderOf(context), name, doing)
  // libvirt reads what each disk depends on when it refreshes the pool.
  await ensurePool(context)
  const volumes = await listVolumes(context)
  if (!volumes.includes(image) && !volumes.includes(manifest))
    throw fail('no-such-image', `${doing}: it does not exist`)
  await requireUnused(context, name, doing)
  for (const volume of [manifest, image]) await removeVolume(context, volume)
}
