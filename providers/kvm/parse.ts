/** What virsh prints, parsed. Shapes of virsh 9.0. Columns vary in width, so rows are split on whitespace. */
import { VM_ID } from '../../src/domain.ts'
import type { PauseCause, VmStatus, VmUsage } from '../provider.ts'
import { unescapeXml } from './xml.ts'

export type State = {
  status: VmStatus
  /** Why a running machine is paused. */
  paused?: string
  pauseCause?: PauseCause
}

/** virDomainState: 0 no state, 5 shut off, 6 crashed. All others still have a process with the guest's memory. */
const STOPPED: readonly (number | undefined)[] = [undefined, 0, 5, 6]
const PAUSED = 3
const PM_SUSPENDED = 7
/** QEMU pauses a guest only for a write without space; other errors of a disk go to the guest (`werror=enospc`, its default). */
export const DISK_FULL = 'disk full'
export const SHUTTING_DOWN = 'shutting down'
/** The guest went to sleep: it goes on when it is woken, not when it is resumed. */
export const SUSPENDED = 'suspended by the guest'
/**
 * virDomainPausedReason, by number, and who may end it. libvirt pauses a machine itself while it saves, dumps or starts one; an
 * internal checkpoint is "saving" (libvirt 9.0). One that stays so lost its libvirtd meanwhile. After a crash or a watchdog, a
 * person decides.
 */
const PAUSES: readonly (readonly [reason: string, cause: PauseCause])[] = [
  ['unknown', 'asked'],
  ['by a user', 'asked'],
  ['migration', 'asked'],
  ['saving', 'interrupted'],
  ['core dump', 'interrupted'],
  [DISK_FULL, 'disk-full'],
  ['watchdog', 'asked'],
  ['restored as paused', 'asked'],
  [SHUTTING_DOWN, 'asked'],
  ['making a checkpoint', 'interrupted'],
  ['the guest crashed', 'asked'],
  ['starting', 'interrupted'],
  ['migration', 'asked'],
  ['failed migration', 'asked'],
  ['failed command', 'interrupted'],
]

/** The numbers in the output of `domstats`, by machine and name. */
const parseStats = (text: string): Map<string, Map<string, number>> => {
  const machines = new Map<string, Map<string, number>>()
  let stats: Map<string, number> | null = null
  for (const line of text.split('\n')) {
    const name = line.match(/^Domain: '(.*)'$/)?.[1]
    if (name !== undefined) {
      stats = new Map()
      machines.set(name, stats)
    }
    const [, key, value] = line.match(/^ {2}([a-z0-9.-]+)=(\d+)$/) ?? []
    if (key !== undefined) stats?.set(key, Number(value))
  }
  return machines
}

/** The output of the same commands on one machine after the other, by machine. The first of them is `domstats`. */
export const parseSections = (text: string): Map<string, string> =>
  new Map(
    text.split(/^(?=Domain: ')/m).flatMap(section => {
      const name = section.match(/^Domain: '(.*)'$/m)?.[1]
      return name === undefined ? [] : [[name, section] as const]
    }),
  )

const stateOf = (stats: Map<string, number>): State => {
  const state = stats.get('state.state')
  if (STOPPED.includes(state)) return { status: 'stopped' }
  if (state === PM_SUSPENDED) return { status: 'running', paused: SUSPENDED, pauseCause: 'asked' }
  if (state !== PAUSED) return { status: 'running' }
  const [paused, pauseCause] = PAUSES[stats.get('state.reason') ?? 0] ?? ['unknown', 'asked']
  return { status: 'running', paused, pauseCause }
}

/** `domstats --state` */
export const parseStates = (text: string): Map<string, State> =>
  new Map([...parseStats(text)].map(([name, stats]) => [name, stateOf(stats)]))

