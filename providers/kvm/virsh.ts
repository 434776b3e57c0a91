/** virsh, and what its answers say. Shapes as virsh 9.0 prints them. */
import type { Run, RunOptions } from '../../src/exec.ts'
import type { VmStatus } from '../provider.ts'
import { explainVirsh } from './explain.ts'
import { NAMESPACE } from './xml.ts'

export type Virsh = ReturnType<typeof openVirsh>

export const openVirsh = (run: Run, uri: string) => {
  const call = async (argv: readonly string[], options: RunOptions) =>
    (
      await run('virsh', ['--connect', uri, '--quiet', ...argv], {
        deadline: 60_000,
        explain: explainVirsh,
        ...options,
      })
    ).stdout
  return {
    /** One command. */
    one: (argv: readonly string[], options: RunOptions = {}) => call(argv, options),
    /**
     * Several commands in one process. Every one is run, whatever became of those before, and what failed is missing from
     * the answer. Words are names of ours, of letters, digits, hyphens and dots: nothing that virsh would split.
     */
    batch: async (commands: readonly (readonly string[])[]): Promise<string> => {
      if (commands.length === 0) return ''
      const words = commands.flat()
      const odd = words.find(word => !/^[A-Za-z0-9_./:=-]+$/.test(word))
      if (odd !== undefined) throw new RangeError(`virsh would split "${odd}"`)
      return call([commands.map(command => command.join(' ')).join('; ')], { answers: [1] })
    },
  }
}

/** libvirt's states; what runs, pauses or shuts down is still there with its memory. */
export const vmStatus = (domstate: string): VmStatus => {
  const state = domstate.trim()
  return state === 'shut off' || state === 'crashed' || state === 'no state' ? 'stopped' : 'running'
}

/** `state.state` of domstats: 5 is shut off, 6 crashed. */
const statsStatus = (state: number): VmStatus => (state === 5 || state === 6 || state === 0 ? 'stopped' : 'running')

type Domstats = {
  status: VmStatus
  cpus: number
  memoryBytes: number
  memoryUsedBytes: number | null
  cpuSeconds: number | null
}

/** By domain, what `domstats --state --cpu-total --vcpu --balloon` printed. Memory in KiB and time in ns there. */
export const parseDomstats = (text: string): Map<string, Domstats> =>
  new Map(
    text.split(/^(?=Domain: )/m).flatMap((part): [string, Domstats][] => {
      const name = part.match(/^Domain: '(.*)'$/m)?.[1]
      const number = (key: string) => {
        const found = part.match(new RegExp(`^\\s*${key.replaceAll('.', '\\.')}=(\\d+)$`, 'm'))?.[1]
        return found === undefined ? null : Number(found)
      }
      const state = number('state.state')
      if (name === undefined || state === null) return []
      const status = statsStatus(state)
      const [rss, time] = [number('balloon.rss'), number('cpu.time')]
      return [
        [
          name,
          {
            status,
            cpus: number('vcpu.maximum') ?? 0,
            memoryBytes: (number('balloon.maximum') ?? 0) * 1024,
            memoryUsedBytes: status === 'stopped' ? 0 : rss === null ? null : rss * 1024,
            cpuSeconds: status === 'stopped' || time === null ? null : time / 1e9,
          },
        ],
      ]
    }),
  )

/** `Capacity`, `Allocation`, `Available` of `pool-info --bytes`, and the like. */
export const numberAfter = (text: string, label: string): number | null => {
  const found = text.match(new RegExp(`^${label}\\s*:\\s*(\\d+)`, 'm'))?.[1]
  return found === undefined ? null : Number(found)
}

export type Mark = { name: string; ticket: string; mac: string }

/** The marks of ours in what `virsh metadata` printed, one or many: the attributes come in any order. */
export const parseMarks = (text: string): Mark[] =>
  [...text.matchAll(/<(?:\w+:)?vm\s[^>]*>/g)].flatMap(([element]) => {
    const attribute = (name: string) => element.match(new RegExp(`\\b${name}=["']([^"']*)["']`))?.[1]
    const [name, ticket, mac] = [attribute('name'), attribute('ticket'), attribute('mac')]
    return name === undefined || ticket === undefined || mac === undefined ? [] : [{ name, ticket, mac }]
  })
export const askMark = (id: string) => ['metadata', id, NAMESPACE] as const

/** IPv4 addresses by MAC, in what `net-dhcp-leases` or `domifaddr` printed: the columns differ, MAC and address look the same. */
export const parseAddresses = (text: string): Map<string, string> => {
  const found = new Map<string, string>()
  for (const line of text.split('\n')) {
    const mac = line.match(/\b([0-9a-f]{2}(?::[0-9a-f]{2}){5})\b/i)?.[1]?.toLowerCase()
    const ip = line.match(/\s(\d+\.\d+\.\d+\.\d+)\/\d+/)?.[1]
    if (mac === undefined || ip === undefined || ip.startsWith('127.') || ip.startsWith('169.254.')) continue
    if (!found.has(mac)) found.set(mac, ip)
  }
  return found
}

/** Names in the order of their making: ` name  2026-11-23 07:39:42 +0000  running`. Equal seconds keep virsh's order, parents first. */
export const parseSnapshots = (text: string): string[] =>
  text
    .split('\n')
    .flatMap(line => {
      const row = line.match(/^\s*(\S+)\s+(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d{4})\s+\S/)
      return row === null
        ? []
        : [{ name: row[1] ?? '', at: Date.parse(`${row[2]}T${row[3]}${row[4]?.slice(0, 3)}:${row[4]?.slice(3)}`) }]
    })
    .sort((a, b) => a.at - b.at)
    .map(one => one.name)

/** Allocated bytes by volume, of several `vol-info --bytes`. */
export const parseVolumes = (text: string): Map<string, number> => {
  const found = new Map<string, number>()
  let name: string | null = null
  for (const line of text.split('\n')) {
    name = line.match(/^Name:\s+(\S+)/)?.[1] ?? name
    const bytes = line.match(/^Allocation:\s+(\d+)/)?.[1]
    if (name !== null && bytes !== undefined) found.set(name, Number(bytes))
  }
  return found
}
