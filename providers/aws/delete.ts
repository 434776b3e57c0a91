/** The end of machines, and what is left of those that do not exist any more. It is found by its tags; the image of a fork by its name. */
import { allow, fail } from '../../src/errors.ts'
import type { Leftover } from '../provider.ts'
import {
  byTag,
  type Context,
  checkId,
  describeInstances,
  isOurs,
  isPresent,
  LOOKS_FOR_NEW,
  listMarked,
  MARKED,
  MOST_LOOKS,
  machinesIn,
  poll,
  rootVolumeOf,
  severalOf,
  tagResources,
  tagsOf,
} from './context.ts'
import { allowCodes } from './explain.ts'
import { forgetLaunch, isLaunchNoted } from './launch-note.ts'
import { checkpointOf, forkImageName, parseMark, TAG, tagOf } from './marks.ts'
import {
  type Image,
  type Instance,
  images,
  type Snapshot,
  type SpotRequest,
  snapshots,
  spotRequests,
  type Tag,
  tagIndex,
  type Volume,
  volumes,
} from './parse.ts'

const GIB = 1024 ** 3
/** Commands at a time: each takes a processor for a second or two. */
const AT_ONCE = 4

type Parts = {
  instances: Instance[]
  volumes: Volume[]
  snapshots: Snapshot[]
  /** Of forks alone. */
  images: Image[]
  spotRequests: SpotRequest[]
}
type Filters = Parameters<typeof describeInstances>[1]

export const describeSnapshots = ({ aws }: Pick<Context, 'aws'>, filters: Filters, doing: string) =>
  aws.ask('ec2 describe-snapshots', { OwnerIds: ['self'], Filters: filters }, snapshots, { doing })

export const describeImages = ({ aws }: Pick<Context, 'aws'>, input: object, doing: string): Promise<Image[]> =>
  aws.ask('ec2 describe-images', input, images, { doing })

export const describeSpotRequests = ({ aws }: Pick<Context, 'aws'>, filters: Filters, doing: string) =>
  aws.ask('ec2 describe-spot-instance-requests', { Filters: filters }, spotRequests, { doing })

/** A request that has ended is shown for some days. */
const isOpen = ({ State }: SpotRequest): boolean => ['open', 'active', 'disabled'].includes(State)
const isThere = ({ State }: Volume): boolean => State !== 'deleting' && State !== 'deleted'
const exists = ({ State }: Instance): boolean => State.Name !== 'terminated'
/** A fork made it of another machine, to launch this one. */
const isOfFork = ({ Tags }: Snapshot): boolean => tagOf(Tags, TAG.fork) !== null

const PARTS = ['volume', 'snapshot', 'image', 'spot-instances-request'] as const
type Part = (typeof PARTS)[number]

/** `id` null: of all machines of any home. `wanted`: of which types, besides instances. */
const findParts = async (
  context: Context,
  id: string | null,
  doing: string,
  wanted: readonly Part[] = PARTS,
): Promise<Parts> => {
  const { aws, homeId } = context
  const filters = id === null ? [MARKED] : [byTag(TAG.vm, id)]
  // A fork that was killed has left one without tags.
  const named = id === null ? [MARKED] : [{ Name: 'name', Values: [forkImageName(homeId, id)] }]
  const only = <T>(type: Part, ask: () => Promise<T[]>) => (wanted.includes(type) ? ask() : [])
  const [instances, disks, copies, forkImages, requests] = await Promise.all([
    describeInstances(context, filters, doing),
    only('volume', () => aws.ask('ec2 describe-volumes', { Filters: filters }, volumes, { doing })),
    only('snapshot', () => describeSnapshots(context, filters, doing)),
    only('image', () => describeImages(context, { Owners: ['self'], Filters: named }, doing)),
    only('spot-instances-request', () => describeSpotRequests(context, filters, doing)),
  ])
  return {
    instances: instances.filter(exists),
    volumes: disks.filter(isThere),
    // Backups have the tags of their volume, too: AWS or somebody else made them.
    snapshots: copies.filter(each => checkpointOf(each.Tags) !== null || isOfFork(each)),
    images: forkImages,
    spotRequests: requests.filter(isOpen),
  }
}

const inBatches = async <T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> => {
  for (let at = 0; at < items.length; at += AT_ONCE) await Promise.all(items.slice(at, at + AT_ONCE).map(work))
}

