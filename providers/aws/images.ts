/**
 * Base images are images of the account (AMIs) that we made, found by their tags. The profile is written into the tags last, so
 * that an unproven image does not count. What the tags do not hold of a manifest lies in a file of the home that built it.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { failIfBuilding } from '../../base-image/build-note.ts'
import { checkImageName, parseManifest } from '../../base-image/image.ts'
import { IMAGE_PROFILES } from '../../src/domain.ts'
import { allow, fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import { noSuchImage } from '../no-such-image.ts'
import type { BaseImage, BaseManifest, ImageBeginning } from '../provider.ts'
import { folderOf } from './aws.ts'
import { byTag, type Context, describeInstances, MOST_LOOKS, machinesIn, poll } from './context.ts'
import { deleteSnapshot, deregisterImage, describeImages, describeSnapshots } from './delete.ts'
import { imageOf, TAG, tagOf } from './marks.ts'
import type { Image } from './parse.ts'

const GIB = 1024 ** 3
const TAGGED = { Name: 'tag-key', Values: [TAG.image] }

const ofOurs = (filter: typeof TAGGED | ReturnType<typeof byTag>) => ({ Owners: ['self'], Filters: [filter] })

/** What the guest sees of the root device, in bytes. */
export const imageBytes = ({ BlockDeviceMappings, RootDeviceName }: Image): number =>
  (BlockDeviceMappings.find(({ DeviceName }) => DeviceName === RootDeviceName)?.Ebs?.VolumeSize ?? 0) * GIB

const isProven = ({ State, Tags }: Image): boolean => State === 'available' && tagOf(Tags, TAG.proven) !== null

/** Of any home, also those that are not proven, which come last. */
export const imagesNamed = async (context: Context, name: string): Promise<Image[]> => {
  const filter = ofOurs(byTag(TAG.image, checkImageName(name)))
  const found = await describeImages(context, filter, `looking for the base image ${name}`)
  return found.sort((one, other) => Number(isProven(other)) - Number(isProven(one)))
}
export const findImage = async (context: Context, name: string): Promise<Image | undefined> =>
  (await imagesNamed(context, name))[0]

/** Homes of one account share their images, and each deletes its own alone. */
export const isOwnImage = ({ homeId }: Pick<Context, 'homeId'>, { Tags }: Pick<Image, 'Tags'>): boolean =>
  tagOf(Tags, TAG.home) === homeId

export const beginning: ImageBeginning = {
  from: 'ami-…',
  or: 'any other plain image of a distribution: docs/aws.md',
}

export const requireProven = (name: string, image: Image | undefined): Image => {
  if (image !== undefined && isProven(image)) return image
  throw noSuchImage(name, beginning)
}

export const listImages = async (context: Context): Promise<string[]> =>
  (await describeImages(context, ofOurs(TAGGED), 'listing the base images'))
    .filter(isProven)
    .flatMap(({ Tags }) => imageOf(Tags) ?? [])

/** Waits until machines can be made of an image that was just made. */
export const waitForImage = async (
  context: Context,
  imageId: string,
  doing: string,
  signal?: AbortSignal,
): Promise<Image> => {
  const image = await poll(MOST_LOOKS, async () => {
    if (signal?.aborted) throw fail('cancelled', `${doing}: cancelled`)
    const [seen] = await describeImages(context, { ImageIds: [imageId] }, doing).catch(failure => [
      allow('no-such-image')(failure),
    ])
    if (seen?.State === 'failed' || seen?.State === 'error')
      throw fail('unknown', `${doing}: AWS could not make the image: ${seen.StateReason?.Message || seen.State}`)
    return seen?.State === 'available' ? seen : undefined
  })
  if (image === undefined) throw fail('timeout', `${doing}: AWS did not make the image in time`)
  return image
}

// ── Manifests ──

const manifestFile = (context: Context, imageId: string) => join(folderOf(context), `${imageId}.json`)

export const writeManifest = (context: Context, imageId: string, manifest: BaseManifest): void =>
  writeFileAtomic(manifestFile(context, imageId), JSON.stringify(manifest, null, 2))

