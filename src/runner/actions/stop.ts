/** Stops a machine, and records what unsaved work is in it. */
import { findUnsavedWork, observe, recordObserved, shutDown, want } from '../machine.ts'
import { type ActionRunner, targetOf } from '../operation.ts'
import { toUnsavedWork } from '../rescue/unsaved-work.ts'

export const stop: ActionRunner<'stop'> = async (operation, { ticket, mergedCommits }) => {
  const { context } = operation
  const target = await targetOf(operation, ticket)
  const { provider, row } = target
  want(target, 'stopped')
  const observed = await observe(provider, row)
  if (observed === 'stopped') {
    recordObserved(context, row, 'stopped')
    return { skipped: `${ticket} is already stopped` }
  }
  const unsaved = observed === 'running' ? await findUnsavedWork(target, mergedCommits) : null
  await shutDown(target)
  // Not earlier: while it runs, more work may be done in it.
  if (unsaved !== null) context.registry.setUnsavedWork(ticket, toUnsavedWork(unsaved))
  return { summary: `${ticket} is stopped; its disk and checkpoints are kept` }
}
