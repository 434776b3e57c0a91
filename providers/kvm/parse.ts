/** What virsh prints, parsed. Shapes of virsh 9.0. Columns vary in width, so rows are split on whitespace. */
import type { VmStatus, VmUsage } from '../provider.ts'
import { unescapeXml } from './xml.ts'

type State = {
  status: VmStatus
  /** Why a running machine is paused. */
  paused?: string
}

/** virDomainState: 0 no state, 5 shut off, 6 crashed. All others still have a process with the guest's memory. */
const STOPPED: readonly (number | undefined)[] = [undefined, 0, 5, 6]
const PAUSED = 3
/** virDomainPausedReason, by number. */
const PAUSED_REASONS = [
  'unknown',
  'by a user',
  'migration',
  'saving',
  'core dump',
  'I/O error (is the disk of the host full?)',
  'watchdog',
  'restored as paused',
  'shutting down',
  'making a checkpoint',
  'the guest crashed',
  'starting',
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

const stateOf = (stats: Map<string, number>): State => {
  const state = stats.get('state.state')
  if (STOPPED.includes(state)) return { status: 'stopped' }
  if (state !== PAUSED) return { status: 'running' }
  return { status: 'running', paused: PAUSED_REASONS[stats.get('state.reason') ?? 0] ?? 'unknown' }
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

/** Bytes of a pool, and the folder of its volumes. */
export type Pool = { folder: string; total: number; available: number }

/** `pool-dumpxml`; null when there is no pool. */
export const parsePool = (text: string): Pool | null => {
  const pool = text.match(/<pool[\s>][\s\S]*<\/pool>/)?.[0]
  const folder = pool?.match(/<target>[\s\S]*?<path>([^<]*)<\/path>/)?.[1]
  const bytes = (name: string) => Number(pool?.match(new RegExp(`<${name} unit='bytes'>(\\d+)<`))?.[1] ?? 0)
  return folder === undefined
    ? null
    : { folder: unescapeXml(folder), total: bytes('capacity'), available: bytes('available') }
}

/** `nodeinfo` and `nodememstats`, in KiB. Memory that only buffers and caches use is available to a machine. */
export const parseNode = (text: string) => {
  const bytes = (name: string) => Number(text.match(new RegExp(`^${name}\\s*:\\s+(\\d+) KiB`, 'm'))?.[1] ?? 0) * 1024
  return {
    cpus: Number(text.match(/^CPU\(s\):\s+(\d+)/m)?.[1] ?? 0),
    memoryBytes: { total: bytes('total'), available: bytes('free') + bytes('buffers') + bytes('cached') },
  }
}

/** `version --daemon`: all versions on one line, and that of the running libvirt. */
export const parseVersions = (text: string): { all: string; libvirt: string } => ({
  all: (text.match(/^(?:Compiled|Using|Running) .*$/gm) ?? []).join(', '),
  libvirt: text.match(/^Running against daemon: ([\d.]+)/m)?.[1] ?? '',
})

/** The first column of a list. */
export const parseNames = (text: string): string[] =>
  text.split('\n').flatMap(line => line.trim().split(/\s+/)[0] || [])

/** `net-info`, `pool-info` */
export const isActive = (text: string): boolean => /^(?:Active:\s+yes|State:\s+running)/m.test(text)

/** IPv4 addresses by MAC, of `net-dhcp-leases` or `domifaddr`: their columns differ, but MAC and address look the same. */
export const parseAddresses = (text: string): Map<string, string> => {
  const addresses = new Map<string, string>()
  for (const line of text.split('\n')) {
    const mac = line.match(/\b([0-9a-f]{2}(?::[0-9a-f]{2}){5})\b/i)?.[1]?.toLowerCase()
    const ip = line.match(/\s(\d+\.\d+\.\d+\.\d+)\/\d+/)?.[1]
    if (mac === undefined || ip === undefined || ip.startsWith('127.') || ip.startsWith('169.254.')) continue
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
