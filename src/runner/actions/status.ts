/** Observes a machine, and updates the registry. */
import { syncCheckpoints } from '../checkpoints.ts'
import { observe, recordObserved } from '../machine.ts'
import type { ActionRunner } from '../operation.ts'

export const status: ActionRunner<'status'> = async ({ context }, { ticket }) => {
  const row = context.registry.environment(ticket)
  if (row === null) return { summary: `${ticket} has no machine` }
  const provider = await context.provider(row.provider)
  const observed = await observe(provider, row)
  if (observed === 'gone')
    return { summary: `${ticket}: its machine ${row.vmId} no longer exists, and agent-swarm did not delete it` }
  if (observed !== 'unmade' && observed !== 'creating' && ['running', 'stopped', 'lost'].includes(row.status))
    recordObserved(context, row, observed)
  await syncCheckpoints(context, provider, row)
  return { summary: `${ticket} is ${observed}` }
}
