import type { ProviderDescription } from '../provider.ts'

export const hyperv: ProviderDescription = {
  name: 'hyperv',
  label: 'Hyper-V',
  detected: true,
  provenOn: null,
  live: false,
  settings: {},
  environment: [],
  open: null,
}
