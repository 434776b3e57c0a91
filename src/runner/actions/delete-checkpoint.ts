/** Deletes one checkpoint; the machine stays as it is. */
import { fail } from '../../errors.ts'
import { noSuchCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { requireEnvironment } from '../context.ts'
import { type ActionRunner, earlierAttempts } from '../operation.ts'

export const deleteCheckpoint: ActionRunner<'delete-checkpoint'> = async (work, { ticket, name }) => {
  const { world, asked, operation } = work
  const row = requireEnvironment(world, ticket)
  const provider = await world.provider(row.provider)
  if (provider.deleteCheckpoint === undefined)
    throw fail('unsupported', `${provider.name} cannot delete a checkpoint`, 'It goes with its environment.')
  const there = await syncCheckpoints(world, provider, row)
  if (!there.includes(name)) {
    // An earlier attempt of this very action deleted it.
    if (earlierAttempts(work).at(-1)?.detail.name === name)
      return { said: `checkpoint ${name} of ${ticket} is deleted` }
    throw noSuchCheckpoint(ticket, name, there)
  }
  world.registry.setDetail(operation, { name })
  asked.onPhase('delete checkpoint')
  await provider.deleteCheckpoint(row.vmId, name)
  world.registry.removeCheckpoint(ticket, name)
  return { said: `checkpoint ${name} of ${ticket} is deleted` }
}
