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
  // What Windows programs need to start. Never PSModulePath: one of PowerShell 7 makes Windows PowerShell load the wrong modules.
  environment: [
    ...['windir', 'SystemDrive', 'ProgramFiles', 'ProgramData', 'USERPROFILE', 'LOCALAPPDATA', 'APPDATA'],
    ...['TEMP', 'TMP', 'PATHEXT', 'ComSpec'],
  ],
  open: async tools => (await import('./index.ts')).openHyperv(tools),
}
