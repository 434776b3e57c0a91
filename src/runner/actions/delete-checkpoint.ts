/** Deletes one checkpoint; the machine stays as it is. */
import { fail } from '../../errors.ts'
import { adoptCheckpoints, noSuchCheckpoint } from '../checkpoints.ts'
import type { Does } from '../work.ts'
import { existing } from '../world.ts'

export const deleteCheckpoint: Does<'delete-checkpoint'> = async ({ world, asked, operation }, { ticket, name }) => {
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  if (provider.deleteCheckpoint === undefined)
    throw fail('unsupported', `${provider.name} cannot delete a checkpoint`, 'It goes with its environment.')
  world.registry.setDetail(operation, { name })
  const there = await adoptCheckpoints(world, provider, row)
  if (!there.includes(name)) {
    // An earlier attempt of this very action deleted it.
    if (asked.actionId !== null && world.registry.detailOf(asked.actionId)?.name === name)
      return { said: `checkpoint ${name} of ${ticket} is deleted` }
    throw noSuchCheckpoint(ticket, name, there)
  }
  asked.onPhase('delete checkpoint')
  await provider.deleteCheckpoint(row.vmId, name)
  world.registry.removeCheckpoint(ticket, name)
  return { said: `checkpoint ${name} of ${ticket} is deleted` }
}
