/** Whether a machine fits on its host: one rule for the runner, its offer, the CLI and the bot. Pure. */
import type { EnvironmentKey } from './domain.ts'
import type { MachineSize } from './schema/basics.ts'
import { MAX_HOLDERS } from './schema/runner-protocol.ts'
import { counted } from './words.ts'

const MIB = 1024 ** 2
const GIB = 1024 ** 3
/** Virtual CPUs for each processor of the host: machines wait most of the time. */
const CPUS_EACH = 8
/** In the order in which they are named when they are missing. */
const MEMBERS = ['memoryMiB', 'cpus', 'diskGiB'] as const
/** Tickets that a text names. */
const NAMED = 5
/** Of the host's memory and disk, this share stays free, at most so many bytes. */
const RESERVE = { memory: { share: 0.05, most: 2 * GIB }, disk: { share: 0.05, most: 10 * GIB } } as const

/** `ticket` null: it is kept ready, and has none yet. `usedBytes`: of its memory, what the host has given it; null when it is not known. */
export type Running = { ticket: EnvironmentKey | null; cpus: number; memoryBytes: number; usedBytes: number | null }
type Amount = { total: number; available: number }
type Host = { cpus: number; memoryBytes: Amount; diskBytes: Amount }
/** The machines that run or are about to. `tickets`: the largest first, at most MAX_HOLDERS. `ready`: those without a ticket. */
export type Held = {
  tickets: EnvironmentKey[]
  machines: number
  ready?: number | undefined
  cpus: number
  memoryMiB: number
}
/** For machines, now and when the host is empty. */
export type Room = { free: MachineSize; empty: MachineSize; held: Held }

const reserveOf = (what: keyof typeof RESERVE, total: number): number =>
  Math.min(RESERVE[what].share * total, RESERVE[what].most)
const whole = (bytes: number, unit: number): number => Math.max(0, Math.floor(bytes / unit))

/**
 * `needs`: of machines that are about to run. Memory that a running machine may still take is not free, and neither is the
 * reserve.
 */
export const roomOf = (
  { cpus, memoryBytes, diskBytes }: Host,
  running: readonly Running[],
  needs: readonly (MachineSize & { ticket: EnvironmentKey })[] = [],
): Room => {
  const promised = running.reduce((sum, each) => sum + Math.max(0, each.memoryBytes - (each.usedBytes ?? 0)), 0)
  const pending = (member: keyof MachineSize) => needs.reduce((sum, need) => sum + need[member], 0)
  const reserve = { memory: reserveOf('memory', memoryBytes.total), disk: reserveOf('disk', diskBytes.total) }
  const holders = [
    ...running.map(({ ticket, memoryBytes: bytes, cpus: each }) => ({ ticket, cpus: each, memoryMiB: bytes / MIB })),
    ...needs,
  ].sort((one, other) => other.memoryMiB - one.memoryMiB)
  const ready = running.filter(({ ticket }) => ticket === null).length
  const held: Held = {
    tickets: holders.flatMap(({ ticket }) => ticket ?? []).slice(0, MAX_HOLDERS),
    machines: holders.length,
    ...(ready === 0 ? {} : { ready }),
    cpus: holders.reduce((sum, each) => sum + each.cpus, 0),
    memoryMiB: Math.ceil(holders.reduce((sum, each) => sum + each.memoryMiB, 0)),
  }
  return {
    free: {
      cpus: Math.max(0, cpus * CPUS_EACH - held.cpus),
      memoryMiB: whole(memoryBytes.available - promised - reserve.memory - pending('memoryMiB') * MIB, MIB),
      diskGiB: whole(diskBytes.available - reserve.disk - pending('diskGiB') * GIB, GIB),
    },
    empty: {
      cpus: cpus * CPUS_EACH,
      memoryMiB: whole(memoryBytes.total - reserve.memory, MIB),
      diskGiB: whole(diskBytes.total - reserve.disk, GIB),
    },
    held,
  }
}

/** What a machine of this size needs to begin with. Its disk grows as data is written; a checkpoint needs as much as its memory. */
export const needOf = ({ cpus, memoryMiB }: Pick<MachineSize, 'cpus' | 'memoryMiB'>): MachineSize => ({
  ...{ cpus, memoryMiB, diskGiB: Math.ceil(memoryMiB / 1024) },
})

/** The first that is missing; null when the need fits. */
export const lackOf = (need: MachineSize, room: MachineSize): keyof MachineSize | null =>
  MEMBERS.find(member => need[member] > room[member]) ?? null

/** How many machines of this size fit into the room beside each other, and what runs out first. */
export const fitting = (size: MachineSize, room: MachineSize): { machines: number; endsFirst: keyof MachineSize } => {
  const need = needOf(size)
  const times = (member: keyof MachineSize) => Math.floor(room[member] / need[member])
  const endsFirst = MEMBERS.reduce((least, member) => (times(member) < times(least) ? member : least))
  return { machines: times(endsFirst), endsFirst }
}

/** Rounded down, so that what is missing never looks as if it were there: `8 GiB`, `8.3 GiB`, `358 MiB`. */
const memory = (mib: number): string => (mib < 1024 ? `${mib} MiB` : `${Math.floor((mib / 1024) * 10) / 10} GiB`)
export const amountOf = (member: keyof MachineSize, amount: number): string =>
  ({
    cpus: `${amount} virtual CPUs`,
    memoryMiB: `${memory(amount)} of memory`,
    diskGiB: `${amount} GiB of disk`,
  })[member]

/** What has the room that is missing, for example `KEEP-1, KEEP-2 use 8 GiB of 9 GiB of memory`. The same until a machine changes. */
export const behindWhat = (
  lack: keyof MachineSize,
  { empty, held }: { empty: MachineSize; held?: Held | undefined },
) => {
  if (lack === 'diskGiB') return `the disk has less than that free, of ${amountOf(lack, empty[lack])}`
  if (held === undefined) return 'the host has no room for another machine of this size'
  if (held.machines === 0) return 'other programs of the host use its memory'
  const names = held.tickets.slice(0, NAMED)
  const { ready = 0 } = held
  const more = held.machines - ready - names.length
  const others = [...(more > 0 ? [`${more} more`] : []), ...(ready > 0 ? [counted(ready, 'ready machine')] : [])]
  const who = [...(names.length > 0 ? [names.join(', ')] : []), ...others].join(' and ')
  const used = lack === 'cpus' ? `${held.cpus}` : memory(held.memoryMiB)
  return `${who} ${held.machines === 1 ? 'uses' : 'use'} ${used} of ${amountOf(lack, empty[lack])}`
}
