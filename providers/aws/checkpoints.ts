/** Checkpoints are snapshots of the root volume: what is on the disk when they are made, and nothing of the memory. */
import { parseCheckpointName } from '../../src/domain.ts'
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
import { describeSnapshots } from './delete.ts'
import { allowCodes } from './explain.ts'
import { clientToken, startMachine, stopMachine } from './machines.ts'
import { checkpointOf, parseMark, specifications, TAG, tagOf } from './marks.ts'
import { type Instance, madeSnapshot, madeTask, type Snapshot, type Task, tasks } from './parse.ts'

/** Each attempt has a token of its own: that of a task that failed brings that one back. */
const MOST_ATTEMPTS = 5
/** `failing` and `failing-detached` go on to these. */
const FAILED = ['failed', 'failed-detached']
const UNDER_WAY = ['pending', 'in-progress', 'failing', 'failing-detached']

const checkName = (name: string): string => {
  if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is not a checkpoint name`)
  return name
}

type Checkpoint = { name: string; snapshot: Snapshot }

/** Oldest first; those that AWS could not make are left out. A crash may have left two of one name: the newer one counts. */
const checkpointsOf = async (context: Context, id: string, doing: string): Promise<Checkpoint[]> => {
  const found = await describeSnapshots(context, [byTag(TAG.vm, checkId(id))], doing)
  return found
    .flatMap(snapshot => {
      const [mark, name] = [parseMark(snapshot.Tags), checkpointOf(snapshot.Tags)]
      return mark === null || name === null || !isOurs(context, mark) ? [] : [{ name, snapshot }]
    })
    .sort((one, other) => (one.snapshot.StartTime < other.snapshot.StartTime ? -1 : 1))
}
const isUsable = ({ snapshot }: Checkpoint): boolean => snapshot.State !== 'error'

const requireRoot = (instance: Instance, doing: string): string => {
  const volume = rootVolumeOf(instance)
  if (volume !== null) return volume
  throw fail(
    'damaged',
    `${doing}: the machine has no root volume`,
    `A restore that failed can leave it so: attach a volume to ${instance.InstanceId} as ${instance.RootDeviceName ?? 'its root device'} in the console of AWS.`,
  )
}

export const makeCheckpoint = async (context: Context, id: string, name: string): Promise<{ sizeBytes: null }> => {
  const doing = `making the checkpoint ${checkName(name)} of ${id}`
  const [{ mark, instance }, before] = await Promise.all([look(context, id), checkpointsOf(context, id, doing)])
  if (before.some(each => each.name === name && isUsable(each)))
    throw fail('already-exists', `${doing}: it already exists`)
  const request = {
    VolumeId: requireRoot(instance, doing),
    Description: `agent-swarm: ${id}, ${name}`,
    TagSpecifications: specifications(
      ['snapshot'],
      [
        ...tagsOf(context, mark),
        { Key: TAG.checkpoint, Value: name },
        { Key: TAG.captured, Value: statusOf(instance) === 'stopped' ? 'stopped' : 'running' },
      ],
    ),
  }
  // AWS makes a few of one volume at a time, and one within some seconds.
  const made = await poll(LOOKS_FOR_NEW, () =>
    context.aws.ask('ec2 create-snapshot', request, madeSnapshot, { doing }).catch(allow('busy')),
  )
  if (made === undefined)
    throw fail('busy', `${doing}: AWS still makes earlier ones of this machine`, 'Try again in a minute.')
  await poll(LOOKS_FOR_NEW, async () =>
    (await checkpointsOf(context, id, doing)).find(({ snapshot }) => snapshot.SnapshotId === made.SnapshotId),
  )
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
    await context.aws
      .tell('ec2 delete-snapshot', { SnapshotId: snapshot.SnapshotId }, { doing })
      .catch(allowCodes('InvalidSnapshot.NotFound'))
}

// ── Restore ──

type Doing = { context: Context; doing: string }
type Restore = Doing & { id: string; name: string }

const describeTasks = ({ context, doing }: Doing, filter: object): Promise<Task[]> =>
  context.aws.ask('ec2 describe-replace-root-volume-tasks', filter, tasks, { doing })

/** A task goes on when its process dies. It may be that of this restore, or of another one. */
const waitForTask = async (restore: Doing, taskId: string): Promise<Task> => {
  const ended = await poll(MOST_LOOKS, async () => {
    const [task] = await describeTasks(restore, { ReplaceRootVolumeTaskIds: [taskId] })
    return task === undefined || UNDER_WAY.includes(task.TaskState) ? undefined : task
  })
  if (ended !== undefined) return ended
  throw fail('timeout', `${restore.doing}: AWS did not replace the disk in time`, 'Try again later.')
}

/** Undefined: AWS replaces no disk of it now. */
export const whileUnderWay = async (restore: Doing, { InstanceId }: Instance): Promise<Task | undefined> => {
  const all = await describeTasks(restore, { Filters: [{ Name: 'instance-id', Values: [InstanceId] }] })
  const task = all.find(({ TaskState }) => UNDER_WAY.includes(TaskState))
  return task === undefined ? undefined : waitForTask(restore, task.ReplaceRootVolumeTaskId)
}

/** Whether AWS has copied everything that a restore needs. It removes the present disk, which the newest checkpoint may be of. */
const areWhole = ({ name, doing }: Restore, { snapshot }: Checkpoint, found: readonly Checkpoint[]): boolean => {
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
  return found.every(each => each.snapshot.State !== 'pending')
}

const waitForSnapshots = async (
  restore: Restore,
  checkpoint: Checkpoint,
  found: readonly Checkpoint[],
): Promise<void> => {
  const { context, id, doing } = restore
  if (areWhole(restore, checkpoint, found)) return
  const done = await poll(
    MOST_LOOKS,
    async () => areWhole(restore, checkpoint, await checkpointsOf(context, id, doing)) || undefined,
  )
  if (done === undefined) throw fail('busy', `${doing}: AWS still copies its checkpoints`, 'Try again later.')
}

/**
 * The token names the present disk: the same restore, repeated after a crash, is one task, and the next restore is another. AWS
 * gives tags of a task to the task alone.
 */
const replaceRoot = async (restore: Restore, machine: Awaited<ReturnType<typeof look>>, { snapshot }: Checkpoint) => {
  const { context, id, name, doing } = restore
  const volume = requireRoot(machine.instance, doing)
  for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt += 1) {
    const request = {
      InstanceId: machine.instance.InstanceId,
      SnapshotId: snapshot.SnapshotId,
      DeleteReplacedRootVolume: true,
      ClientToken: clientToken(id, `restore ${name}`, snapshot.SnapshotId, volume, String(attempt)),
      TagSpecifications: specifications(
        ['replace-root-volume-task'],
        [...tagsOf(context, machine.mark), { Key: TAG.checkpoint, Value: name }],
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
  const checkpoint = found.findLast(each => each.name === name && isUsable(each))
  if (checkpoint === undefined) throw fail('no-such-checkpoint', `${doing}: it has no such checkpoint`)
  const earlier = await whileUnderWay(restore, machine.instance)
  const isSame = earlier?.TaskState === 'succeeded' && tagOf(earlier.Tags, TAG.checkpoint) === name
  if (!isSame) {
    await waitForSnapshots(restore, checkpoint, found)
    // AWS replaces the disk of a running machine alone.
    await startMachine(context, id)
    requireReplaced(restore, await replaceRoot(restore, await look(context, id), checkpoint))
  }
  // The new disk has no mark yet.
  const { mark, instance } = await look(context, id)
  await tagResources(context, [requireRoot(instance, doing)], tagsOf(context, mark), doing)
  if (tagOf(checkpoint.snapshot.Tags, TAG.captured) === 'stopped') await stopMachine(context, id)
}
