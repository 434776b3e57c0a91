/** Stops a machine, and keeps what was found of work in it. */
import type { Provider } from '../../../providers/provider.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import { requireEnvironment } from '../context.ts'
import { findUnsavedWork, observe, recordObserved, shutDown } from '../machine.ts'
import type { ActionRunner, Operation } from '../operation.ts'
import { toUnsavedWork } from '../rescue/unsaved-work.ts'

const stopKeepingFinding = async (work: Operation, provider: Provider, row: EnvironmentRow): Promise<void> => {
  const found = (await observe(provider, row)) === 'running' ? await findUnsavedWork(work, provider, row) : null
  await shutDown(work, provider, row)
  // Not before: as long as it runs, more work may be done in it.
  if (found !== null) work.world.registry.setWorkAtRisk(row.ticket, toUnsavedWork(found))
}

export const stop: ActionRunner<'stop'> = async (work, { ticket, by }) => {
  const { world } = work
  const row = requireEnvironment(world, ticket)
  const provider = await world.provider(row.provider)
  world.registry.setDesired(ticket, 'stopped', by)
  if ((await observe(provider, row)) === 'stopped') {
    recordObserved(world, row, 'stopped')
    return { skipped: `${ticket} is stopped already` }
  }
  await stopKeepingFinding(work, provider, row)
  return { said: `${ticket} is stopped; its disk and checkpoints are kept` }
}
