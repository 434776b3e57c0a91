/** What the programs of a Mac print, and Tart's own files. All of it is from outside: what has another form is left out. */
import * as v from 'valibot'
import { parseVmName } from './marks.ts'

type VmState = 'running' | 'stopped' | 'suspended'
export type ListedVm = { name: string; state: VmState }

const listed = v.array(v.object({ Name: v.string(), State: v.string() }))

/** Of `tart list --source local --format json`. Null: it is not a list. */
export const parseList = (text: string): ListedVm[] | null => {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), listed), text)
  if (!read.success) return null
  return read.output.map(({ Name, State }) => ({
    name: Name,
    state: State === 'running' || State === 'suspended' ? State : 'stopped',
  }))
}

/** Six bytes in hexadecimal without leading zeros, as the lease file writes them. */
const macKey = (text: string): string =>
  text
    .toLowerCase()
    .split(':')
    .map(part => part.replace(/^0+(?=.)/, ''))
    .join(':')

const config = v.object({
  cpuCount: v.pipe(v.number(), v.integer(), v.minValue(1)),
  memorySize: v.pipe(v.number(), v.integer(), v.minValue(1)),
  macAddress: v.pipe(v.string(), v.regex(/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i)),
})
export type VmConfig = { cpus: number; memoryBytes: number; mac: string }

/** Of a VM's config.json. */
export const parseConfig = (text: string): VmConfig | null => {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), config), text)
  if (!read.success) return null
  const { cpuCount, memorySize, macAddress } = read.output
  return { cpus: cpuCount, memoryBytes: memorySize, mac: macKey(macAddress) }
}

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/
export const isIpv4 = (text: string): boolean => IPV4.test(text)

/**
 * The addresses that macOS' DHCP server gave, by MAC, of its file /var/db/dhcpd_leases: without those that have ended, and of
 * several the one that ends last. `now`: seconds since 1970. A guest that sends another client id than its MAC is not in it.
 */
export const parseLeaseFile = (text: string, now: number): Map<string, string> => {
  const newest = new Map<string, { ip: string; end: number }>()
  for (const [, block = ''] of text.matchAll(/\{([^{}]*)\}/g)) {
    const mac = block.match(/^\s*hw_address=1,([0-9a-f:]{11,17})\s*$/im)?.[1]
    const ip = block.match(/^\s*ip_address=(\S{7,15})\s*$/m)?.[1]
    const end = Number(block.match(/^\s*lease=(0x[0-9a-f]{1,12})\s*$/im)?.[1] ?? Number.NaN)
    if (mac === undefined || ip === undefined || !isIpv4(ip) || !(end > now)) continue
    const key = macKey(mac)
    if (end > (newest.get(key)?.end ?? 0)) newest.set(key, { ip, end })
  }
  return new Map([...newest].map(([mac, { ip }]) => [mac, ip]))
}

/** Of `sysctl -n hw.ncpu hw.memsize`. */
export const parseHost = (text: string): { cpus: number; memoryBytes: number } | null => {
  const [cpus = 0, memoryBytes = 0] = text.trim().split(/\s+/).map(Number)
  return cpus > 0 && memoryBytes > 0 ? { cpus, memoryBytes } : null
}

/** Bytes that programs could have, of `vm_stat`: free pages, and those that are dropped when somebody needs them. */
export const parseAvailableMemory = (text: string): number | null => {
  const page = Number(text.match(/page size of (\d+) bytes/)?.[1])
  const pages = ['free', 'inactive', 'speculative'].map(name =>
    Number(text.match(new RegExp(`^Pages ${name}:\\s+(\\d+)\\.`, 'm'))?.[1]),
  )
  const bytes = page * pages.reduce((sum, count) => sum + count, 0)
  return Number.isSafeInteger(bytes) ? bytes : null
}

/** The arguments of `ps` for this user's processes: another user may give a process any title. */
export const OWN_PROCESSES = ['-xww', '-o', 'pid=,command=']
/** The processes `tart run`, of `ps`. `words`: what follows the VM's name. */
export const parseRuns = (text: string): { pid: number; name: string; words: string }[] =>
  text.split('\n').flatMap(line => {
    const [, pid, name = '', words = ''] = line.match(/^\s*(\d+)\s+(?:\S*\/)?tart run (\S+)(.*)$/) ?? []
    return pid === undefined ? [] : [{ pid: Number(pid), name, words }]
  })

/**
 * The processes that run a machine. Tart renames a VM that runs, and its process keeps the name that it began with: the vmId stays in
 * it, and the home. The path of its seed says nothing: the home may have been reached by another path then.
 */
export const parseRunProcesses = (text: string, { vmId, home }: { vmId: string; home: string }): number[] =>
  parseRuns(text).flatMap(({ pid, name }) => {
    const mark = parseVmName(name)
    return mark?.kind === 'machine' && mark.vmId === vmId && mark.home === home ? [pid] : []
  })
