/** virsh, and what its answers say. Shapes as virsh 9.0 prints them. */
import { allow, fail } from '../../src/errors.ts'
import { explained, type Run, type RunOptions } from '../../src/exec.ts'
import type { VmStatus, VmUsage } from '../provider.ts'
import { explainVirsh } from './explain.ts'
import type { KvmSettings } from './settings.ts'
import { thisSystem } from './systems.ts'
import { NAMESPACE, unescapeXml } from './xml.ts'

export type Virsh = ReturnType<typeof openVirsh>
type Command = readonly string[]

/** As virsh reads a line of commands: quoted like a shell's. Names of ours need none. */
const quoted = (word: string) => (/^[A-Za-z0-9_./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)
/** Commands as a person would type them after `virsh`. */
const shown = (commands: readonly Command[]) => `virsh ${commands.map(one => one.join(' ')).join('; ')}`.slice(0, 300)
/** What was said, without virsh's own mark before it. */
const plainly = (stderr: string) => stderr.trim().replaceAll(/^error: /gm, '')

export const openVirsh = (run: Run, settings: Pick<KvmSettings, 'uri'>) => {
  const explain = explainVirsh(settings)
  const failed = (doing: string, stderr: string) => explained(doing, plainly(stderr), explain)
  /** Every failure is told by `failed`: the exit code is no more than that there is one. */
  const call = async (argv: Command, options: RunOptions) => {
    try {
      return await run('virsh', ['--connect', settings.uri, '--quiet', ...argv], {
        deadline: 60_000,
        doing: 'asking libvirt',
        ...options,
        answers: [1],
      })
    } catch (error) {
      allow('provider-missing')(error)
      throw fail('provider-missing', 'virsh is not installed, with which libvirt is asked', thisSystem().install)
    }
  }
  const several = (commands: readonly Command[], options: RunOptions) =>
    call([commands.map(command => command.map(quoted).join(' ')).join('; ')], options)
  return {
    /** What virsh said on stderr, as a failure. `doing` says in words what was being done. */
    failed,
    /** One command. */
    one: async (argv: Command, options: RunOptions = {}): Promise<string> => {
      const { stdout, stderr, exitCode } = await call(argv, options)
      if (exitCode !== 0) throw failed(options.doing ?? shown([argv]), stderr)
      return stdout
    },
    /**
     * Several commands in one process, since a process costs more than most of them. Every one is run, whatever became of
     * those before; what failed is missing from `stdout`, and `stderr` says why. Fails only when libvirt cannot be asked.
     */
    ask: async (
      commands: readonly Command[],
      options: RunOptions = {},
    ): Promise<{ stdout: string; stderr: string }> => {
      if (commands.length === 0) return { stdout: '', stderr: '' }
      const { stdout, stderr } = await several(commands, options)
      if (/failed to connect to the hypervisor|Disconnected from|client socket is closed/.test(stderr))
        throw failed('asking libvirt', stderr)
      return { stdout, stderr }
    },
    /** Several commands in one process. Every one is run; fails with what was said when one of them failed. */
    all: async (commands: readonly Command[], options: RunOptions = {}): Promise<string> => {
      const { stdout, stderr } = await several(commands, options)
      if (/^error: /m.test(stderr)) throw failed(options.doing ?? shown(commands), stderr)
      return stdout
    },
  }
}

/** `state.state` of domstats: 5 is shut off, 6 crashed; what pauses or shuts down is still there with its memory. */
const statsStatus = (state: number | undefined): VmStatus =>
  state === undefined || state === 5 || state === 6 || state === 0 ? 'stopped' : 'running'

/** The numbers that `domstats` tells, by machine and name. */
const parseStats = (text: string): Map<string, Map<string, number>> => {
  const found = new Map<string, Map<string, number>>()
  let one: Map<string, number> | null = null
  for (const line of text.split('\n')) {
    const name = line.match(/^Domain: '(.*)'$/)?.[1]
    if (name !== undefined) {
      one = new Map()
      found.set(name, one)
    }
    const [, key, value] = line.match(/^ {2}([a-z0-9.-]+)=(\d+)$/) ?? []
    if (key !== undefined) one?.set(key, Number(value))
  }
  return found
}

export const parseStates = (text: string): Map<string, VmStatus> =>
  new Map([...parseStats(text)].map(([name, stats]) => [name, statsStatus(stats.get('state.state'))]))

/** What each machine uses, of `domstats --state --cpu-total --vcpu --balloon`. Memory in KiB there, time in nanoseconds. */
export const parseUse = (text: string): Map<string, Omit<VmUsage, 'diskBytes'>> =>
  new Map(
    [...parseStats(text)].map(([name, stats]) => {
      const stopped = statsStatus(stats.get('state.state')) === 'stopped'
      const [rss, time] = [stats.get('balloon.rss'), stats.get('cpu.time')]
      return [
        name,
        {
          cpus: stats.get('vcpu.current') ?? stats.get('vcpu.maximum') ?? 0,
          memoryBytes: (stats.get('balloon.maximum') ?? 0) * 1024,
          memoryUsedBytes: stopped ? 0 : rss === undefined ? null : rss * 1024,
          cpuSeconds: stopped || time === undefined ? null : time / 1e9,
        },
      ]
    }),
  )

/** Where a pool's volumes lie, and its bytes, out of `pool-dumpxml`; null when there is no pool. */
export const parsePool = (text: string): { folder: string; total: number; available: number } | null => {
  const pool = text.match(/<pool[\s>][\s\S]*<\/pool>/)?.[0]
  const folder = pool?.match(/<target>[\s\S]*?<path>([^<]*)<\/path>/)?.[1]
  const bytes = (name: string) => Number(pool?.match(new RegExp(`<${name} unit='bytes'>(\\d+)<`))?.[1] ?? 0)
  return folder === undefined
    ? null
    : { folder: unescapeXml(folder), total: bytes('capacity'), available: bytes('available') }
}

/** Of `nodeinfo` and `nodememstats`, whose numbers are KiB. What only buffers and caches can be had by a machine. */
export const parseNode = (text: string) => {
  const kib = (name: string) => Number(text.match(new RegExp(`^${name}\\s*:\\s+(\\d+) KiB`, 'm'))?.[1] ?? 0) * 1024
  return {
    cpus: Number(text.match(/^CPU\(s\):\s+(\d+)/m)?.[1] ?? 0),
    memoryBytes: { total: kib('total'), available: kib('free') + kib('buffers') + kib('cached') },
  }
}

/** Of `version --daemon`: all of it on one line, and the version of the libvirt that answers. */
export const parseVersions = (text: string): { all: string; libvirt: string } => ({
  all: (text.match(/^(?:Compiled|Using|Running) .*$/gm) ?? []).join(', '),
  libvirt: text.match(/^Running against daemon: ([\d.]+)/m)?.[1] ?? '',
})

/** The first names in the rows of a list. */
export const parseNames = (text: string): string[] =>
  text.split('\n').flatMap(line => line.trim().split(/\s+/)[0] || [])

export type Mark = {
  name: string
  ticket: string
  mac: string
  /** The port of this host that leads to the machine's SSH; null where the machine has an address of its own. */
  port: number | null
}

/** The marks of ours in what `virsh metadata` printed, one or many: the attributes come in any order. */
export const parseMarks = (text: string): Mark[] =>
  [...text.matchAll(/<(?:\w+:)?vm\s[^>]*>/g)].flatMap(([element]) => {
    const attribute = (name: string) => element.match(new RegExp(`\\b${name}=["']([^"']*)["']`))?.[1]
    const [name, ticket, mac, port] = [attribute('name'), attribute('ticket'), attribute('mac'), attribute('port')]
    return name === undefined || ticket === undefined || mac === undefined
      ? []
      : [{ name, ticket, mac, port: port === undefined ? null : Number(port) }]
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
