/** Checkpoints are clones of the stopped machine: Tart has no snapshots, and a Linux guest does not survive `tart suspend`. */
import { parseCheckpointName } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { type Context, cloneVm, deleteVms, ofKind, renameVm, requireMachine, requireSettled } from './context.ts'
import { vmName } from './marks.ts'
import { powerOff, startMachine, whileStopped } from './running.ts'

const checkName = (name: string): string => {
  if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is not a checkpoint name`)
  return name
}

export const makeCheckpoint = async (context: Context, id: string, name: string): Promise<{ sizeBytes: null }> => {
  const doing = `making the checkpoint ${checkName(name)} of ${id}`
  const { machine, checkpoints } = await requireSettled(context, id, doing)
  if (checkpoints.some(({ mark }) => mark.name === name)) throw fail('already-exists', `${doing}: it already exists`)
  const wasRunning = machine.state === 'running'
  const order = (checkpoints.at(-1)?.mark.order ?? 0) + 1
  const clone = vmName({ kind: 'checkpoint', vmId: id, name, order, wasRunning, home: context.homeId })
  await whileStopped(context, machine, doing, () => cloneVm(context, machine.name, clone, doing))
  // A clone shares its blocks with the machine.
  return { sizeBytes: null }
}

/**
 * The machine becomes a clone of the checkpoint, with another MAC and another address: the checkpoint keeps its own. Killed between
 * delete and rename, the clone already counts as the machine. The guest's work since then is lost, so it is not shut down.
 */
export const restoreCheckpoint = async (context: Context, id: string, name: string): Promise<void> => {
  const doing = `restoring ${id} to ${checkName(name)}`
  const found = await requireSettled(context, id, doing)
  const { machine } = found
  const checkpoint = found.checkpoints.find(({ mark }) => mark.name === name)
  if (checkpoint === undefined) throw fail('no-such-checkpoint', `restoring ${id}: it has no checkpoint ${name}`)
  // A create that was interrupted left it.
  await deleteVms(
    context,
    ofKind(found.all, 'new').map(({ name }) => name),
    doing,
  )
  const restored = vmName({ ...machine.mark, kind: 'restored' })
  await cloneVm(context, checkpoint.name, restored, doing)
  if (machine.state === 'running') await powerOff(context, machine, doing)
  await deleteVms(context, [machine.name], doing)
  await renameVm(context, restored, machine.name)
  if (checkpoint.mark.wasRunning) await startMachine(context, id)
}

export const listCheckpoints = async (context: Context, id: string): Promise<string[]> =>
  (await requireMachine(context, id, `listing the checkpoints of ${id}`)).checkpoints.map(({ mark }) => mark.name)

export const deleteCheckpoint = async (context: Context, id: string, name: string): Promise<void> => {
  const doing = `deleting the checkpoint ${checkName(name)} of ${id}`
  const { checkpoints } = await requireMachine(context, id, doing)
  await deleteVms(
    context,
    checkpoints.filter(({ mark }) => mark.name === name).map(vm => vm.name),
    doing,
  )
}
