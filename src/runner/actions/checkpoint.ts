/** Makes a checkpoint. Automatic ones that exceed the retention are deleted. */
import { timestamp } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { CheckpointRetention } from '../../schema/action.ts'
import { makeCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { observe, pausedReason } from '../machine.ts'
import { type ActionRunner, earlierAttempts, type Target, targetOf } from '../operation.ts'

const DEFAULT_RETENTION: CheckpointRetention = { newest: 5, days: null }
const DAY_MS = 24 * 60 * 60_000

const deleteOldPushes = async (
  { context, provider, row }: Target,
  { newest, days }: CheckpointRetention,
): Promise<void> => {
  const { registry, clock } = context
  const { ticket, vmId } = row
  if (provider.deleteCheckpoint === undefined) return
  const pushes = registry.checkpoints(ticket).filter(({ why }) => why === 'push')
  const oldest = days === null ? '' : new Date(clock().getTime() - days * DAY_MS).toISOString()
  for (const { name } of pushes.filter((push, n) => n < pushes.length - newest || push.createdAt < oldest)) {
    await provider.deleteCheckpoint(vmId, name)
    registry.removeCheckpoint(ticket, name)
  }
}

export const checkpoint: ActionRunner<'checkpoint'> = async (
  operation,
  { ticket, name: requested, why, commit, keep = DEFAULT_RETENTION },
) => {
  const target = await targetOf(operation, ticket)
  const { context, id, provider, row } = target
  const earlier = earlierAttempts(operation).at(-1)?.detail
  const name = requested ?? earlier?.name ?? timestamp(context.clock())
  const made = { summary: `Made checkpoint ${name} of ${ticket}` }
  if ((await syncCheckpoints(target)).includes(name)) {
    // An earlier attempt of this action made it, or the same push was reported before.
    if (earlier?.name === name) return made
    if (why === 'push') return { skipped: `${ticket} already has a checkpoint ${name}` }
    throw fail('already-exists', `${ticket} already has a checkpoint ${name}`, 'Choose another name.')
  }
  if (why === 'push') {
    if (provider.liveCheckpoints !== true)
      return { skipped: `${provider.name} cannot make a checkpoint without stopping the machine` }
    if ((await observe(provider, row)) !== 'running') return { skipped: `${ticket} is not running` }
    const paused = await pausedReason(provider, row)
    if (paused !== null) return { skipped: `${ticket} is paused (${paused})` }
  }
  // From here on, a checkpoint of this name may be from this action.
  context.registry.setDetail(id, { name })
  await makeCheckpoint(target, { name, why, commit })
  if (why === 'push') await deleteOldPushes(target, keep)
  return made
}
