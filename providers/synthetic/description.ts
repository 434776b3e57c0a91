import type { ProviderDescription } from '../provider.ts'
import { type SyntheticSettings, settings } from './settings.ts'

export const synthetic: ProviderDescription<SyntheticSettings> = {
  name: 'synthetic',
  label: 'synthetic (directories instead of machines)',
  platform: null,
  detected: false,
  needs: null,
  live: true,
  settings,
  environment: [],
  open: async tools => (await import('./index.ts')).openSynthetic(tools),
}
