import type { ProviderDescription } from '../provider.ts'
import { type HypervSettings, hypervSettings } from './settings.ts'

export const hyperv: ProviderDescription<HypervSettings> = {
  name: 'hyperv',
  label: 'Hyper-V',
  platform: 'win32',
  detected: true,
  needs: 'Hyper-V',
  live: true,
  settings: hypervSettings,
  // What programs of Windows need to start is general (src/windows.ts).
  environment: [],
  open: async tools => (await import('./index.ts')).openHyperv(tools),
}
