/** The tasks of AWS that replace root volumes, and the disks that they replaced. */
import { fail, isFailure } from '../../src/errors.ts'
import { byTag, type Context, isOurs, type Machine, MOST_LOOKS, poll, rootVolumeOf } from './context.ts'
import { allowCodes } from './explain.ts'
import { parseMark, TAG, tagOf } from './marks.ts'
import { type Instance, type Snapshot, type Task, tasks, type Volume, volumes } from './parse.ts'

export type Doing = { context: Context; doing: string }

/** `failing` and `failing-detached` go on to `failed` and `failed-detached`. */
const UNDER_WAY = ['pending', 'in-progress', 'failing', 'failing-detached']

const describeTasks = ({ context, doing }: Doing, filter: object): Promise<Task[]> =>
  context.aws.ask('ec2 describe-replace-root-volume-tasks', filter, tasks, { doing })

const tasksOf = (doing: Doing, { InstanceId }: Instance): Promise<Task[]> =>
  describeTasks(doing, { Filters: [{ Name: 'instance-id', Values: [InstanceId] }] })

/** A task goes on when its process dies. It may be that of this restore, or of another one. */
export const waitForTask = async (doing: Doing, taskId: string): Promise<Task> => {
  const ended = await poll(MOST_LOOKS, async () => {
    const [task] = await describeTasks(doing, { ReplaceRootVolumeTaskIds: [taskId] })
    return task === undefined || UNDER_WAY.includes(task.TaskState) ? undefined : task
  })
  if (ended !== undefined) return ended
  throw fail('timeout', `${doing.doing}: AWS did not replace the disk in time`, 'Try again later.')
}

/** Undefined: AWS replaces no disk of it now. */
export const whileUnderWay = async (doing: Doing, instance: Instance): Promise<Task | undefined> => {
  const task = (await tasksOf(doing, instance)).find(({ TaskState }) => UNDER_WAY.includes(TaskState))
  return task === undefined ? undefined : waitForTask(doing, task.ReplaceRootVolumeTaskId)
}

// ── Former disks ──

/** AWS copies a checkpoint for minutes, and may fail. Until it has the newest one of a disk, the disk alone has that state. */
const isCopied = ({ VolumeId }: Volume, snapshots: readonly Snapshot[]): boolean => {
  const its = snapshots.filter(each => each.VolumeId === VolumeId)
  return its.every(({ State }) => State !== 'pending') && its.at(-1)?.State !== 'error'
}

/** The task names its former disk, since a process that dies tags nothing. */
const findFormerDisks = async (doing: Doing, { mark, instance }: Machine): Promise<Volume[]> => {
  const { context } = doing
  const former = (await tasksOf(doing, instance))
    .filter(({ TaskState }) => TaskState === 'succeeded')
    .map(({ Tags }) => tagOf(Tags, TAG.former))
  if (former.every(each => each === null)) return []
  const filter = { Filters: [byTag(TAG.vm, mark.vmId)] }
  const found = await context.aws.ask('ec2 describe-volumes', filter, volumes, { doing: doing.doing })
  return found.filter(({ VolumeId, State, Tags }) => {
    const its = parseMark(Tags)
    const isOwn = its !== null && isOurs(context, its)
    return isOwn && State === 'available' && former.includes(VolumeId) && VolumeId !== rootVolumeOf(instance)
  })
}

/**
 * Deletes the disks that restores replaced, and of which AWS has copied the checkpoints. `find`: gives these, oldest first.
 * What fails is done by the next checkpoint or restore, or by the delete of the machine.
 */
export const removeFormerDisks = async (
  doing: Doing,
  machine: Machine,
  find: () => Promise<readonly Snapshot[]>,
): Promise<void> => {
  try {
    const former = await findFormerDisks(doing, machine)
    if (former.length === 0) return
    const snapshots = await find()
    for (const { VolumeId } of former.filter(volume => isCopied(volume, snapshots)))
      await doing.context.aws
        .tell('ec2 delete-volume', { VolumeId }, { doing: doing.doing })
        .catch(allowCodes('InvalidVolume.NotFound', 'VolumeInUse'))
  } catch (error) {
    if (!isFailure(error)) throw error
  }
}
