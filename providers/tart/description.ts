import type { ProviderDescription } from '../provider.ts'
import { type TartSettings, tartSettings } from './settings.ts'

export const tart: ProviderDescription<TartSettings> = {
  name: 'tart',
  label: 'Tart',
  platform: 'darwin',
  detected: true,
  needs: 'Tart',
  live: false,
  settings: tartSettings,
  // Tart's own folder is a setting; the keychain is found by the user's home.
  environment: [],
  open: async tools => (await import('./index.ts')).openTart(tools),
}