const readManifest = (context: Context, name: string, imageId: string): BaseManifest | null => {
  const file = manifestFile(context, imageId)
  return existsSync(file) ? parseManifest(readFileSync(file, 'utf8'), name) : null
}

/** Of an image that another home built. */
const manifestOfTags = (name: string, image: Image): BaseManifest => ({
  ...{ name, provider: 'aws', sha256: null, source: tagOf(image.Tags, TAG.source) ?? 'unknown' },
  profile: IMAGE_PROFILES.find(profile => profile === tagOf(image.Tags, TAG.proven)) ?? null,
  ...{ contents: [], proven: [], unproven: [], homeId: tagOf(image.Tags, TAG.home) },
  ...{ createdAt: image.CreationDate.slice(0, 40), sizeBytes: imageBytes(image) },
})

// ── List and delete ──

/** Images by name, and the names that a killed build or delete left a snapshot of. */
const findImages = async (context: Context, doing: string) => {
  const [all, copies] = await Promise.all([
    describeImages(context, ofOurs(TAGGED), doing),
    describeSnapshots(context, [TAGGED], doing),
  ])
  const named = all.flatMap(image => {
    const name = imageOf(image.Tags)
    return name === null ? [] : [{ name, image }]
  })
  const names = [...named.map(({ name }) => name), ...copies.flatMap(({ Tags }) => imageOf(Tags) ?? [])]
  return { named, copies, names: [...new Set(names)].sort() }
}

/** Machines do not need their image any more. It tells which ones were made of it. */
const machinesOf = async (context: Context, imageIds: readonly string[], doing: string) =>
  imageIds.length === 0
    ? []
    : machinesIn(
        (await describeInstances(context, [{ Name: 'image-id', Values: imageIds }], doing)).filter(
          ({ State }) => State.Name !== 'terminated',
        ),
      )

export const describeBaseImages = async (context: Context): Promise<BaseImage[]> => {
  const doing = 'listing the base images'
  const { named, names } = await findImages(context, doing)
  const machines = await machinesOf(
    context,
    named.map(({ image }) => image.ImageId),
    doing,
  )
  return names.map(name => {
    const image = named.find(each => each.name === name)?.image
    const isWhole = image !== undefined && isProven(image)
    return {
      name,
      manifest: isWhole ? (readManifest(context, name, image.ImageId) ?? manifestOfTags(name, image)) : null,
      machines: machines.filter(({ instance }) => instance.ImageId === image?.ImageId).map(({ mark }) => mark.vmId),
    }
  })
}

/**
 * What this home made of an image. Deregisters first: a snapshot that an image uses cannot be deleted. False: nothing of it is
 * there.
 */
export const removeImage = async (context: Context, name: string, doing: string): Promise<boolean> => {
  const { named, copies } = await findImages(context, doing)
  const own = named.filter(each => each.name === name && isOwnImage(context, each.image)).map(({ image }) => image)
  const snapshots = copies.filter(copy => imageOf(copy.Tags) === name && isOwnImage(context, copy))
  for (const { ImageId } of own) {
    await deregisterImage(context, ImageId, doing)
    rmSync(manifestFile(context, ImageId), { force: true })
  }
  for (const { SnapshotId } of snapshots) await deleteSnapshot(context, SnapshotId, doing)
  return own.length + snapshots.length > 0
}

export const deleteImage = async (context: Context, name: string): Promise<void> => {
  const doing = `deleting the base image ${checkImageName(name)}`
  failIfBuilding(folderOf(context), name, doing)
  const found = await imagesNamed(context, name)
  const own = found.filter(image => isOwnImage(context, image)).map(({ ImageId }) => ImageId)
  const using = (await machinesOf(context, own, doing)).map(({ mark }) => mark.vmId)
  if (using.length > 0) throw fail('refused', `${doing}: ${using.slice(0, 10).join(', ')} were made of it`)
  if (await removeImage(context, name, doing)) return
  const { names } = await findImages(context, doing)
  throw names.includes(name)
    ? fail(
        'not-ours',
        `${doing}: another AGENT_SWARM_HOME built it`,
        'Use agent-swarm with that home. It is left alone here.',
      )
    : fail('no-such-image', `${doing}: it does not exist`)
}
