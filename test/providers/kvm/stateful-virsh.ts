/** A virsh that remembers: domains with marks, volumes and snapshots, as far as machines need them. Its calls can fail in turn. */
import { readFileSync, writeFileSync } from 'node:fs'
import { fail } from '../../../src/errors.ts'
import type { Run } from '../../../src/exec.ts'
import { pool } from './fake-virsh.ts'

type Domain = { running: boolean; paused: boolean; mark: string; xml: string; disk: string }
type Snapshot = Domain & { name: string }

/** `nth`: from 0, of the processes of virsh. `after`: it did its work, and its answer is lost. */
export type VirshFault = { nth: number; when: 'before' | 'after'; as: 'refused' | 'timeout' }

const words = (line: string): string[] =>
  [...line.matchAll(/'((?:[^']|'\\'')*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
/** Commands of one process; a quoted mark has a semicolon of its own nowhere. */
const commandsIn = (argv: readonly string[]): string[][] => {
  const rest = argv.slice(3)
  const [only = ''] = rest
  return rest.length === 1 ? only.split('; ').map(words) : [[...rest]]
}

export const statefulVirsh = (image: string) => {
  const domains = new Map<string, Domain>()
  const volumes = new Set<string>([image])
  /** What a disk stands on. */
  const below = new Map<string, string>()
  /** The definition in a save image. */
  const memories = new Map<string, string>()
  const snapshots = new Map<string, Snapshot[]>()
  let fault: VirshFault | null = null
  let calls = 0

  const domain = (id: string): Domain => {
    const found = domains.get(id)
    if (found === undefined) throw new Error(`failed to get domain '${id}'`)
    return found
  }
  const snapshot = (id: string, flag = ''): Snapshot => {
    const found = snapshots.get(id)?.find(({ name }) => flag === `--snapshotname=${name}`)
    if (found === undefined) throw new Error('Domain snapshot not found: no domain snapshot with matching name')
    return found
  }
  const stats = (id: string, { running, paused }: Domain) =>
    `Domain: '${id}'\n  state.state=${running ? (paused ? 3 : 1) : 5}\n  state.reason=1\n`
  const addVolume = (name: string): string => {
    if (volumes.has(name)) throw new Error(`storage volume '${name}' exists already`)
    volumes.add(name)
    return ''
  }
  const nameOf = (path = ''): string => path.slice(path.lastIndexOf('/') + 1)
  const diskIn = (xml: string): string => nameOf(xml.match(/<source file=["']([^"']*)/)?.[1])
  const markIn = (xml: string): string => xml.match(/<(?:\w+:)?vm\s[^>]*>/)?.[0] ?? ''
  const xmlOf = (id: string): string => {
    const { xml, mark, disk } = domain(id)
    const named = xml.replace(/<(?:\w+:)?vm\s[^>]*>/, () => mark)
    return named.replace(/<source file=["'][^"']*["']/, () => `<source file="/pool/${disk}"`)
  }
  const snapshotOf = (id: string, words: readonly string[]): string => {
    const file = words.join(' ').match(/file=(\S+?)(?:,|\s|$)/)?.[1] ?? ''
    const found = domain(id)
    if (words.includes('--memspec')) {
      volumes.add(nameOf(file))
      memories.set(nameOf(file), xmlOf(id))
    } else {
      const name = nameOf(file)
      addVolume(name)
      below.set(name, found.disk)
      found.disk = name
    }
    return ''
  }
  const nameIn = (file: string): string => readFileSync(file, 'utf8').match(/<name>([^<]*)<\/name>/)?.[1] ?? ''

  const commands: Record<string, (...words: string[]) => string> = {
    metadata: (id = '', ...more) => {
      const found = domain(id)
      const set = more[more.indexOf('--set') + 1]
      if (more.includes('--set')) found.mark = set ?? ''
      return more.includes('--set') ? '' : found.mark
    },
    domstats: (id = '') =>
      id.startsWith('--') ? [...domains].map(([name, each]) => stats(name, each)).join('\n') : stats(id, domain(id)),
    list: () => [...domains.keys()].join('\n'),
    'vol-list': () => [...volumes].map(name => ` ${name}   /pool/${name}`).join('\n'),
    'vol-info': () => 'Capacity:       1024\nAllocation:     1024',
    'vol-create': (_pool, file = '') => {
      const name = nameIn(file)
      addVolume(name)
      below.set(name, nameOf(readFileSync(file, 'utf8').match(/<path>([^<]*)<\/path>/)?.[1]))
      return ''
    },
    'vol-dumpxml': (_flag, _pool, name = '') => {
      if (!volumes.has(name)) throw new Error(`failed to get vol '${name}'`)
      return `<volume><name>${name}</name><backingStore><path>/pool/${below.get(name)}</path></backingStore></volume>`
    },
    'vol-download': (_flag, _pool, name = '', file = '') => {
      writeFileSync(file, memories.has(name) ? 'LibvirtQemudSave' : '')
      return ''
    },
    'vol-create-as': (_pool, name = '') => addVolume(name),
    'vol-delete': (_flag, _pool, name = '') => {
      if (!volumes.delete(name)) throw new Error(`failed to get vol '${name}'`)
      return ''
    },
    define: (file = '') => {
      const xml = readFileSync(file, 'utf8')
      const id = nameIn(file)
      const { running = false, paused = false } = domains.get(id) ?? {}
      domains.set(id, { running, paused, mark: markIn(xml), xml, disk: diskIn(xml) })
      return ''
    },
    undefine: (id = '') => {
      domain(id)
      domains.delete(id)
      snapshots.delete(id)
      return ''
    },
    start: (id = '') => {
      if (domain(id).running) throw new Error('Domain is already active')
      domain(id).running = true
      return ''
    },
    shutdown: (id = '') => {
      if (!domain(id).running) throw new Error('Requested operation is not valid: domain is not running')
      domain(id).running = false
      return ''
    },
    'snapshot-list': id =>
      (snapshots.get(id ?? '') ?? []).map(({ name }) => ` ${name}   2026-11-24 10:00:00 +0000   running`).join('\n'),
    domblklist: (id = '') => ` vda   /pool/${domain(id).disk}`,
    suspend: (id = '') => {
      domain(id).paused = true
      return ''
    },
    resume: (id = '') => {
      domain(id).paused = false
      return ''
    },
    'qemu-monitor-command': (_id, text = '') =>
      text.includes('query-migrate-capabilities')
        ? '{"return":[{"state":false,"capability":"background-snapshot"}]}'
        : '{"return":{"qemu":{"micro":22,"minor":2,"major":7}}}',
    'save-image-dumpxml': (file = '') => memories.get(nameOf(file)) ?? '',
    restore: (file = '', _flag = '', definition = '') => {
      const xml = readFileSync(definition, 'utf8')
      const id = nameIn(definition)
      if (!memories.has(nameOf(file))) throw new Error(`failed to open ${file}`)
      if (domain(id).running) throw new Error('domain is already active')
      domains.set(id, { running: true, paused: false, mark: markIn(xml), xml, disk: diskIn(xml) })
      return ''
    },
    'snapshot-create-as': (id = '', flag = '', ...more) => {
      if (more.length > 1) return snapshotOf(id, [flag, ...more])
      const name = flag.replace('--name=', '')
      const kept = snapshots.get(id) ?? []
      if (kept.some(each => each.name === name)) throw new Error(`domain snapshot ${name} already exists`)
      snapshots.set(id, [...kept, { ...domain(id), name }])
      return ''
    },
    'snapshot-info': (id = '', flag = '') =>
      `Name: x\nState:          ${snapshot(id, flag).running ? 'running' : 'shutoff'}`,
    'snapshot-revert': (id = '', flag = '') => {
      const { name: _, ...state } = snapshot(id, flag)
      domains.set(id, { ...state })
      return ''
    },
    'snapshot-delete': (id = '', flag = '') => {
      const gone = snapshot(id, flag)
      snapshots.set(
        id,
        (snapshots.get(id) ?? []).filter(each => each !== gone),
      )
      return ''
    },
    dumpxml: (id = '') => xmlOf(id),
    domjobinfo: () => 'Job type:         None',
    'net-info': () => 'Active:         yes',
    'net-dumpxml': () => '<network><name>net</name></network>',
    version: () => 'Running against daemon: 9.0.0',
    'pool-dumpxml': () => pool(90_000).stdout ?? '',
    'pool-list': () => ' agent-swarm   active   yes',
  }
  commands.destroy = commands.shutdown ?? (() => '')

  const run: Run = async (program, argv, { doing = 'virsh' } = {}) => {
    if (program !== 'virsh') return { stdout: '', stderr: '', exitCode: 0, milliseconds: 0 }
    const isNow = fault?.nth === calls
    calls += 1
    const break_ = () => {
      if (fault?.as === 'timeout') throw fail('timeout', `${doing}: no answer within 60 s`)
      const stderr = 'error: failed to connect to the hypervisor\nerror: Failed to connect socket'
      return { stdout: '', stderr, exitCode: 1, milliseconds: 0 }
    }
    if (isNow && fault?.when === 'before') return break_()
    const [out, errors] = [[] as string[], [] as string[]]
    for (const [name = '', ...rest] of commandsIn(argv)) {
      try {
        out.push(commands[name]?.(...rest) ?? '')
      } catch (error) {
        errors.push(`error: ${error instanceof Error ? error.message : error}`)
      }
    }
    if (isNow) return break_()
    const print = (lines: string[]) => lines.map(line => `${line}\n`).join('')
    return { stdout: print(out), stderr: print(errors), exitCode: errors.length === 0 ? 0 : 1, milliseconds: 0 }
  }
  return {
    run,
    /** Begins to count anew. */
    failAt: (next: VirshFault | null) => {
      fault = next
      calls = 0
    },
    calls: () => calls,
    volumes: () => [...volumes].filter(name => name !== image).sort(),
    domains: () => Object.fromEntries([...domains].map(([id, { running }]) => [id, running ? 'running' : 'stopped'])),
  }
}
