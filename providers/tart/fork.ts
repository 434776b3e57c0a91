/**
 * Forks are clones of a checkpoint or of the stopped machine, which boot with a seed of their own. A clone does not depend on its
 * source.
 */
import { randomBytes } from 'node:crypto'
import type { CheckpointName } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { ForkTarget } from '../provider.ts'
import { type Context, cloneVm, renameVm, requireSettled, runTart } from './context.ts'
import { deleteMachine } from './machines.ts'
import { vmName } from './marks.ts'
import { whileStopped } from './running.ts'
import { writeSeed } from './seed.ts'

/**
 * A machine that runs is stopped for its present state, and started again before the second fork is cloned from the first. Fails with
 * `no-such-checkpoint`.
 */
export const forkMachine = async (
  context: Context,
  id: string,
  checkpoint: CheckpointName | null,
  targets: readonly ForkTarget[],
): Promise<void> => {
  const doing = checkpoint === null ? `forking ${id}` : `forking ${id} from ${checkpoint}`
  const { machine, checkpoints } = await requireSettled(context, id, doing)
  const source = checkpoint === null ? machine : checkpoints.find(({ mark }) => mark.name === checkpoint)
  if (source === undefined) throw fail('no-such-checkpoint', `forking ${id}: it has no checkpoint ${checkpoint}`)
  const home = context.homeId
  // A ticket that is not one fails before anything is made.
  const forks = targets.map(({ vmId, ticket }) => ({
    unfinished: vmName({ kind: 'new', vmId, home }),
    name: vmName({ kind: 'machine', vmId, ticket, home }),
  }))
  for (const { vmId } of targets) await deleteMachine(context, vmId)
  try {
    for (const { vmId, publicKey, hostKey } of targets)
      await writeSeed(context, vmId, { publicKey, hostKey, machineId: randomBytes(16).toString('hex') })
    let from = source.name
    for (const { unfinished, name } of forks) {
      const clone = () => cloneVm(context, from, unfinished, doing)
      await (from === machine.name ? whileStopped(context, machine, doing, clone) : clone())
      // A clone of a suspended VM keeps its MAC: https://github.com/cirruslabs/tart/blob/main/Sources/tart/Commands/Clone.swift
      await runTart(context, ['set', unfinished, '--random-mac'], { doing })
      await renameVm(context, unfinished, name)
      from = name
    }
  } catch (error) {
    // The runner deletes what is left of them.
    for (const { vmId } of targets) await deleteMachine(context, vmId).catch(() => {})
    throw error
  }
}
