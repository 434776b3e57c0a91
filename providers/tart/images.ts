/**
 * Base images are VMs, `agent-swarm-base.<name>.<home>`, and a machine is a clone of one, which does not depend on it afterwards. A
 * VM gets that name when it is proven: there is no unfinished image. Its manifest is a file of our own, written just before.
 */
import { rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as v from 'valibot'
import { IMAGE_NAME } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import { type BaseManifest, baseManifest } from '../../src/schema/machine.ts'
import type { BaseImage } from '../provider.ts'
import { failIfBuilding } from './build-note.ts'
import { type Context, deleteVms, listAll, ofKind, renameVm } from './context.ts'
import { readIfThere } from './machines.ts'
import { vmName } from './marks.ts'

/** Fails with `usage` for a name that an image cannot have: machines are named `as-…`. */
const imageVm = ({ homeId }: Pick<Context, 'homeId'>, name: string): string => {
  if (!IMAGE_NAME.test(name) || name.startsWith('as-'))
    throw fail(
      'usage',
      `"${name}" is not an image name`,
      'Use lower-case letters, digits and hyphens, at most 41, not beginning with "as-".',
    )
  return vmName({ kind: 'image', name, home: homeId })
}

const manifestFile = ({ home }: Pick<Context, 'home'>, name: string): string =>
  join(home, 'tart', 'images', `${name}.json`)

const readManifest = (context: Context, name: string): BaseManifest | null => {
  const text = readIfThere(manifestFile(context, name))
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), baseManifest), text)
  return read.success && read.output.name === name ? read.output : null
}

export const listImages = async (context: Context): Promise<string[]> =>
  ofKind(await listAll(context), 'image')
    .filter(({ mark }) => mark.home === context.homeId)
    .map(({ mark }) => mark.name)

export const describeImages = async (context: Context): Promise<BaseImage[]> =>
  (await listImages(context)).map(name => ({ name, manifest: readManifest(context, name), machines: [] }))

export const requireNoImage = async (context: Context, name: string): Promise<void> => {
  const vm = imageVm(context, name)
  if ((await listAll(context, `building ${name}`)).some(each => each.name === vm))
    throw fail(
      'already-exists',
      `the base image ${name} already exists`,
      'It is never overwritten. Choose another name: agent-swarm init-base <name> --from …',
    )
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
  failIfBuilding(context, name, doing)
  const image = (await listAll(context, doing)).find(each => each.name === vm)
  if (image === undefined) throw fail('no-such-image', `${doing}: it does not exist`)
  if (image.state === 'running')
    throw fail('refused', `${doing}: somebody runs it`, `Stop it: tart stop ${vm}. Machines are clones of it.`)
  await deleteVms(context, [vm], doing)
  rmSync(manifestFile(context, name), { force: true })
}
