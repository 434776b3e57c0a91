/** Starts a machine, and waits for its answer. */

import { requireEnvironment } from '../context.ts'
import { converge, observe, waitUntilReady } from '../machine.ts'
import type { ActionRunner } from '../operation.ts'

export const start: ActionRunner<'start'> = async (work, { ticket, by }) => {
  const { world } = work
  const row = requireEnvironment(world, ticket)
  const provider = await world.provider(row.provider)
  const before = await observe(provider, row)
  world.registry.setDesired(ticket, 'running', by)
  const reachable = row.ssh !== null || provider.runInGuest !== undefined
  if (before === 'running' && row.status === 'running' && reachable) return { skipped: `${ticket} is running already` }
  await converge(work, provider, row, 'running')
  await waitUntilReady(work, provider, row)
  world.registry.setWorkAtRisk(ticket, null)
  return { said: `${ticket} is running` }
}
