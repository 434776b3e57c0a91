/** Where the machine of a ticket is, as its runner last reported it. */
import type { Ticket } from '../domain.ts'
import type { Whereabouts } from '../schema/runner-protocol.ts'
import type { Store } from '../store/port.ts'

/** `asker`: the runner that asks; null when it is unknown. Null: no runner has reported one, or it is gone. */
export const whereIs = async (
  { tickets, runners, runnerTokens }: Pick<Store, 'tickets' | 'runners' | 'runnerTokens'>,
  named: Ticket,
  asker: string | null,
): Promise<Whereabouts | null> => {
  const ticket = await tickets.current(named)
  const known = await runners.environment(ticket)
  if (known === null || known.goneAt !== null || known.runnerId === null) return null
  const { environment, runnerId, heardAt } = known
  const host = (await runners.list()).find(({ id }) => id === runnerId)?.host ?? null
  const name = (await runnerTokens.list()).find(({ id }) => id === runnerId)?.name ?? null
  const { provider, status } = environment
  return {
    ticket,
    provider,
    status,
    runner: name,
    host,
    heardAt: new Date(heardAt).toISOString(),
    yours: asker === null ? null : runnerId === asker,
  }
}
