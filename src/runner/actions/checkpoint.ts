/** Makes a checkpoint. Of those of pushes, the oldest go. */
import { timestamp } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { CheckpointRetention } from '../../schema/action.ts'
import { makeCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { requireEnvironment } from '../context.ts'
import { observe } from '../machine.ts'
import { type ActionRunner, earlierAttempts } from '../operation.ts'

/** Of the automatic checkpoints of pushes, where an action does not say how many. */
const KEPT: CheckpointRetention = { newest: 5, days: null }
const DAY_MS = 24 * 60 * 60_000

export const checkpoint: ActionRunner<'checkpoint'> = async (
  work,
  { ticket, name: asked, why, commit, keep = KEPT },
) => {
  const { world, operation } = work
  const row = requireEnvironment(world, ticket)
  const provider = await world.provider(row.provider)
  const earlier = earlierAttempts(work).at(-1)?.detail
  const name = asked ?? earlier?.name ?? timestamp(world.clock())
  const there = await syncCheckpoints(world, provider, row)
  if (there.includes(name)) {
    // An earlier attempt of this very action made it, or it is a push that was seen before.
    if (earlier?.name === name) return { said: `checkpoint ${name} of ${ticket} is made` }
    if (why === 'push') return { skipped: `${ticket} has a checkpoint ${name} already` }
    throw fail('already-exists', `${ticket} has a checkpoint ${name} already`, 'Take another name.')
  }
  if (why === 'push') {
    if (provider.liveCheckpoints !== true)
      return { skipped: `${provider.name} cannot make a checkpoint without stopping the machine` }
    if ((await observe(provider, row)) !== 'running') return { skipped: `${ticket} is not running` }
  }
  // From here on one of this name may be ours.
  world.registry.setDetail(operation, { name })
  await makeCheckpoint(work, provider, row, { name, why, commit })
  if (why === 'push' && provider.deleteCheckpoint !== undefined) {
    const pushes = world.registry.checkpoints(ticket).filter(one => one.why === 'push')
    const oldest = keep.days === null ? '' : new Date(world.clock().getTime() - keep.days * DAY_MS).toISOString()
    for (const old of pushes.filter((one, at) => at < pushes.length - keep.newest || one.createdAt < oldest)) {
      await provider.deleteCheckpoint(row.vmId, old.name)
      world.registry.removeCheckpoint(ticket, old.name)
    }
  }
  return { said: `checkpoint ${name} of ${ticket} is made` }
}
