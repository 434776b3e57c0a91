/**
 * Forks: machines whose disk begins as a snapshot of another machine's. A launch takes a root volume from its image alone, and may
 * change nothing of it but size, type and `DeleteOnTermination` (https://repost.aws/knowledge-center/cloudformation-root-volume-property).
 * So an image is registered of the snapshot (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html), and
 * deregistered once the forks run, which harms neither them
 * (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html) nor their volumes
 * (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-deleting-snapshot.html). The first fork has the mark of what is made for that.
 */
import { fail } from '../../src/errors.ts'
import type { ForkTarget } from '../provider.ts'
import {
  type Checkpoint,
  checkName,
  checkpointsOf,
  makeSnapshot,
  requireCheckpoint,
  stillCopies,
} from './checkpoints.ts'
import { type Context, LOOKS_FOR_NEW, look, MOST_LOOKS, poll, tagResources, tagsOf } from './context.ts'
import { deleteMachine, describeSnapshots, removeForkCopies } from './delete.ts'
import { allowCodes } from './explain.ts'
import { imageBytes, waitForImage } from './images.ts'
import { forgetLaunch, isLaunchNoted, noteLaunch } from './launch-note.ts'
import { clientToken, isRefusal, makeInstance, noSecurityGroup, startMachine } from './machines.ts'
import { forkImageName, parseSize, type Size, TAG } from './marks.ts'
import { type Image, type Instance, madeImage, type Tag } from './parse.ts'
import { type Doing, whileUnderWay } from './replacements.ts'

const GIB = 1024 ** 3

/** `checkpoint` null: as it is now. */
type Source = { instance: Instance; size: Size; checkpoint: Checkpoint | null }
/** `owner`: the first of the forks, whose deletion removes what an interrupted call left. */
type Forking = Doing & { id: string; source: Source; owner: ForkTarget }

const requireSize = (instance: Instance, doing: string): Size => {
  const size = parseSize(instance.Tags)
  if (size !== null) return size
  throw fail(
    'damaged',
    `${doing}: the tag ${TAG.size} of ${instance.InstanceId} does not say its size`,
    'Make a machine for another ticket, for example a sub-task: agent-swarm create TICKET',
  )
}

/** Fails with `no-such-checkpoint`. */
const findSource = async ({ context, doing }: Doing, id: string, checkpoint: string | null): Promise<Source> => {
  if (checkpoint === null) {
    // A restore that was killed may still replace the disk.
    await whileUnderWay({ context, doing }, (await look(context, id)).instance)
    const { instance } = await look(context, id)
    return { instance, size: requireSize(instance, doing), checkpoint }
  }
  const name = checkName(checkpoint)
  const [{ instance }, found] = await Promise.all([look(context, id), checkpointsOf(context, id, doing)])
  return { instance, size: requireSize(instance, doing), checkpoint: requireCheckpoint(found, name, doing) }
}

const tagsFor = ({ context, id, owner: { vmId, ticket } }: Forking): Tag[] => [
  ...tagsOf(context, { vmId, ticket, home: null }),
  { Key: TAG.fork, Value: id },
]

/** For `.catch()`: AWS made nothing of what it refused, so nothing is looked for. */
const forgetRefused =
  ({ context, owner }: Forking) =>
  (error: unknown): never => {
    if (isRefusal(error)) forgetLaunch(context, owner.vmId)
    throw error
  }

/** The id of a snapshot that AWS has copied: it registers no image of others. */
const snapshotOf = async (forking: Forking): Promise<string> => {
  const { context, id, source, doing } = forking
  const snapshot =
    source.checkpoint?.snapshot.SnapshotId ??
    (await makeSnapshot(forking, source.instance, `agent-swarm: forks of ${id}`, tagsFor(forking)).catch(
      forgetRefused(forking),
    ))
  const filter = { Name: 'snapshot-id', Values: [snapshot] }
  const copied = await poll(MOST_LOOKS, async () => {
    const [seen] = await describeSnapshots(context, [filter], doing)
    if (seen?.State === 'error') throw fail('unknown', `${doing}: AWS could not make the snapshot`, 'Try again.')
    return seen?.State === 'completed' ? seen : undefined
  })
  if (copied === undefined) throw stillCopies(doing)
  return snapshot
}

