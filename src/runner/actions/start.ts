/** Starts a machine, and waits for its answer. */
import { becomeReady, converge, observe } from '../machine.ts'
import type { Does } from '../work.ts'
import { existing } from '../world.ts'

export const start: Does<'start'> = async (work, { ticket, by }) => {
  const { world } = work
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  const before = await observe(provider, row)
  world.registry.setDesired(ticket, 'running', by)
  const reachable = row.ssh !== null || provider.runInGuest !== undefined
  if (before === 'running' && row.status === 'running' && reachable) return { skipped: `${ticket} is running already` }
  await converge(work, provider, row, 'running')
  await becomeReady(work, provider, row)
  world.registry.setWorkAtRisk(ticket, null)
  return { said: `${ticket} is running` }
}
