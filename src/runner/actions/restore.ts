/** Brings a checkpoint back. What it replaces is kept first. */
import { isPreRestore, timestamp } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { adoptCheckpoints, makeCheckpoint, noSuchCheckpoint } from '../checkpoints.ts'
import { becomeReady, observe } from '../machine.ts'
import type { Does } from '../work.ts'
import { existing } from '../world.ts'

export const restore: Does<'restore'> = async (work, { ticket, name: asked, by }) => {
  const { world, operation } = work
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  const earlier = work.asked.actionId === null ? null : world.registry.detailOf(work.asked.actionId)
  const there = await adoptCheckpoints(world, provider, row)
  const name = asked ?? earlier?.name ?? there.findLast(one => !isPreRestore(one)) ?? null
  if (name === null)
    throw fail(
      'no-such-checkpoint',
      `${ticket} has no checkpoint to restore`,
      `Make one: agent-swarm checkpoint ${ticket} [name]`,
    )
  if (!there.includes(name)) throw noSuchCheckpoint(ticket, name, there)
  const keptAs = earlier?.keptAs ?? `pre-restore-${timestamp(world.clock())}`
  world.registry.setDetail(operation, { name, keptAs })
  if (!there.includes(keptAs))
    await makeCheckpoint(work, provider, row, { name: keptAs, why: 'before restore', commit: null })
  work.asked.onPhase('restore')
  await provider.restore(row.vmId, name)
  if ((await observe(provider, row)) === 'running') {
    world.registry.setDesired(ticket, 'running', by)
    await becomeReady(work, provider, row)
  } else {
    world.registry.setDesired(ticket, 'stopped', by)
    world.registry.setStatus(ticket, 'stopped')
    world.registry.setAddress(ticket, null)
  }
  // What was found before is about another state of the disk.
  world.registry.setWorkAtRisk(ticket, null)
  return {
    said: `${ticket} is back at ${name}; what it replaced is kept as ${keptAs}. What has left the machine stays as it is: pushed commits, sent messages`,
  }
}
