import { integer, type Setting, type SettingValues } from '../../src/schema/forms.ts'

export const settings = {
  syntheticMemoryMiB: {
    env: 'AGENT_SWARM_SYNTHETIC_MEMORY_MIB',
    form: integer(256, 1_048_576),
    says: 'The memory that a host of synthetic machines is taken to have, in MiB, to try out what happens when it is full. By default, it is never full.',
    example: 8192,
  },
} as const satisfies Record<string, Setting>
export type SyntheticSettings = Partial<SettingValues<typeof settings>>
