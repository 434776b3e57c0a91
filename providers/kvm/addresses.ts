/** The addresses and ports that the host has itself. */
import { existsSync, readFileSync } from 'node:fs'
import { parseAddress, type Range, rangeText } from '../ipv4.ts'

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
