import type { ProviderDescription } from '../provider.ts'

export const hyperv: ProviderDescription = {
  name: 'hyperv',
  label: 'Hyper-V',
  platform: 'win32',
  detected: true,
  needs: 'Hyper-V',
  live: false,
  settings: {},
  environment: [],
  open: null,
}
