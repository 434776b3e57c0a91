/** Stops a machine, and keeps what was found of work in it. */
import type { Provider } from '../../../providers/provider.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import { findWorkAtRisk, noteSeen, observe, shutDown } from '../machine.ts'
import type { Does, Work } from '../work.ts'
import { asFinding } from '../work-at-risk.ts'
import { existing } from '../world.ts'

const stopKeepingFinding = async (work: Work, provider: Provider, row: EnvironmentRow): Promise<void> => {
  const found = (await observe(provider, row)) === 'running' ? await findWorkAtRisk(work, provider, row) : null
  await shutDown(work, provider, row)
  // Not before: as long as it runs, more work may be done in it.
  if (found !== null) work.world.registry.setWorkAtRisk(row.ticket, asFinding(found))
}

export const stop: Does<'stop'> = async (work, { ticket, by }) => {
  const { world } = work
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  world.registry.setDesired(ticket, 'stopped', by)
  if ((await observe(provider, row)) === 'stopped') {
    noteSeen(world, row, 'stopped')
    return { skipped: `${ticket} is stopped already` }
  }
  await stopKeepingFinding(work, provider, row)
  return { said: `${ticket} is stopped; its disk and checkpoints are kept` }
}
