/** Stops a machine, and records what unsaved work is in it. */
import { requireEnvironment } from '../context.ts'
import { findUnsavedWork, observe, recordObserved, shutDown } from '../machine.ts'
import type { ActionRunner } from '../operation.ts'
import { toUnsavedWork } from '../rescue/unsaved-work.ts'

export const stop: ActionRunner<'stop'> = async (operation, { ticket, by }) => {
  const { context } = operation
  const row = requireEnvironment(context, ticket)
  const provider = await context.provider(row.provider)
  context.registry.setDesired(ticket, 'stopped', by)
  const observed = await observe(provider, row)
  if (observed === 'stopped') {
    recordObserved(context, row, 'stopped')
    return { skipped: `${ticket} is already stopped` }
  }
  const unsaved = observed === 'running' ? await findUnsavedWork(operation, provider, row) : null
  await shutDown(operation, provider, row)
  // Not earlier: while it runs, more work may be done in it.
  if (unsaved !== null) context.registry.setUnsavedWork(ticket, toUnsavedWork(unsaved))
  return { summary: `${ticket} is stopped; its disk and checkpoints are kept` }
}
