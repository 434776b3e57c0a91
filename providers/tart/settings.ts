import { addressRange, listOf, type Setting, type SettingValues, text } from '../../src/schema/forms.ts'

export const tartSettings = {
  tartHome: {
    env: 'AGENT_SWARM_TART_HOME',
    form: text,
    says: "Tart's own folder (its TART_HOME), which holds the machines and their images. By default, `~/.tart`.",
    example: '/Volumes/fast/tart',
  },
  tartAllow: {
    env: 'AGENT_SWARM_TART_ALLOW',
    form: listOf(addressRange),
    default: [],
    says: 'Private ranges that machines may reach where Softnet isolates them; all others are closed to them (docs/tart.md, Isolation).',
    example: ['10.1.0.0/16'],
  },
} as const satisfies Record<string, Setting>

export type TartSettings = SettingValues<typeof tartSettings>
