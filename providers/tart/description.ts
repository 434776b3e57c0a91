import type { ProviderDescription } from '../provider.ts'

export const tart: ProviderDescription = {
  name: 'tart',
  label: 'Tart',
  platform: 'darwin',
  detected: true,
  needs: 'Tart',
  live: false,
  settings: {},
  environment: ['TART_HOME'],
  open: null,
}
