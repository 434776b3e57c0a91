/** The checkpoints of a machine, as the provider has them and as the registry knows them. */
import type { Provider } from '../../providers/provider.ts'
import { type CheckpointName, isPreRestore, type Ticket } from '../domain.ts'
import { fail } from '../errors.ts'
import { nearest } from '../nearest.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import type { RunnerContext } from './context.ts'
import { observe, partialFailure } from './machine.ts'
import type { Operation } from './operation.ts'

/** Says which there are. */
export const noSuchCheckpoint = (ticket: Ticket, name: CheckpointName, names: readonly CheckpointName[]) => {
  const near = nearest(name, names)
  return fail(
    'no-such-checkpoint',
    `${ticket} has no checkpoint ${name}`,
    `${near === null ? '' : `Did you mean ${near}? `}${names.length === 0 ? 'It has none.' : `It has ${names.join(', ')}.`}`,
  )
}

/** The rows of checkpoints follow what the provider has: after a crash either may know more. */
export const syncCheckpoints = async (
  world: RunnerContext,
  provider: Provider,
  row: EnvironmentRow,
): Promise<CheckpointName[]> => {
  const there = await provider.listCheckpoints(row.vmId)
  const known = world.registry.checkpoints(row.ticket)
  for (const one of known) if (!there.includes(one.name)) world.registry.removeCheckpoint(row.ticket, one.name)
  for (const name of there) {
    if (known.some(one => one.name === name)) continue
    world.registry.addCheckpoint(row.ticket, {
      name,
      why: isPreRestore(name) ? 'before restore' : name.startsWith('push-') ? 'push' : 'command',
      commit: null,
      createdAt: world.clock().toISOString(),
      withMemory: provider.memoryCheckpoints === true,
      sizeBytes: null,
    })
  }
  return there
}

export const makeCheckpoint = async (
  { world, asked }: Operation,
  provider: Provider,
  row: EnvironmentRow,
  checkpoint: { name: CheckpointName; why: 'push' | 'command' | 'before restore'; commit: string | null },
) => {
  asked.onPhase('checkpoint')
  const running = (await observe(provider, row)) === 'running'
  let sizeBytes: number | null
  try {
    sizeBytes = (await provider.checkpoint(row.vmId, checkpoint.name)).sizeBytes
  } catch (error) {
    // The hypervisor may have gone on with it after we let go.
    if (asked.signal.aborted)
      await provider.deleteCheckpoint?.(row.vmId, checkpoint.name).catch(undoing => {
        throw partialFailure(
          `undoing the checkpoint ${checkpoint.name} of ${row.ticket}`,
          undoing,
          `agent-swarm checkpoints ${row.ticket} tells whether it is there.`,
        )
      })
    throw error
  }
  world.registry.addCheckpoint(row.ticket, {
    ...checkpoint,
    createdAt: world.clock().toISOString(),
    withMemory: running && provider.memoryCheckpoints === true,
    sizeBytes,
  })
}
