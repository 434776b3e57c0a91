import type { EnvironmentKey } from '../domain.ts'
import type { Environment } from '../schema/environment.ts'
import type { Store } from '../store/port.ts'

/** The ticket's environment as last reported; null when it has none or it is gone. */
export const presentEnvironment = async (
  { runners }: Pick<Store, 'runners'>,
  ticket: EnvironmentKey,
): Promise<Environment | null> => {
  const known = await runners.environment(ticket)
  return known === null || known.goneAt !== null ? null : known.environment
}
