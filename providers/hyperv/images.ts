/**
 * Base images in `AGENT_SWARM_HOME/hyperv/images`: `<name>.vhdx`, which is read-only and never moves, and `<name>.manifest.json`,
 * which is written last, so that an unproven image does not count.
 */
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { failIfBuilding } from '../../base-image/build-note.ts'
import { parseManifest } from '../../base-image/image.ts'
import { IMAGE_NAME } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { noSuchImage } from '../no-such-image.ts'
import type { BaseImage, BaseManifest, ImageBeginning } from '../provider.ts'
import { listFolders, readOwner, rootOf } from './folders.ts'

const MANIFEST = '.manifest.json'
const DISK = '.vhdx'

type Home = { home: string }

const rootOfImages = (home: string): string => join(rootOf(home), 'images')

/** Fails with `usage` for a name that an image cannot have. */
export const imageFiles = (home: string, name: string) => {
  if (!IMAGE_NAME.test(name))
    throw fail('usage', `"${name}" is not an image name`, 'Use lower-case letters, digits and hyphens, at most 41.')
  const at = (end: string) => join(rootOfImages(home), `${name}${end}`)
  return { image: at(DISK), manifest: at(MANIFEST) }
}

const filesOfImages = (home: string): string[] =>
  existsSync(rootOfImages(home)) ? readdirSync(rootOfImages(home)) : []

export const listImages = (home: string): string[] => {
  const files = filesOfImages(home)
  const names = files.filter(file => file.endsWith(MANIFEST)).map(file => file.slice(0, -MANIFEST.length))
  return names.filter(name => IMAGE_NAME.test(name) && files.includes(`${name}${DISK}`)).sort()
}

export const beginning: ImageBeginning = {
  from: 'FILE.vhdx',
  or: 'a qcow2 or raw file, where qemu-img is on PATH',
}

export const requireImage = ({ home }: Home, name: string): void => {
  if (!listImages(home).includes(name)) throw noSuchImage(name, beginning)
}

const readManifest = (home: string, name: string): BaseManifest | null => {
  try {
    return parseManifest(readFileSync(imageFiles(home, name).manifest, 'utf8'), name)
  } catch {
    return null
  }
}

/** Each folder of a machine says which image its disk depends on. */
const dependents = (home: string): Map<string, string[]> => {
  const found = new Map<string, string[]>()
  for (const vmId of listFolders(home)) {
    const image = readOwner(home, vmId)?.image ?? null
    if (image !== null) found.set(image, [...(found.get(image) ?? []), vmId])
  }
  return found
}

/** Also what a killed build left of an image: it has no manifest. */
export const describeImages = async ({ home }: Home): Promise<BaseImage[]> => {
  const files = filesOfImages(home)
  const names = files.flatMap(file => {
    const end = [MANIFEST, DISK].find(each => file.endsWith(each))
    const name = end === undefined ? '' : file.slice(0, -end.length)
    return IMAGE_NAME.test(name) ? [name] : []
  })
  const using = dependents(home)
  return [...new Set(names)].sort().map(name => ({
    name,
    manifest: files.includes(`${name}${DISK}`) ? readManifest(home, name) : null,
    machines: using.get(name) ?? [],
  }))
}

export const dependentsOf = (home: string, name: string): string[] => dependents(home).get(name) ?? []

/** Fails with `refused` while a machine depends on the image, or on what a killed build left of it. */
export const requireUnused = (home: string, name: string, doing: string): void => {
  const machines = dependentsOf(home, name)
  if (machines.length > 0)
    throw fail(
      'refused',
      `${doing}: ${machines.slice(0, 10).join(', ')} depend on it`,
      'Delete these machines first: agent-swarm list',
    )
}

/** Windows removes no read-only file. */
export const removeImage = async (home: string, name: string): Promise<void> => {
  const { image, manifest } = imageFiles(home, name)
  await rm(manifest, { force: true })
  if (existsSync(image)) chmodSync(image, 0o600)
  await rm(image, { force: true, maxRetries: 10 })
}

export const deleteImage = async ({ home }: Home, name: string): Promise<void> => {
  const { image, manifest } = imageFiles(home, name)
  const doing = `deleting the base image ${name}`
  failIfBuilding(rootOf(home), name, doing)
  if (!existsSync(image) && !existsSync(manifest)) throw fail('no-such-image', `${doing}: it does not exist`)
  requireUnused(home, name, doing)
  await removeImage(home, name)
}
