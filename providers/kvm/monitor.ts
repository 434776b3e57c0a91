/** QEMU's own monitor, by libvirt, and the capability there that makes a save of a guest's memory live (live.ts). */
import { parseCapability } from './parse.ts'
import type { Command } from './virsh.ts'

const CAPABILITY = 'background-snapshot'

export const monitor = (id: string, execute: string, more: Record<string, unknown> = {}): Command => [
  'qemu-monitor-command',
  id,
  JSON.stringify({ execute, ...more }),
]

/** QEMU refuses it while a save is under way (qmp_migrate_set_capabilities; tried with 7.2). */
export const setLive = (id: string, state: boolean): Command =>
  monitor(id, 'migrate-set-capabilities', { arguments: { capabilities: [{ capability: CAPABILITY, state }] } })
export const readLive = (id: string): Command => monitor(id, 'query-migrate-capabilities')

/** Whether it is on, in an answer to `readLive`. */
export const isLiveIn = (text: string): boolean | null => parseCapability(text, CAPABILITY)
