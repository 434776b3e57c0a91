import type { ProviderDescription } from '../provider.ts'
import { type SyntheticSettings, settings } from './settings.ts'

export const synthetic: ProviderDescription<SyntheticSettings> = {
  name: 'synthetic',
  label: 'synthetic (directories instead of machines)',
  platform: null,
  detected: false,
  provenOn: 'any system with Node 24 (it makes directories instead of machines)',
  live: true,
  settings,
  environment: [],
  open: async tools => (await import('./index.ts')).openSynthetic(tools),
}
