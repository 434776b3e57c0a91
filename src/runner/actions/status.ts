/** Looks at a machine, and brings the registry up to date with it. */
import { adoptCheckpoints } from '../checkpoints.ts'
import { noteSeen, observe } from '../machine.ts'
import type { Does } from '../work.ts'

export const status: Does<'status'> = async ({ world }, { ticket }) => {
  const row = world.registry.environment(ticket)
  if (row === null) return { said: `${ticket} has no environment` }
  const provider = await world.provider(row.provider)
  const observed = await observe(provider, row)
  if (observed === 'gone') return { said: `${ticket}: its machine ${row.vmId} is gone, and nothing here deleted it` }
  if (observed !== 'unmade' && observed !== 'creating' && ['running', 'stopped', 'lost'].includes(row.status))
    noteSeen(world, row, observed)
  await adoptCheckpoints(world, provider, row)
  return { said: `${ticket} is ${observed}` }
}
