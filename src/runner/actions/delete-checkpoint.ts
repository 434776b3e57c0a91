/** Deletes one checkpoint; the machine stays as it is. */
import { fail } from '../../errors.ts'
import { noSuchCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { type ActionRunner, earlierTries, targetOf } from '../operation.ts'

export const deleteCheckpoint: ActionRunner<'delete-checkpoint'> = async (operation, { ticket, name }) => {
  const target = await targetOf(operation, ticket)
  const { context, caller, id, provider, row } = target
  if (provider.deleteCheckpoint === undefined)
    throw fail('unsupported', `${provider.name} cannot delete a single checkpoint`, 'It is deleted with its machine.')
  const deleted = { summary: `Deleted checkpoint ${name} of ${ticket}` }
  const names = await syncCheckpoints(target)
  if (!names.includes(name)) {
    // An earlier try of this action deleted it.
    if (earlierTries(operation).at(-1)?.detail.name === name) return deleted
    throw noSuchCheckpoint(ticket, name, names)
  }
  context.registry.setDetail(id, { name })
  caller.onPhase('delete checkpoint')
  await provider.deleteCheckpoint(row.vmId, name)
  context.registry.removeCheckpoint(ticket, name)
  return deleted
}
