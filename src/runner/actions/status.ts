/** Looks at a machine, and brings the registry up to date with it. */
import { syncCheckpoints } from '../checkpoints.ts'
import { observe, recordObserved } from '../machine.ts'
import type { ActionRunner } from '../operation.ts'

export const status: ActionRunner<'status'> = async ({ world }, { ticket }) => {
  const row = world.registry.environment(ticket)
  if (row === null) return { said: `${ticket} has no environment` }
  const provider = await world.provider(row.provider)
  const observed = await observe(provider, row)
  if (observed === 'gone') return { said: `${ticket}: its machine ${row.vmId} is gone, and nothing here deleted it` }
  if (observed !== 'unmade' && observed !== 'creating' && ['running', 'stopped', 'lost'].includes(row.status))
    recordObserved(world, row, observed)
  await syncCheckpoints(world, provider, row)
  return { said: `${ticket} is ${observed}` }
}
