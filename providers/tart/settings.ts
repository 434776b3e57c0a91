import { listOf, pattern, type Setting, type SettingValues } from '../../src/schema/forms.ts'
import { openedRange } from '../ipv4.ts'

export const tartSettings = {
  tartHome: {
    env: 'AGENT_SWARM_TART_HOME',
    // Another folder for each folder of work would lose machines; no shell replaces a tilde.
    form: pattern(/^\/[^\0]{0,1000}$/, 'is not an absolute path'),
    says: "Tart's own folder (its TART_HOME), which holds the machines and their images. By default, `~/.tart`.",
    example: '/Volumes/fast/tart',
  },
  tartAllow: {
    env: 'AGENT_SWARM_TART_ALLOW',
    form: listOf(openedRange),
    default: [],
    says: 'Private IPv4 ranges that machines may reach where Softnet isolates them; all others are closed to them (docs/tart.md, Isolation).',
    example: ['10.1.0.0/16'],
  },
} as const satisfies Record<string, Setting>

export type TartSettings = SettingValues<typeof tartSettings>
