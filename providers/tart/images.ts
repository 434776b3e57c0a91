/**
 * Base images are VMs, `agent-swarm-base.<name>.<home>`, and a machine is a clone of one, which does not depend on it afterwards. A
 * VM gets that name when it is proven: there is no unfinished image. Its manifest is a file of our own, written just before.
 */
import { rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { failIfBuilding } from '../../base-image/build-note.ts'
import { checkImageName, imageExists, parseManifest } from '../../base-image/image.ts'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import type { BaseImage, BaseManifest } from '../provider.ts'
import { type Context, deleteVms, listAll, ofKind, renameVm, rootOf } from './context.ts'
import { readIfThere } from './machines.ts'
import { vmName } from './marks.ts'

const imageVm = ({ homeId }: Pick<Context, 'homeId'>, name: string): string =>
  vmName({ kind: 'image', name: checkImageName(name), home: homeId })

const manifestFile = ({ home }: Pick<Context, 'home'>, name: string): string =>
  join(rootOf({ home }), 'images', `${name}.json`)

const readManifest = (context: Context, name: string): BaseManifest | null =>
  parseManifest(readIfThere(manifestFile(context, name)) ?? '', name)

export const listImages = async (context: Context): Promise<string[]> =>
  ofKind(await listAll(context), 'image')
    .filter(({ mark }) => mark.home === context.homeId)
    .map(({ mark }) => mark.name)

export const describeImages = async (context: Context): Promise<BaseImage[]> =>
  (await listImages(context)).map(name => ({ name, manifest: readManifest(context, name), machines: [] }))

export const requireNoImage = async (context: Context, name: string): Promise<void> => {
  const vm = imageVm(context, name)
  if ((await listAll(context, `building ${name}`)).some(each => each.name === vm))
    throw imageExists(name, 'It is never overwritten.')
}

/** Makes a proven machine the image. */
export const publishImage = async (context: Context, machine: string, manifest: BaseManifest): Promise<void> => {
  const { name } = manifest
  await requireNoImage(context, name)
  const file = manifestFile(context, name)
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  writeFileAtomic(file, JSON.stringify(manifest, null, 2))
  await renameVm(context, machine, imageVm(context, name))
}

export const deleteImage = async (context: Context, name: string): Promise<void> => {
  const vm = imageVm(context, name)
  const doing = `deleting the base image ${name}`
  failIfBuilding(rootOf(context), name, doing)
  const image = (await listAll(context, doing)).find(each => each.name === vm)
  if (image === undefined) throw fail('no-such-image', `${doing}: it does not exist`)
  if (image.state === 'running')
    throw fail('refused', `${doing}: somebody runs it`, `Stop it: tart stop ${vm}. Machines are clones of it.`)
  await deleteVms(context, [vm], doing)
  rmSync(manifestFile(context, name), { force: true })
}
