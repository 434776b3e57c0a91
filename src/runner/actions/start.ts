/** Starts a machine, and waits until it answers. */
import { requireEnvironment } from '../context.ts'
import { converge, observe, waitUntilReady } from '../machine.ts'
import type { ActionRunner } from '../operation.ts'

export const start: ActionRunner<'start'> = async (operation, { ticket, by }) => {
  const { registry } = operation.context
  const row = requireEnvironment(operation.context, ticket)
  const provider = await operation.context.provider(row.provider)
  const observed = await observe(provider, row)
  registry.setDesired(ticket, 'running', by)
  const isReachable = row.ssh !== null || provider.runInGuest !== undefined
  if (observed === 'running' && row.status === 'running' && isReachable)
    return { skipped: `${ticket} is already running` }
  await converge(operation, provider, row, 'running')
  await waitUntilReady(operation, provider, row)
  registry.setUnsavedWork(ticket, null)
  return { summary: `${ticket} is running` }
}
