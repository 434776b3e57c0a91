/** Every provider, in order of detection: the only list. A provider's code is loaded when it is opened. */
import type { ProviderName } from '../src/domain.ts'
import { fail } from '../src/errors.ts'
import { aws } from './aws/description.ts'
import { hyperv } from './hyperv/description.ts'
import { kvm } from './kvm/description.ts'
import type { ProviderDescription } from './provider.ts'
import { synthetic } from './synthetic/description.ts'
import { tart } from './tart/description.ts'

export const providers: readonly ProviderDescription[] = [kvm, tart, hyperv, aws, synthetic]

export const providerNames: readonly ProviderName[] = providers.map(({ name }) => name)

/** Fails with `provider-missing` when there is none of this name. */
export const providerRow = (name: ProviderName): ProviderDescription => {
  const row = providers.find(each => each.name === name)
  if (row === undefined)
    throw fail(
      'provider-missing',
      `the provider ${name} does not exist`,
      `The providers are ${providerNames.join(', ')}.`,
    )
  return row
}
