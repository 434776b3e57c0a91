/** IPv4 addresses and ranges, and those that the host has itself. */
import { existsSync, readFileSync } from 'node:fs'

/** A range of addresses. One address has 32 bits. */
export type Range = { base: number; bits: number }

const ADDRESS = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/

export const parseAddress = (text: string): number | null => {
  const parts = text.match(ADDRESS)?.slice(1).map(Number)
  if (parts === undefined || parts.some(part => part > 255)) return null
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}
export const addressText = (address: number): string =>
  [24, 16, 8, 0].map(shift => Math.floor(address / 2 ** shift) % 256).join('.')

/** `10.1.0.0/16`; null when it is not a range: an address inside one is not (`10.1.2.3/16`). */
export const parseRange = (text: string): Range | null => {
  const [address = '', length = ''] = text.split('/')
  const [base, bits] = [parseAddress(address), Number(length)]
  if (base === null || !/^\d{1,2}$/.test(length) || bits > 32) return null
  return base % 2 ** (32 - bits) === 0 ? { base, bits } : null
}
export const rangeOf = (address: number, bits: number): Range => ({
  base: address - (address % 2 ** (32 - bits)),
  bits,
})
export const rangeText = ({ base, bits }: Range): string => `${addressText(base)}/${bits}`

export const covers = (outer: Range, inner: Range): boolean =>
  outer.bits <= inner.bits && rangeOf(inner.base, outer.bits).base === outer.base
export const overlap = (a: Range, b: Range): boolean => covers(a, b) || covers(b, a)

/**
 * What the kernel delivers to the host itself, in /proc/net/fib_trie: its addresses, also those of interfaces that are down,
 * and the broadcast addresses of its networks.
 */
export const parseLocalAddresses = (text: string): Range[] => {
  const ranges = new Map<string, Range>()
  let base: number | null = null
  for (const line of text.split('\n')) {
    const address = line.match(/\|-- ([\d.]+)/)?.[1]
    if (address !== undefined) base = parseAddress(address)
    const bits = line.match(/\/(\d+) \w+ (?:LOCAL|BROADCAST)/)?.[1]
    if (base === null || bits === undefined) continue
    const range = { base, bits: Number(bits) }
    ranges.set(rangeText(range), range)
  }
  return [...ranges.values()].sort((a, b) => a.base - b.base || a.bits - b.bits)
}

const read = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '')

export const localAddresses = (): Range[] => parseLocalAddresses(read('/proc/net/fib_trie'))

/** The ports that connections of the host begin at. Linux's default where the file is missing. */
export const ephemeralPorts = (): { from: number; to: number } => {
  const [from = 32_768, to = 60_999] = read('/proc/sys/net/ipv4/ip_local_port_range').trim().split(/\s+/).map(Number)
  return Number.isInteger(from) && from > 0 && to >= from ? { from, to } : { from: 32_768, to: 60_999 }
}

/** Whether iptables sees what a bridge carries: `-m physdev`, which libvirt's rules have, loads the module with this on. */
export const bridgeCallsIptables = (): boolean => read('/proc/sys/net/bridge/bridge-nf-call-iptables').trim() !== '0'
