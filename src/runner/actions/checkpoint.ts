/** Makes a checkpoint. Automatic ones that exceed the retention are deleted. */
import type { Provider } from '../../../providers/provider.ts'
import { timestamp } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { CheckpointRetention } from '../../schema/action.ts'
import { makeCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { type RunnerContext, requireEnvironment } from '../context.ts'
import { observe } from '../machine.ts'
import { type ActionRunner, earlierAttempts } from '../operation.ts'

const DEFAULT_RETENTION: CheckpointRetention = { newest: 5, days: null }
const DAY_MS = 24 * 60 * 60_000

const deleteOldPushes = async (
  { registry, clock }: RunnerContext,
  provider: Provider,
  { ticket, vmId }: EnvironmentRow,
  { newest, days }: CheckpointRetention,
): Promise<void> => {
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
  const { context, id } = operation
  const row = requireEnvironment(context, ticket)
  const provider = await context.provider(row.provider)
  const earlier = earlierAttempts(operation).at(-1)?.detail
  const name = requested ?? earlier?.name ?? timestamp(context.clock())
  const made = { summary: `Made checkpoint ${name} of ${ticket}` }
  if ((await syncCheckpoints(context, provider, row)).includes(name)) {
    // An earlier attempt of this action made it, or the same push was reported before.
    if (earlier?.name === name) return made
    if (why === 'push') return { skipped: `${ticket} already has a checkpoint ${name}` }
    throw fail('already-exists', `${ticket} already has a checkpoint ${name}`, 'Choose another name.')
  }
  if (why === 'push') {
    if (provider.liveCheckpoints !== true)
      return { skipped: `${provider.name} cannot make a checkpoint without stopping the machine` }
    if ((await observe(provider, row)) !== 'running') return { skipped: `${ticket} is not running` }
  }
  // From here on, a checkpoint of this name may be from this action.
  context.registry.setDetail(id, { name })
  await makeCheckpoint(operation, provider, row, { name, why, commit })
  if (why === 'push') await deleteOldPushes(context, provider, row, keep)
  return made
}