/** Those with our mark. Fails with `not-ours` when the machine itself is another home's, `refused` when there are several. */
const ownParts = (context: Context, id: string, parts: Parts): Parts => {
  const own = ({ Tags }: { Tags: readonly Tag[] }): boolean => {
    const mark = parseMark(Tags)
    return mark !== null && mark.vmId === id && isOurs(context, mark)
  }
  if (parts.instances.length > 0 && !parts.instances.some(own))
    throw fail(
      'not-ours',
      `${id} belongs to another AGENT_SWARM_HOME`,
      'Use agent-swarm with that home. It is left alone here.',
    )
  const instances = parts.instances.filter(own)
  // Somebody launched another one with its tags.
  const alive = instances.filter(({ State }) => State.Name !== 'shutting-down')
  if (alive.length > 1) throw severalOf(id, alive)
  return {
    instances,
    volumes: parts.volumes.filter(own),
    snapshots: parts.snapshots.filter(own),
    // Their name has our home.
    images: parts.images,
    spotRequests: parts.spotRequests.filter(own),
  }
}

/** One at a time: an id that AWS does not know any more fails the whole command. */
const terminate = async (context: Context, ids: readonly string[], doing: string): Promise<void> => {
  for (const id of ids)
    await context.aws
      .tell('ec2 terminate-instances', { InstanceIds: [id] }, { doing })
      .catch(allowCodes('InvalidInstanceID.NotFound'))
  const isGone =
    ids.length === 0 ||
    (await poll(MOST_LOOKS, async () => {
      const found = await describeInstances(context, [{ Name: 'instance-id', Values: ids }], doing)
      return found.some(exists) ? undefined : true
    }))
  if (isGone === undefined) throw fail('timeout', `${doing}: AWS does not terminate it`, 'Try again later.')
}

export const deregisterImage = ({ aws }: Context, ImageId: string, doing: string): Promise<void> =>
  aws
    .tell('ec2 deregister-image', { ImageId }, { doing })
    .catch(allowCodes('InvalidAMIID.NotFound', 'InvalidAMIID.Unavailable'))

/** `allowed`: codes that are no failure, besides that it does not exist. */
export const deleteSnapshot = (
  { aws }: Context,
  SnapshotId: string,
  doing: string,
  ...allowed: string[]
): Promise<void> =>
  aws.tell('ec2 delete-snapshot', { SnapshotId }, { doing }).catch(allowCodes('InvalidSnapshot.NotFound', ...allowed))

/**
 * Images first: AWS keeps a snapshot that one is registered of
 * (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-deleting-snapshot.html). That of a fork may not be shown yet; its snapshot is
 * looked for again.
 */
const removeCopies = async (
  context: Context,
  { images: forkImages, snapshots: copies }: Pick<Parts, 'images' | 'snapshots'>,
  doing: string,
): Promise<void> => {
  await inBatches(forkImages, ({ ImageId }) => deregisterImage(context, ImageId, doing))
  await inBatches(copies, each =>
    deleteSnapshot(context, each.SnapshotId, doing, ...(isOfFork(each) ? ['InvalidSnapshot.InUse'] : [])),
  )
}

/** The disks of a machine go with it, and are looked for again afterwards. */
const removeParts = async (context: Context, id: string, parts: Parts, doing: string): Promise<void> => {
  const { aws } = context
  const requests = parts.spotRequests.map(({ SpotInstanceRequestId }) => SpotInstanceRequestId)
  // First: a request that is not cancelled launches the machine again.
  if (requests.length > 0)
    await aws
      .tell('ec2 cancel-spot-instance-requests', { SpotInstanceRequestIds: requests }, { doing })
      .catch(allowCodes('InvalidSpotInstanceRequestID.NotFound'))
  // After a restore that was killed, the root volume has no mark. With one, it is found when AWS does not delete it.
  const marked = new Set(parts.volumes.map(({ VolumeId }) => VolumeId))
  const unmarked = parts.instances
    .filter(({ State }) => State.Name !== 'shutting-down')
    .map(rootVolumeOf)
    .filter(each => each !== null && !marked.has(each))
  if (unmarked.length > 0)
    await tagResources(
      context,
      unmarked.filter(each => each !== null),
      tagsOf(context, { vmId: id, ticket: null, home: null }),
      doing,
    ).catch(allowCodes('InvalidVolume.NotFound', 'InvalidID'))
  // When somebody terminates a Spot machine in the console, its request launches another one, without our tags.
  const launched = parts.spotRequests.flatMap(({ InstanceId }) => InstanceId ?? [])
  await terminate(context, [...new Set([...parts.instances.map(each => each.InstanceId), ...launched])], doing)
  // One that is in use has a machine that AWS does not show yet, or is still detached: it is looked for again.
  if (parts.instances.length === 0)
    await inBatches(parts.volumes, ({ VolumeId }) =>
      aws.tell('ec2 delete-volume', { VolumeId }, { doing }).catch(allowCodes('InvalidVolume.NotFound', 'VolumeInUse')),
    )
  await removeCopies(context, parts, doing)
}