/** `domstats --state --cpu-total --vcpu --balloon`. Memory is in KiB there, time in nanoseconds. */
export const parseUsage = (text: string): Map<string, Omit<VmUsage, 'diskBytes'>> =>
  new Map(
    [...parseStats(text)].map(([name, stats]) => {
      const isStopped = stateOf(stats).status === 'stopped'
      const [rss, time] = [stats.get('balloon.rss'), stats.get('cpu.time')]
      return [
        name,
        {
          cpus: stats.get('vcpu.current') ?? stats.get('vcpu.maximum') ?? 0,
          memoryBytes: (stats.get('balloon.maximum') ?? 0) * 1024,
          memoryUsedBytes: isStopped ? 0 : rss === undefined ? null : rss * 1024,
          cpuSeconds: isStopped || time === undefined ? null : time / 1e9,
        },
      ]
    }),
  )

/** Guests that say how much memory they use do so at least this often; what is older is of their boot. */
const FRESH_SECONDS = 60

/**
 * How much of a running guest's memory a checkpoint writes, at most about, of `domstats --balloon`: the size of QEMU's process, which
 * the host measures. Under emulation that is several times as much, so what the guest says of itself counts there (`guestAt`: now, in
 * seconds; elsewhere null), and a quarter of what it calls free: not all of that went back to the host. Null when it is not running or
 * not known.
 */
export const parseMemoryInUse = (text: string, id: string, guestAt: number | null): number | null => {
  const stats = parseStats(text).get(id)
  const [most, rss] = [stats?.get('balloon.maximum'), stats?.get('balloon.rss')]
  if (stats === undefined || most === undefined || stateOf(stats).status === 'stopped') return null
  const [unused, at] = [stats.get('balloon.unused'), stats.get('balloon.last-update') ?? 0]
  const isFresh = unused !== undefined && guestAt !== null && guestAt - at <= FRESH_SECONDS
  const inUse = isFresh ? most - Math.min(unused, most) * 0.75 : most
  return Math.min(inUse, rss ?? most, most) * 1024
}

/** All that the guest has, of `domstats --balloon`. Null when it is not running or not known. */
export const parseMemory = (text: string, id: string): number | null => {
  const stats = parseStats(text).get(id)
  const most = stats?.get('balloon.maximum')
  return stats === undefined || most === undefined || stateOf(stats).status === 'stopped' ? null : most * 1024
}

/** Bytes of a pool, and the folder of its volumes. */
export type Pool = { folder: string; total: number; available: number }

/** Names, types and folders in the output of one or many `pool-dumpxml`. */
export const parsePools = (text: string): (Omit<Pool, 'folder'> & { name: string; folder: string | null })[] =>
  [...text.matchAll(/<pool[\s>][\s\S]*?<\/pool>/g)].map(([pool]) => {
    const inside = (pattern: RegExp) => pool.match(pattern)?.[1]
    const bytes = (name: string) => Number(inside(new RegExp(`<${name} unit='bytes'>(\\d+)<`)) ?? 0)
    const folder = inside(/<target>[\s\S]*?<path>([^<]*)<\/path>/)
    return {
      name: unescapeXml(inside(/<name>([^<]*)<\/name>/) ?? ''),
      folder: folder === undefined ? null : unescapeXml(folder),
      total: bytes('capacity'),
      available: bytes('available'),
    }
  })

/** `pool-list --all`: whether each pool is active. The words are virsh's, so that their language is ours. */
export const parsePoolList = (text: string): Map<string, 'active' | 'inactive'> =>
  new Map(
    text.split('\n').flatMap(line => {
      const [, name, state] = line.match(/^\s*(\S+)\s+(active|inactive)\s/) ?? []
      return name === undefined || (state !== 'active' && state !== 'inactive') ? [] : [[name, state] as const]
    }),
  )

