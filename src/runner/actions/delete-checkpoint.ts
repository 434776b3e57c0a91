/** Deletes one checkpoint; the machine stays as it is. */
import { fail } from '../../errors.ts'
import { noSuchCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { requireEnvironment } from '../context.ts'
import { type ActionRunner, earlierAttempts } from '../operation.ts'

export const deleteCheckpoint: ActionRunner<'delete-checkpoint'> = async (operation, { ticket, name }) => {
  const { context, caller, id } = operation
  const row = requireEnvironment(context, ticket)
  const provider = await context.provider(row.provider)
  if (provider.deleteCheckpoint === undefined)
    throw fail('unsupported', `${provider.name} cannot delete a single checkpoint`, 'It is deleted with its machine.')
  const deleted = { summary: `Deleted checkpoint ${name} of ${ticket}` }
  const names = await syncCheckpoints(context, provider, row)
  if (!names.includes(name)) {
    // An earlier attempt of this action deleted it.
    if (earlierAttempts(operation).at(-1)?.detail.name === name) return deleted
    throw noSuchCheckpoint(ticket, name, names)
  }
  context.registry.setDetail(id, { name })
  caller.onPhase('delete checkpoint')
  await provider.deleteCheckpoint(row.vmId, name)
  context.registry.removeCheckpoint(ticket, name)
  return deleted
}