const isEmpty = (parts: Parts): boolean => Object.values(parts).every(items => items.length === 0)

/** Removes the machine and everything that it has in AWS. Done when nothing with its mark is left. */
export const deleteMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `deleting ${checkId(id)}`
  const find = async () => ownParts(context, id, await findParts(context, id, doing))
  // A launch that was killed may have made a machine that AWS does not show yet.
  const looks = isLaunchNoted(context, id) ? LOOKS_FOR_NEW : 1
  let parts = await poll(looks, async () => {
    const found = await find()
    return isEmpty(found) ? undefined : found
  })
  const isDone = await poll(LOOKS_FOR_NEW, async () => {
    if (parts === undefined || isEmpty(parts)) return true
    await removeParts(context, id, parts, doing)
    parts = await find()
    return isEmpty(parts) || undefined
  })
  if (isDone === undefined) throw fail('timeout', `${doing}: AWS still has parts of it`, 'Try again later.')
  forgetLaunch(context, id)
}

/** What a fork needed to launch its machines, of which this one was the first. */
export const removeForkCopies = async (context: Context, id: string, doing: string): Promise<void> => {
  const isDone = await poll(LOOKS_FOR_NEW, async () => {
    const found = ownParts(context, id, await findParts(context, id, doing, ['snapshot', 'image']))
    const copies = { images: found.images, snapshots: found.snapshots.filter(isOfFork) }
    if (copies.images.length + copies.snapshots.length === 0) return true
    await removeCopies(context, copies, doing)
    return undefined
  })
  if (isDone === undefined) throw fail('timeout', `${doing}: AWS still has its image or snapshot`, 'Try again later.')
}

// ── What is left ──

const vmIdsOf = (found: readonly Instance[]): Set<string> =>
  new Set(machinesIn(found.filter(exists)).map(({ mark }) => mark.vmId))

/** Which parts have the mark of a machine that is not there: one command for the tags of all. Without the right to it, any may. */
const partsWithoutMachine = async (context: Context, doing: string): Promise<Part[]> => {
  const filters = [
    { Name: 'key', Values: [TAG.vm] },
    { Name: 'resource-type', Values: PARTS },
  ]
  const [found, index] = await Promise.all([
    listMarked(context),
    context.aws.ask('ec2 describe-tags', { Filters: filters }, tagIndex, { doing }).catch(allow('permission')),
  ])
  const machines = vmIdsOf(found)
  return PARTS.filter(type => index?.some(each => each.ResourceType === type && !machines.has(each.Value)) ?? true)
}

/** Of any home. A checkpoint may hold work as much as a disk. */
export const listLeftovers = async (context: Context): Promise<Leftover[]> => {
  const doing = 'looking for what machines left'
  const wanted = await partsWithoutMachine(context, doing)
  if (wanted.length === 0) return []
  // At one time: a machine may have been made meanwhile.
  const parts = await findParts(context, null, doing, wanted)
  const machines = vmIdsOf(parts.instances)
  const left = new Map<string, Leftover>()
  const add = (tags: readonly Tag[], hasDisk: boolean, gibibytes: number) => {
    const vmId = parseMark(tags)?.vmId
    if (vmId === undefined || machines.has(vmId)) return
    const before = left.get(vmId) ?? { vmId, hasDisk: false, bytes: 0 }
    left.set(vmId, { vmId, hasDisk: before.hasDisk || hasDisk, bytes: before.bytes + gibibytes * GIB })
  }
  for (const { Tags, Size } of parts.volumes) add(Tags, true, Size)
  // That of a fork has nothing that its source does not have.
  for (const each of parts.snapshots) add(each.Tags, !isOfFork(each), each.VolumeSize)
  for (const { Tags } of parts.images) add(Tags, false, 0)
  for (const { Tags } of parts.spotRequests) add(Tags, false, 0)
  return [...left.values()]
}

/** A machine that AWS terminates at this moment is gone already for `look`: what it has is left, and its disk may stay. */
export const hasLeftDisk = async (context: Context, id: string): Promise<boolean> => {
  const parts = await findParts(context, checkId(id), `looking for what ${id} left`, ['volume', 'snapshot'])
  const copies = parts.snapshots.filter(each => !isOfFork(each))
  return !parts.instances.some(isPresent) && parts.volumes.length + copies.length > 0
}