/**
 * The image says what the source's says, since register-image has other defaults: i386, paravirtual, no ENA. AWS takes the licence
 * from the snapshot, and an image whose platform is another one is to be thrown away (API_RegisterImage, as above).
 */
const registerImage = async (forking: Forking, snapshot: string): Promise<Image> => {
  const { context, id, owner, source, doing } = forking
  const { RootDeviceName, Architecture, VirtualizationType, EnaSupport, SriovNetSupport, BootMode, TpmSupport } =
    source.instance
  const request = {
    ...{ Name: forkImageName(context.homeId, owner.vmId), Description: `agent-swarm: forks of ${id}` },
    BlockDeviceMappings: [{ DeviceName: RootDeviceName, Ebs: { SnapshotId: snapshot } }],
    ...{ RootDeviceName, Architecture, VirtualizationType, EnaSupport, SriovNetSupport, BootMode, TpmSupport },
  }
  // An image that was deregistered may have its name for a moment.
  const made = await poll(LOOKS_FOR_NEW, () =>
    context.aws
      .ask('ec2 register-image', request, madeImage, { doing })
      .catch(allowCodes('InvalidAMIName.Duplicate'))
      .catch(forgetRefused(forking)),
  )
  if (made === undefined)
    throw fail('busy', `${doing}: AWS still has the image of an earlier fork`, 'Try again in a minute.')
  const image = await waitForImage(context, made.ImageId, doing)
  await tagResources(context, [image.ImageId], tagsFor(forking), doing)
  const [wanted, given] = [source.instance.PlatformDetails, image.PlatformDetails]
  if (wanted !== given)
    throw fail(
      'unsupported',
      `${doing}: AWS does not take over its licence: it is ${wanted ?? 'of no platform'}, and its image ${given ?? 'of no platform'}`,
      'Make a machine for another ticket, for example a sub-task: agent-swarm create TICKET',
    )
  return image
}

/**
 * On demand, also where others are Spot: a persistent request launches what it describes again and again, and the image that this
 * one would name is gone.
 */
const launchForks = async (
  { context, source, doing }: Forking,
  image: Image,
  targets: readonly ForkTarget[],
  again: ReadonlySet<string>,
): Promise<void> => {
  const diskGiB = Math.max(source.size.diskGiB, Math.ceil(imageBytes(image) / GIB))
  const size = { ...source.size, diskGiB }
  for (const { ticket, ...keys } of targets) {
    // Nobody can guess it, and each call of a fork has an image of its own.
    const machineId = clientToken(keys.vmId, keys.hostKey.privateKey, image.ImageId).slice(0, 32)
    const options = { ...keys, machineId }
    const launch = { ticket, options, image, size, market: 'on-demand' as const, isAgain: again.has(keys.vmId) }
    await makeInstance(context, launch, doing)
  }
  for (const { vmId } of targets) await startMachine(context, vmId)
}

/** All of them, also when one fails. */
const removeAll = async (context: Context, targets: readonly ForkTarget[]): Promise<void> => {
  const failures: unknown[] = []
  for (const { vmId } of targets) await deleteMachine(context, vmId).catch(error => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

/** They run afterwards: AWS has no launch without a boot, and a stop would end cloud-init halfway, which it does not repair. */
export const forkMachine = async (
  context: Context,
  id: string,
  checkpoint: string | null,
  targets: readonly ForkTarget[],
): Promise<void> => {
  const doing = `forking ${id}`
  const [owner] = targets
  if (owner === undefined) return
  if (context.settings.awsSecurityGroup === null) throw noSecurityGroup(doing)
  const source = await findSource({ context, doing }, id, checkpoint)
  const again = new Set(targets.map(({ vmId }) => vmId).filter(vmId => isLaunchNoted(context, vmId)))
  await removeAll(context, targets)
  try {
    // Until it is shown, a snapshot or image is looked for as long as a launch.
    noteLaunch(context, owner.vmId)
    const forking = { context, doing, id, source, owner }
    await launchForks(forking, await registerImage(forking, await snapshotOf(forking)), targets, again)
    await removeForkCopies(context, owner.vmId, doing)
  } catch (error) {
    await removeAll(context, targets)
    throw error
  }
}
