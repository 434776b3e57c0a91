/** Whether a provider isolates its machines here and now. */
import type { IsolationReport, Provider } from '../../providers/provider.ts'
import { failureOf } from '../errors.ts'

/**
 * A check that fails counts as no isolation: who asks can still say everything else of the provider. Undefined where the provider has
 * no check.
 */
export const isolationOf = async (provider: Pick<Provider, 'isolated'>): Promise<IsolationReport | undefined> => {
  try {
    return await provider.isolated?.()
  } catch (error) {
    const { kind, message, remedy } = failureOf(error, 'looking at the isolation of machines')
    if (kind === 'cancelled') throw error
    return { isolated: false, reason: `the check failed: ${message.replace(/\.$/, '')}`, remedy }
  }
}
