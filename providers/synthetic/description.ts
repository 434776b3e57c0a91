import { integer } from '../../src/schema/forms.ts'
import type { ProviderDescription } from '../provider.ts'

export type SyntheticSettings = { syntheticMemoryMiB?: number | null }

export const synthetic: ProviderDescription<SyntheticSettings> = {
  name: 'synthetic',
  label: 'synthetic (directories instead of machines)',
  detected: false,
  provenOn: 'any system with Node 24 (it makes directories instead of machines)',
  live: true,
  settings: {
    syntheticMemoryMiB: {
      env: 'AGENT_SWARM_SYNTHETIC_MEMORY_MIB',
      form: integer(256, 1_048_576),
      says: 'The memory that a host of synthetic machines is taken to have, in MiB, to try out what happens when it is full. By default, it is never full.',
      example: 8192,
    },
  },
  environment: [],
  open: async tools => (await import('./index.ts')).openSynthetic(tools),
}
