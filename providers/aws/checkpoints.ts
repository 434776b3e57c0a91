/** Checkpoints are snapshots of the root volume: what is on the disk when they are made, and nothing of the memory. */
import { isPreRestore, parseCheckpointName } from '../../src/domain.ts'
import { allow, fail } from '../../src/errors.ts'
import {
  byTag,
  type Context,
  checkId,
  isOurs,
  LOOKS_FOR_NEW,
  look,
  MOST_LOOKS,
  poll,
  rootVolumeOf,
  statusOf,
  tagResources,
  tagsOf,
} from './context.ts'
import { deleteSnapshot, describeSnapshots } from './delete.ts'
import { clientToken, startMachine, stopMachine } from './machines.ts'
import { checkpointOf, parseMark, specifications, TAG, tagOf } from './marks.ts'
import { type Instance, madeSnapshot, madeTask, type Snapshot, type Tag, type Task } from './parse.ts'
import { type Doing, removeFormerDisks, waitForTask, whileUnderWay } from './replacements.ts'

/** Each attempt has a token of its own: that of a task that failed brings that one back. */
const MOST_ATTEMPTS = 5
const FAILED = ['failed', 'failed-detached']

export const checkName = (name: string): string => {
  if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is not a checkpoint name`)
  return name
}

export type Checkpoint = { name: string; snapshot: Snapshot }

/** Oldest first; those that AWS could not make are left out. A crash may have left two of one name: the newer one counts. */
export const checkpointsOf = async (context: Context, id: string, doing: string): Promise<Checkpoint[]> => {
  const found = await describeSnapshots(context, [byTag(TAG.vm, checkId(id))], doing)
  return found
    .flatMap(snapshot => {
      const [mark, name] = [parseMark(snapshot.Tags), checkpointOf(snapshot.Tags)]
      return mark === null || name === null || !isOurs(context, mark) ? [] : [{ name, snapshot }]
    })
    .sort((one, other) => (one.snapshot.StartTime < other.snapshot.StartTime ? -1 : 1))
}
const isUsable = ({ snapshot }: Checkpoint): boolean => snapshot.State !== 'error'

/** Fails with `no-such-checkpoint`. */
export const requireCheckpoint = (found: readonly Checkpoint[], name: string, doing: string): Checkpoint => {
  const checkpoint = found.findLast(each => each.name === name && isUsable(each))
  if (checkpoint !== undefined) return checkpoint
  throw fail('no-such-checkpoint', `${doing}: it has no such checkpoint`)
}

const requireRoot = (instance: Instance, doing: string): string => {
  const volume = rootVolumeOf(instance)
  if (volume !== null) return volume
  throw fail(
    'damaged',
    `${doing}: the machine has no root volume`,
    `A restore that failed can leave it so: attach a volume to ${instance.InstanceId} as ${instance.RootDeviceName ?? 'its root device'} in the console of AWS.`,
  )
}

export const stillCopies = (doing: string) =>
  fail('busy', `${doing}: AWS still copies its checkpoints`, 'Try again later.')

/**
 * A restore follows a checkpoint that keeps the state before it, and waits until AWS has copied what it restores. The guest goes on
 * meanwhile, so that wait is here, before this checkpoint.
 */
const waitForEarlier = async (context: Context, id: string, doing: string): Promise<void> => {
  const areWhole = await poll(MOST_LOOKS, async () => {
    const found = await checkpointsOf(context, id, doing)
    return found.every(({ snapshot }) => snapshot.State !== 'pending') || undefined
  })
  if (areWhole === undefined) throw stillCopies(doing)
}

/** Of the root volume as it is. Returns its id. */
export const makeSnapshot = async (
  { context, doing }: Doing,
  instance: Instance,
  description: string,
  tags: readonly Tag[],
): Promise<string> => {
  const request = {
    VolumeId: requireRoot(instance, doing),
    Description: description,
    TagSpecifications: specifications(['snapshot'], tags),
  }
  // AWS makes a few of one volume at a time, and one within some seconds.
  const made = await poll(LOOKS_FOR_NEW, () =>
    context.aws.ask('ec2 create-snapshot', request, madeSnapshot, { doing }).catch(allow('busy')),
  )
  if (made !== undefined) return made.SnapshotId
  throw fail('busy', `${doing}: AWS still makes earlier ones of this machine`, 'Try again in a minute.')
}

export const makeCheckpoint = async (context: Context, id: string, name: string): Promise<{ sizeBytes: null }> => {
  const doing = `making the checkpoint ${checkName(name)} of ${id}`
  if (isPreRestore(name)) await waitForEarlier(context, id, doing)
  const [machine, before] = await Promise.all([look(context, id), checkpointsOf(context, id, doing)])
  const { mark, instance } = machine
  if (before.some(each => each.name === name && isUsable(each)))
    throw fail('already-exists', `${doing}: it already exists`)
  const made = await makeSnapshot({ context, doing }, instance, `agent-swarm: ${id}, ${name}`, [
    ...tagsOf(context, mark),
    { Key: TAG.checkpoint, Value: name },
    { Key: TAG.captured, Value: statusOf(instance) === 'stopped' ? 'stopped' : 'running' },
  ])
  await poll(LOOKS_FOR_NEW, async () =>
    (await checkpointsOf(context, id, doing)).find(({ snapshot }) => snapshot.SnapshotId === made),
  )
  await removeFormerDisks({ context, doing }, machine, async () => before.map(({ snapshot }) => snapshot))
  return { sizeBytes: null }
}

export const listCheckpoints = async (context: Context, id: string): Promise<string[]> => {
  const [, found] = await Promise.all([
    look(context, id),
    checkpointsOf(context, id, `listing the checkpoints of ${id}`),
  ])
  // Of two with one name, the newer one has its place in the order.
  return [
    ...new Set(
      found
        .filter(isUsable)
        .map(({ name }) => name)
        .reverse(),
    ),
  ].reverse()
}

export const deleteCheckpoint = async (context: Context, id: string, name: string): Promise<void> => {
  const doing = `deleting the checkpoint ${checkName(name)} of ${id}`
  const [, found] = await Promise.all([look(context, id), checkpointsOf(context, id, doing)])
  for (const { snapshot } of found.filter(each => each.name === name))
    await deleteSnapshot(context, snapshot.SnapshotId, doing)
}

// ── Restore ──

type Restore = Doing & { id: string; name: string }

/** Whether AWS has copied the checkpoint. What is still copied of the present disk needs no wait: that disk stays until then. */
const isWhole = ({ name, doing }: Restore, { snapshot }: Checkpoint, found: readonly Checkpoint[]): boolean => {
  const wanted = found.find(each => each.snapshot.SnapshotId === snapshot.SnapshotId)
  if (wanted === undefined || !isUsable(wanted))
    throw fail('no-such-checkpoint', `${doing}: AWS could not make the checkpoint ${name}`)
  const newest = found.at(-1)
  if (newest !== undefined && !isUsable(newest))
    throw fail(
      'damaged',
      `${doing}: AWS could not make the newest checkpoint, ${newest.name}, and a restore removes the present disk`,
      'Make another checkpoint first, and try again.',
    )
  return wanted.snapshot.State !== 'pending'
}

const waitForCheckpoint = async (
  restore: Restore,
  checkpoint: Checkpoint,
  found: readonly Checkpoint[],
): Promise<void> => {
  const { context, id, doing } = restore
  if (isWhole(restore, checkpoint, found)) return
  const done = await poll(
    MOST_LOOKS,
    async () => isWhole(restore, checkpoint, await checkpointsOf(context, id, doing)) || undefined,
  )
  if (done === undefined) throw stillCopies(doing)
}

/**
 * The token names the present disk: the same restore, repeated after a crash, is one task, and the next restore is another. AWS
 * gives tags of a task to the task alone. The present disk gets its mark before, which a restore that was killed left out: it stays
 * for a while.
 */
const replaceRoot = async (restore: Restore, machine: Awaited<ReturnType<typeof look>>, { snapshot }: Checkpoint) => {
  const { context, id, name, doing } = restore
  const volume = requireRoot(machine.instance, doing)
  await tagResources(context, [volume], tagsOf(context, machine.mark), doing)
  for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt += 1) {
    const request = {
      InstanceId: machine.instance.InstanceId,
      SnapshotId: snapshot.SnapshotId,
      DeleteReplacedRootVolume: false,
      ClientToken: clientToken(id, `restore ${name}`, snapshot.SnapshotId, volume, String(attempt)),
      TagSpecifications: specifications(
        ['replace-root-volume-task'],
        [...tagsOf(context, machine.mark), { Key: TAG.checkpoint, Value: name }, { Key: TAG.former, Value: volume }],
      ),
    }
    const made = await context.aws.ask('ec2 create-replace-root-volume-task', request, madeTask, { doing })
    // A task that ended before is an earlier attempt's.
    if (!FAILED.includes(made.TaskState)) return waitForTask(restore, made.ReplaceRootVolumeTaskId)
  }
  throw fail('unknown', `${doing}: AWS could not replace the disk, ${MOST_ATTEMPTS} times`)
}

const requireReplaced = ({ doing }: Restore, { TaskState }: Task): void => {
  if (TaskState === 'succeeded') return
  throw fail(
    TaskState === 'failed-detached' ? 'damaged' : 'unknown',
    `${doing}: AWS could not replace the disk (${TaskState})`,
    TaskState === 'failed-detached'
      ? 'The machine has no disk now. Its checkpoints are kept: attach a volume made of one in the console of AWS.'
      : 'The machine has its former disk. Try again.',
  )
}

export const restoreCheckpoint = async (context: Context, id: string, name: string): Promise<void> => {
  const restore: Restore = { context, id, name, doing: `restoring ${id} to ${checkName(name)}` }
  const { doing } = restore
  const [machine, found] = await Promise.all([look(context, id), checkpointsOf(context, id, doing)])
  const checkpoint = requireCheckpoint(found, name, doing)
  const earlier = await whileUnderWay(restore, machine.instance)
  const isSame = earlier?.TaskState === 'succeeded' && tagOf(earlier.Tags, TAG.checkpoint) === name
  if (!isSame) {
    await waitForCheckpoint(restore, checkpoint, found)
    // AWS replaces the disk of a running machine alone.
    await startMachine(context, id)
    requireReplaced(restore, await replaceRoot(restore, await look(context, id), checkpoint))
  }
  // The new disk has no mark yet.
  const restored = await look(context, id)
  await tagResources(context, [requireRoot(restored.instance, doing)], tagsOf(context, restored.mark), doing)
  await removeFormerDisks(restore, restored, async () =>
    (await checkpointsOf(context, id, doing)).map(({ snapshot }) => snapshot),
  )
  if (tagOf(checkpoint.snapshot.Tags, TAG.captured) === 'stopped') await stopMachine(context, id)
}
