/** Makes a checkpoint. Automatic ones that exceed the retention are deleted. */
import { timestamp } from '../../domain.ts'
import { fail, isFailure } from '../../errors.ts'
import { DEFAULT_RETENTION, deleteOldest, makeCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { observe, pausedReason } from '../machine.ts'
import { type ActionRunner, earlierTries, targetOf } from '../operation.ts'

export const checkpoint: ActionRunner<'checkpoint'> = async (
  operation,
  { ticket, name: requested, why, commit, keep = DEFAULT_RETENTION },
) => {
  const target = await targetOf(operation, ticket)
  const { context, id, provider, row } = target
  const earlier = earlierTries(operation).at(-1)?.detail
  const name = requested ?? earlier?.name ?? timestamp(context.clock())
  const made = { summary: `Made checkpoint ${name} of ${ticket}` }
  if ((await syncCheckpoints(target)).includes(name)) {
    // An earlier try of this action made it, and may have died before it deleted the oldest.
    if (earlier?.name === name) {
      if (why !== 'command') await deleteOldest(target, why, keep)
      return made
    }
    // The same push was reported before.
    if (why === 'push') return { skipped: `${ticket} already has a checkpoint ${name}` }
    throw fail('already-exists', `${ticket} already has a checkpoint ${name}`, 'Choose another name.')
  }
  // Nobody waits for a machine that stops for one of these.
  if (why !== 'command') {
    if (provider.liveCheckpoints !== true)
      return { skipped: `${provider.name} cannot make a checkpoint without stopping the machine` }
    if ((await observe(provider, row)) !== 'running') return { skipped: `${ticket} is not running` }
    const paused = await pausedReason(provider, row)
    if (paused !== null) return { skipped: `${ticket} is paused (${paused})` }
  }
  // From here on, a checkpoint of this name may be from this action.
  context.registry.setDetail(id, { name })
  let pauseMs: number | undefined
  try {
    pauseMs = await makeCheckpoint(target, { name, why, commit })
  } catch (error) {
    // The hypervisor went on with the checkpoint of a try that was killed, and has ended it by now.
    const isOurs = isFailure(error) && error.failure.kind === 'already-exists' && earlier?.name === name
    if (!isOurs || !(await syncCheckpoints(target)).includes(name)) throw error
  }
  if (why !== 'command') await deleteOldest(target, why, keep)
  if (pauseMs === undefined) return made
  // One that did not stand still has nothing to tell.
  return { summary: pauseMs === 0 ? made.summary : `${made.summary}; it stood still for ${pause(pauseMs)}`, pauseMs }
}

const pause = (ms: number): string => (ms < 1_000 ? `${Math.ceil(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`)