/** `pool-dumpxml` and `pool-list --all`; null when there is no pool, or when it is not active: then its figures are old. */
export const parsePool = (text: string): Pool | null => {
  const [pool] = parsePools(text)
  if (pool === undefined || pool.folder === null || parsePoolList(text).get(pool.name) !== 'active') return null
  const { folder, total, available } = pool
  return { folder, total, available }
}

/** `nodeinfo` and `nodememstats`, in KiB. Memory that only buffers and caches use is available to a machine. */
export const parseNode = (text: string) => {
  const bytes = (name: string) => Number(text.match(new RegExp(`^${name}\\s*:\\s+(\\d+) KiB`, 'm'))?.[1] ?? 0) * 1024
  return {
    cpus: Number(text.match(/^CPU\(s\):\s+(\d+)/m)?.[1] ?? 0),
    memoryBytes: { total: bytes('total'), available: bytes('free') + bytes('buffers') + bytes('cached') },
  }
}

/** `version --daemon`: all versions on one line, and those of the running libvirt and QEMU. */
export const parseVersions = (text: string): { all: string; libvirt: string; qemu: string } => ({
  all: (text.match(/^(?:Compiled|Using|Running) .*$/gm) ?? []).join(', '),
  libvirt: text.match(/^Running against daemon: ([\d.]+)/m)?.[1] ?? '',
  qemu: text.match(/^Running hypervisor: QEMU ([\d.]+)/m)?.[1] ?? '',
})

/** `9.0.0` as 9.00, `10.10.0` as 10.10. */
export const versionNumber = (text: string): number => {
  const [major = 0, minor = 0] = text.split('.').map(Number)
  return major + minor / 100
}

/** The version of a machine's own QEMU, which may be older than what is installed: the monitor's `query-version`, as `versionNumber`. */
export const parseQemuVersion = (text: string): number | null => {
  const part = (name: string) => text.match(new RegExp(`"qemu":\\s*\\{[^}]*"${name}":\\s*(\\d+)`))?.[1]
  const [major, minor] = [part('major'), part('minor')]
  return major === undefined || minor === undefined ? null : versionNumber(`${major}.${minor}`)
}

/** Whether the capability is on, in the monitor's `query-migrate-capabilities`. Null: it does not say. */
export const parseCapability = (text: string, capability: string): boolean | null => {
  const entry = text.match(new RegExp(`\\{[^{}]*"capability":\\s*"${capability}"[^{}]*\\}`))?.[0]
  const state = entry?.match(/"state":\s*(true|false)/)?.[1]
  return state === undefined ? null : state === 'true'
}

/** The monitor's `query-migrate`: whether a save under way has protected the guest's memory, and writes its pages. */
export const isWritingPages = (text: string): boolean => {
  const pages = (name: string) => Number(text.match(new RegExp(`"${name}":\\s*(\\d+)`))?.[1] ?? 0)
  return /"status":\s*"active"/.test(text) && pages('normal') + pages('duplicate') > 0
}

/** The first column of a list. */
export const parseNames = (text: string): string[] =>
  text.split('\n').flatMap(line => line.trim().split(/\s+/)[0] || [])

/** `net-info`, `pool-info` */
export const isActive = (text: string): boolean => /^(?:Active:\s+yes|State:\s+running)/m.test(text)

const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i
const IPV4 = /^(\d+\.\d+\.\d+\.\d+)\/\d+$/

/**
 * IPv4 addresses by MAC, of `net-dhcp-leases`. Of two leases of one MAC the one that ends last: a guest that asked under
 * another client id no longer has the older address. A lease without an end is shown as one of 1970.
 */
export const parseLeases = (text: string): Map<string, string> => {
  const leases = new Map<string, { ip: string; end: string }>()
  for (const line of text.split('\n')) {
    const [date = '', time, mac = '', , address = ''] = line.trim().split(/\s+/)
    const ip = address.match(IPV4)?.[1]
    if (!/^\d{4}-\d\d-\d\d$/.test(date) || !MAC.test(mac) || ip === undefined) continue
    const end = date < '1971' ? 'never' : `${date} ${time}`
    const other = leases.get(mac.toLowerCase())
    if (other === undefined || other.end <= end) leases.set(mac.toLowerCase(), { ip, end })
  }
  return new Map([...leases].map(([mac, { ip }]) => [mac, ip]))
}

