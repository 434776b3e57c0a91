/** Checkpoints. A machine keeps one kind of them for life, which its mark names. */
import { type CheckpointName, parseCheckpointName } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { RestoreOptions } from '../provider.ts'
import { type Context, look } from './context.ts'
import { deleteExternal, makeExternal, namesIn, restoreExternal } from './external-checkpoints.ts'
import { listVolumes } from './host.ts'
import { deleteInternal, listSnapshots, makeInternal, restoreInternal, snapshotNames } from './internal-checkpoints.ts'
import { parseNames } from './parse.ts'

const checkName = (name: string): CheckpointName => {
  if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is not a checkpoint name`)
  return name
}

const kindOf = async (context: Context, id: string) => (await look(context, id)).mark.checkpoints

export const makeCheckpoint = async (context: Context, id: string, name: string) => {
  const doing = `making the checkpoint ${checkName(name)} of ${id}`
  const make = (await kindOf(context, id)) === 'external' ? makeExternal : makeInternal
  return make(context, id, name, doing)
}

export const restoreCheckpoint = async (
  context: Context,
  id: string,
  name: string,
  options: RestoreOptions = {},
): Promise<void> => {
  checkName(name)
  const restore = (await kindOf(context, id)) === 'external' ? restoreExternal : restoreInternal
  return restore(context, id, name, options)
}

export const deleteCheckpoint = async (context: Context, id: string, name: string): Promise<void> => {
  const doing = `deleting the checkpoint ${checkName(name)} of ${id}`
  const remove = (await kindOf(context, id)) === 'external' ? deleteExternal : deleteInternal
  return remove(context, id, name, doing)
}

export const listCheckpoints = async (context: Context, id: string): Promise<string[]> => {
  const { virsh, settings } = context
  const { mark, stdout, stderr } = await look(context, id, [listSnapshots(id), ['vol-list', settings.kvmPool]])
  if (mark.checkpoints === 'external')
    return namesIn(stderr === '' ? parseNames(stdout) : await listVolumes(context), id)
  // A list that cannot be read is not an empty list.
  const doing = `listing the checkpoints of ${id}`
  return snapshotNames(stderr === '' ? stdout : await virsh.run(listSnapshots(id), { doing }))
}
