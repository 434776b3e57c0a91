/** Observes a machine, and updates the registry. */
import { syncCheckpoints } from '../checkpoints.ts'
import { observe, recordObserved } from '../machine.ts'
import { type ActionRunner, targetOf } from '../operation.ts'
import { followProject } from '../project/follow.ts'

export const status: ActionRunner<'status'> = async (operation, { ticket, about }) => {
  const { context } = operation
  const row = context.registry.environment(ticket)
  if (row === null) return { summary: `${ticket} has no machine` }
  const target = await targetOf(operation, ticket, row)
  const observed = await observe(target.provider, row)
  if (observed === 'gone' && (row.status === 'running' || row.status === 'stopped'))
    context.registry.setStatus(ticket, 'lost')
  if (observed === 'gone')
    return { summary: `${ticket}: its machine ${row.vmId} no longer exists, and agent-swarm did not delete it` }
  if (observed !== 'unmade' && observed !== 'creating' && ['running', 'stopped', 'lost'].includes(row.status))
    recordObserved(context, row, observed)
  await syncCheckpoints(target)
  const summary = `${ticket} is ${observed}`
  if (observed !== 'running') return { summary }
  await followProject(target)
  return about === 'logs' ? { summary, log: await (await import('../project/logs.ts')).lastLines(target) } : { summary }
}