/** The first IPv4 address of each MAC, of `domifaddr`. A row that begins with "-" belongs to the interface above it. */
export const parseAddresses = (text: string): Map<string, string> => {
  const addresses = new Map<string, string>()
  let mac = ''
  for (const line of text.split('\n')) {
    const [name = '', second = '', , address = ''] = line.trim().split(/\s+/)
    if (name !== '-') mac = MAC.test(second) ? second.toLowerCase() : ''
    const ip = address.match(IPV4)?.[1]
    if (mac === '' || ip === undefined || ip.startsWith('127.') || ip.startsWith('169.254.')) continue
    if (!addresses.has(mac)) addresses.set(mac, ip)
  }
  return addresses
}

/** `snapshot-list --topological`, oldest first: ` name  2026-11-23 07:39:42 +0000  running`. Within a second, parents are first. */
export const parseSnapshots = (text: string): string[] =>
  text
    .split('\n')
    .flatMap(line => {
      const [, name = '', date, time, hours, minutes] =
        line.match(/^\s*(\S+)\s+(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)\s+\S/) ?? []
      return name === '' ? [] : [{ name, at: Date.parse(`${date}T${time}${hours}:${minutes}`) }]
    })
    .sort((a, b) => a.at - b.at)
    .map(({ name }) => name)

/** `domblklist`, once or several times: each file of a machine's disk. */
export const parseDisks = (text: string): string[] =>
  [...text.matchAll(/^\s*vda\s+(\/.*?)\s*$/gm)].flatMap(([, path]) => path ?? [])

/** `query-block` of QEMU: the names of the files that its disks write into, and of those and all that they stand on. */
export const parseBlocks = (text: string): { written: string[]; open: string[] } => {
  const names = (key: string) =>
    [...text.matchAll(new RegExp(`"${key}":"[^"]*/([^"/]+)"`, 'g'))].flatMap(([, name]) => name ?? [])
  return { written: names('file'), open: names('filename') }
}

/** Allocated bytes by volume, of one or many `vol-info --bytes`. */
export const parseVolumes = (text: string): Map<string, number> => {
  const volumes = new Map<string, number>()
  let name: string | null = null
  for (const line of text.split('\n')) {
    name = line.match(/^Name:\s+(\S+)/)?.[1] ?? name
    const bytes = line.match(/^Allocation:\s+(\d+)/)?.[1]
    if (name !== null && bytes !== undefined) volumes.set(name, Number(bytes))
  }
  return volumes
}

/** What each volume depends on, both by their file names, of one or many `vol-dumpxml`. */
export const parseBacking = (text: string): Map<string, string> =>
  new Map(
    [...text.matchAll(/<volume[\s>][\s\S]*?<\/volume>/g)].flatMap(([volume]) => {
      const name = volume.match(/<name>([^<]*)<\/name>/)?.[1]
      const path = volume.match(/<backingStore>\s*<path>([^<]*)<\/path>/)?.[1]
      if (name === undefined || path === undefined) return []
      const below = unescapeXml(path)
      return [[unescapeXml(name), below.slice(below.lastIndexOf('/') + 1)] as const]
    }),
  )

/** `dominfo`: whether libvirt has saved the memory of a machine that is off. */
export const isSavedIn = (text: string): boolean => /^Managed save:\s+yes/m.test(text)

/** `list --with-managed-save --name`, among other output: the lines that hold only the name of one of our machines. */
export const parseSaved = (text: string): Set<string> =>
  new Set(
    text
      .split('\n')
      .map(line => line.trim())
      .filter(line => VM_ID.test(line)),
  )
