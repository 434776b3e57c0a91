/** Brings a checkpoint back. What it replaces is kept first. */
import { type CheckpointName, isPreRestore, timestamp } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { makeCheckpoint, noSuchCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { requireEnvironment } from '../context.ts'
import { observe, waitUntilReady } from '../machine.ts'
import { type ActionRunner, earlierAttempts } from '../operation.ts'

/** Two within one second do not share one. */
const unusedName = (name: CheckpointName, there: readonly CheckpointName[]): CheckpointName => {
  let unused = name
  for (let n = 2; there.includes(unused); n += 1) unused = `${name}-${n}`
  return unused
}

export const restore: ActionRunner<'restore'> = async (work, { ticket, name: asked, by }) => {
  const { world, operation } = work
  const row = requireEnvironment(world, ticket)
  const provider = await world.provider(row.provider)
  const earlier = earlierAttempts(work)
  const last = earlier.at(-1)?.detail
  const there = await syncCheckpoints(world, provider, row)
  const name = asked ?? last?.name ?? there.findLast(one => !isPreRestore(one)) ?? null
  if (name === null)
    throw fail(
      'no-such-checkpoint',
      `${ticket} has no checkpoint to restore`,
      `Make one: agent-swarm checkpoint ${ticket} [name]`,
    )
  // An attempt that broke off may have changed the machine, or not: each keeps what it finds.
  const kept = new Set(earlier.flatMap(({ detail }) => detail.keptAs ?? []).filter(one => there.includes(one)))
  if (last?.reached === 'restored') world.registry.setDetail(operation, last)
  else {
    if (!there.includes(name)) throw noSuchCheckpoint(ticket, name, there)
    const keptAs = unusedName(`pre-restore-${timestamp(world.clock())}`, there)
    world.registry.setDetail(operation, { name, keptAs })
    await makeCheckpoint(work, provider, row, { name: keptAs, why: 'before restore', commit: null })
    kept.add(keptAs)
    // What was found before is about another state of the disk.
    world.registry.setWorkAtRisk(ticket, null)
    work.asked.onPhase('restore')
    await provider.restore(row.vmId, name)
    // Done once: what is done in the machine from now on stays.
    world.registry.setDetail(operation, { name, keptAs, reached: 'restored' })
  }
  if ((await observe(provider, row)) === 'running') {
    world.registry.setDesired(ticket, 'running', by)
    await waitUntilReady(work, provider, row)
  } else {
    world.registry.setDesired(ticket, 'stopped', by)
    world.registry.setStatus(ticket, 'stopped')
    world.registry.setAddress(ticket, null)
  }
  const where = kept.size === 0 ? '' : `; what it replaced is kept as ${[...kept].join(' and ')}`
  return {
    said: `${ticket} is back at ${name}${where}. What has left the machine stays as it is: pushed commits, sent messages`,
  }
}
