import type { Provider } from '../../providers/provider.ts'
import { DAY_MS } from '../clock.ts'
import { type CheckpointName, type EnvironmentKey, isAutomatic, isPreRestore } from '../domain.ts'
import { type FailureError, fail, isFailure } from '../errors.ts'
import { nearest } from '../nearest.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import type { CheckpointRetention } from '../schema/action.ts'
import type { Checkpoint } from '../schema/environment.ts'
import { machineGone, observe, partialFailure } from './machine.ts'
import type { Target } from './operation.ts'

/** Of checkpoints that nobody asked for by command, as long as nothing else is configured. */
export const DEFAULT_RETENTION: CheckpointRetention = { newest: 5, days: null }

/** `names`: the checkpoints that exist. */
export const noSuchCheckpoint = (
  ticket: EnvironmentKey,
  name: CheckpointName,
  names: readonly CheckpointName[],
): FailureError => {
  const near = nearest(name, names)
  return fail(
    'no-such-checkpoint',
    `${ticket} has no checkpoint ${name}`,
    `${near === null ? '' : `Did you mean ${near}? `}Available checkpoints: ${names.length === 0 ? 'none' : names.join(', ')}`,
  )
}

/** Fails where a disk cannot come back without its memory. */
export const requireColdRestores = ({ name, coldRestores }: Provider): void => {
  if (coldRestores !== true)
    throw fail('unsupported', `${name} cannot restore a disk without its memory`, 'Leave out --cold.')
}

/** Why a checkpoint exists that only its provider knows. */
const reasonOf = (name: CheckpointName): Checkpoint['why'] => {
  if (isPreRestore(name)) return 'before restore'
  return isAutomatic(name) ? 'push' : 'command'
}

/** Oldest first. Says that the machine is gone, and what to do, where it is. */
export const listCheckpoints = (
  provider: Provider,
  row: Pick<EnvironmentRow, 'ticket' | 'vmId' | 'status'>,
): Promise<CheckpointName[]> =>
  provider.listCheckpoints(row.vmId).catch(error => {
    const isGone = isFailure(error) && error.failure.kind === 'no-such-vm' && row.status !== 'creating'
    throw isGone ? machineGone(row) : error
  })

/** Brings the rows of checkpoints in line with the provider: after a crash either may know more. Returns the names, oldest first. */
export const syncCheckpoints = async ({
  context: { registry, clock },
  provider,
  row,
}: Pick<Target, 'context' | 'provider' | 'row'>): Promise<CheckpointName[]> => {
  const names = await listCheckpoints(provider, row)
  const rows = registry.checkpoints(row.ticket)
  for (const { name } of rows) if (!names.includes(name)) registry.removeCheckpoint(row.ticket, name)
  // The provider knows the order, and no time: each gets the last moment before that of its successor.
  let before = clock().getTime()
  for (const [index, name] of [...names.entries()].toReversed()) {
    const known = rows.find(other => other.name === name)
    before = known === undefined ? before - 1 : Math.min(before, Date.parse(known.createdAt))
    if (known !== undefined) continue
    const checkpoint: Checkpoint = {
      name,
      why: reasonOf(name),
      commit: null,
      createdAt: new Date(before).toISOString(),
      withMemory: provider.memoryCheckpoints === true,
      sizeBytes: null,
    }
    registry.addCheckpoint(row.ticket, checkpoint, names[index + 1] ?? null)
  }
  return names
}

/**
 * Deletes the oldest of the checkpoints that exist for this reason. Those in `spare` stay, and so does the machine's last one,
 * however old.
 */
export const deleteOldest = async (
  { context: { registry, clock }, provider, row: { ticket, vmId } }: Target,
  why: Checkpoint['why'],
  { newest, days }: CheckpointRetention,
  spare: readonly CheckpointName[] = [],
): Promise<void> => {
  if (provider.deleteCheckpoint === undefined) return
  const every = registry.checkpoints(ticket)
  const last = every.at(-1)?.name
  const all = every.filter(checkpoint => checkpoint.why === why)
  const oldest = days === null ? '' : new Date(clock().getTime() - days * DAY_MS).toISOString()
  for (const { name } of all.filter(({ createdAt }, n) => n < all.length - newest || createdAt < oldest)) {
    if (name === last || spare.includes(name)) continue
    await provider.deleteCheckpoint(vmId, name)
    registry.removeCheckpoint(ticket, name)
  }
}

/** Returns how long the running guest stood still for it, in milliseconds, when that is known. */
export const makeCheckpoint = async (
  { context, caller, provider, row }: Target,
  checkpoint: Pick<Checkpoint, 'name' | 'why' | 'commit'>,
): Promise<number | undefined> => {
  caller.onPhase('checkpoint')
  const running = (await observe(provider, row)) === 'running'
  let made: Awaited<ReturnType<typeof provider.checkpoint>>
  try {
    made = await provider.checkpoint(row.vmId, checkpoint.name)
  } catch (error) {
    // After a cancellation the hypervisor may still have finished it.
    if (caller.signal.aborted)
      await provider.deleteCheckpoint?.(row.vmId, checkpoint.name).catch(undoError => {
        throw partialFailure(
          `undoing the checkpoint ${checkpoint.name} of ${row.ticket}`,
          undoError,
          `See whether it exists: agent-swarm checkpoints ${row.ticket}`,
        )
      })
    throw error
  }
  context.registry.addCheckpoint(row.ticket, {
    ...checkpoint,
    createdAt: context.clock().toISOString(),
    withMemory: running && provider.memoryCheckpoints === true,
    sizeBytes: made.sizeBytes,
  })
  return made.livePauseMs
}
