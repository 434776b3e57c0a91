/**
 * A stand-in for `tart` 2.35.0: a whole program with its state on disk. It knows nothing of agent-swarm. It takes the command lines
 * of flags.json alone, and behaves as Tart's sources say, traps included.
 */

import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Given, readArguments, usageError, VERSION } from './arguments.ts'
import { addressOf, LEASES } from './guest.ts'
import { run } from './run.ts'
import {
  at,
  cached,
  copyVm,
  diskBytes,
  exists,
  growDisk,
  inRegistry,
  isAlive,
  isReference,
  isWhole,
  knobs,
  names,
  place,
  putDisk,
  randomMac,
  readConfig,
  removeVm,
  runner,
  setKnobs,
  spring,
  stateOf,
  vmDir,
  writeConfig,
} from './store.ts'

const GB = 1000 ** 3
const MIB = 1024 ** 2

/** Of Tart's own errors: without a prefix. */
const end = (code: number, text: string): never => {
  process.stderr.write(`${text}\n`)
  process.exit(code)
}
const requireVm = (name: string): string => {
  if (exists(name)) return vmDir(name)
  spring('a VM that is missing ends with 2')
  return end(2, `the specified VM "${name}" does not exist`)
}
const requireLocalName = (name: string, command: string) => {
  if (name.includes('/')) usageError('<new-name> should be a local name', command)
}

/** Before each command but pull and clone. */
const collectGarbage = (): void => {
  for (const name of existsSync(at('tmp')) ? readdirSync(at('tmp')) : []) {
    const owner = at('tmp', name, 'owner')
    if (existsSync(owner) && isAlive(Number(readFileSync(owner, 'utf8')))) continue
    spring('an interrupted clone leaves a folder that the next command removes')
    removeVm(at('tmp', name))
  }
}

const temporary = (): string => {
  const dir = at('tmp', randomUUID())
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'owner'), String(process.pid))
  return dir
}
const publish = (dir: string, name: string): void => {
  rmSync(join(dir, 'owner'))
  place(dir, name)
}

const decimal = (bytes: number): number => Math.floor(bytes / GB)
const allocated = (dir: string): number => statSync(join(dir, 'disk.img')).blocks * 512

const list = ({ options }: Given): void => {
  const source = options['--source']?.[0] ?? null
  const format = options['--format']?.[0] ?? 'text'
  if (source !== null && !['local', 'oci'].includes(source)) usageError(`'${source}' is not a valid <source>`, 'list')
  const { vanish = 0, ...others } = knobs()
  if (vanish > 0) {
    setKnobs({ ...others, vanish: vanish - 1 })
    spring('a VM that vanishes fails the whole list')
    end(1, 'Error: The file “config.json” couldn’t be opened because there is no such file.')
  }
  const rows = names().flatMap(name => {
    const dir = vmDir(name)
    if (!isWhole(dir)) {
      spring('a half-made folder is not listed')
      return []
    }
    const state = stateOf(dir)
    if (decimal(allocated(dir)) === 0) spring('sizes in a list are cut off to whole gigabytes')
    return [
      {
        ...{ Source: 'local', Name: name, Disk: decimal(diskBytes(dir)), Size: decimal(allocated(dir)) },
        ...{ Accessed: '2026-11-28T09:00:00Z', Running: state === 'running', State: state },
      },
    ]
  })
  if (format !== 'json') return void process.stdout.write(rows.map(row => `${row.Name}\n`).join(''))
  if (rows.length === 0) spring('an empty list has a line break in it')
  process.stdout.write(rows.length === 0 ? '[\n\n]\n' : `${JSON.stringify(rows, null, 2)}\n`)
}

const get = ({ words: [name = ''] }: Given): void => {
  const dir = requireVm(name)
  const { cpuCount, memorySize, os } = readConfig(dir)
  const state = stateOf(dir)
  const row = {
    ...{ OS: os, CPU: cpuCount, Memory: memorySize / MIB, Disk: decimal(diskBytes(dir)), DiskFormat: 'raw' },
    ...{ Size: (allocated(dir) / GB).toFixed(3), Display: '1024x768', Running: state === 'running', State: state },
  }
  process.stdout.write(`${JSON.stringify(row, null, 2)}\n`)
}

const create = ({ words: [name = ''], options, flags }: Given): void => {
  if (!flags.has('--linux')) usageError('Please specify either a --from-ipsw or --linux option!', 'create')
  const dir = temporary()
  writeFileSync(join(dir, 'disk.img'), '')
  growDisk(dir, Number(options['--disk-size']?.[0] ?? 50) * GB)
  writeFileSync(join(dir, 'nvram.bin'), 'nvram')
  const size = { cpuCountMin: 4, cpuCount: 4, memorySizeMin: 4096 * MIB, memorySize: 4096 * MIB }
  writeConfig(dir, { version: 1, os: 'linux', arch: 'arm64', ...size, macAddress: randomMac(), diskFormat: 'raw' })
  publish(dir, name)
}

const pruneCache = (keep: string): void => {
  if (process.env.TART_NO_AUTO_PRUNE !== undefined || !existsSync(at('cache', 'OCIs'))) return
  for (const name of readdirSync(at('cache', 'OCIs')).filter(each => at('cache', 'OCIs', each) !== keep)) {
    spring('a clone deletes images of the cache')
    rmSync(at('cache', 'OCIs', name), { recursive: true })
  }
}

/** Where the source lies; one of a registry is pulled into the cache first. */
const sourceOf = (name: string): string => {
  if (!isReference(name)) return requireVm(name)
  if (!existsSync(cached(name))) {
    if (!existsSync(inRegistry(name))) end(1, 'Error: unexpected HTTP status code 404 while pulling the manifest')
    process.stderr.write('pulling manifest...\npulling disk (0.1 GB compressed)...\n100%\n')
    copyVm(inRegistry(name), cached(name), { newMac: false })
  }
  return cached(name)
}

const clone = ({ words: [from = '', to = ''] }: Given): void => {
  requireLocalName(to, 'clone')
  const source = sourceOf(from)
  const { dieInClone = false, cloneRefusesExisting = false, diskFull = false } = knobs()
  if (diskFull) end(1, 'Error: The file “disk.img” couldn’t be copied: No space left on device')
  if (exists(to)) {
    if (cloneRefusesExisting) spring('a newer clone refuses a name that is taken')
    if (cloneRefusesExisting) usageError(`VM "${to}" already exists, use --overwrite to replace it`, 'clone')
    spring('clone replaces a VM without a word')
  }
  const { macAddress } = readConfig(source)
  const isTaken = names().some(name => exists(name) && readConfig(vmDir(name)).macAddress === macAddress)
  if (isReference(from) && !isTaken) spring('a clone of an image of a registry keeps its MAC')
  const isSuspended = stateOf(source) === 'suspended'
  if (isTaken && isSuspended) spring('a clone of a suspended VM keeps its MAC')
  const dir = temporary()
  copyVm(source, dir, { newMac: isTaken && !isSuspended })
  if (dieInClone) process.kill(process.pid, 'SIGKILL')
  publish(dir, to)
  pruneCache(source)
}

const set = ({ words: [name = ''], options, flags }: Given): void => {
  const dir = requireVm(name)
  if (runner(dir) !== null) spring('set does not look whether the VM runs')
  const config = readConfig(dir)
  const [cpu, memory, disk, size] = ['--cpu', '--memory', '--disk', '--disk-size'].map(option => options[option]?.[0])
  if (cpu === '0') end(1, 'Error: LessThanMinimalResourcesError: VM should have 1 CPU cores at minimum (requested 0)')
  writeConfig(dir, {
    ...config,
    ...(cpu === undefined ? {} : { cpuCount: Number(cpu) }),
    ...(memory === undefined ? {} : { memorySize: Number(memory) * MIB }),
    ...(flags.has('--random-mac') ? { macAddress: randomMac() } : {}),
  })
  if (disk !== undefined) putDisk(dir, disk)
  if (size === undefined) return
  const [now, wanted] = [diskBytes(dir), Number(size) * GB]
  if (wanted < now) {
    spring('set leaves half of what it should change')
    const text = (bytes: number) => `${(bytes / GB).toFixed(2)} GB`
    end(1, `new disk size of ${text(wanted)} should be larger than the current disk size of ${text(now)}`)
  }
  growDisk(dir, wanted)
}

const rename = ({ words: [from = '', to = ''] }: Given): void => {
  requireLocalName(to, 'rename')
  if (!exists(from)) usageError(`failed to rename a non-existent local VM: ${from}`, 'rename')
  if (exists(to)) usageError(`failed to rename VM ${from}, target VM ${to} already exists, delete it first!`, 'rename')
  place(vmDir(from), to)
}

const stop = async ({ words: [name = ''], options }: Given): Promise<void> => {
  const dir = requireVm(name)
  const pid = runner(dir)
  if (pid === null) {
    const saved = join(dir, 'state.vzvmsave')
    if (!existsSync(saved)) {
      spring('stop of a stopped VM ends with 2')
      end(2, `VM "${name}" is not running`)
    }
    spring('stop drops the state of a suspended VM')
    return rmSync(saved)
  }
  process.kill(pid, 'SIGINT')
  const until = Date.now() + Number(options['--timeout']?.[0] ?? 30) * 1000
  while (Date.now() < until && isAlive(pid)) await delay(20)
  if (isAlive(pid)) process.kill(pid, 'SIGKILL')
}

const remove = ({ words }: Given): void => {
  for (const name of words) {
    const dir = requireVm(name)
    if (runner(dir) !== null) {
      spring('delete of several ends at the first failure')
      end(1, `VM "${name}" is running`)
    }
    removeVm(dir)
  }
}

const ip = async ({ words: [name = ''], options }: Given): Promise<void> => {
  const dir = requireVm(name)
  if (knobs().leasesBeingWritten) {
    spring('a lease file that is being written cannot be read')
    end(1, 'Error: Truncated(name: "truncated DHCPD leases file")')
  }
  const until = Date.now() + Number(options['--wait']?.[0] ?? 0) * 1000
  do {
    const address = existsSync(at(LEASES)) ? addressOf(readConfig(dir).macAddress) : null
    if (address !== null) {
      if (runner(dir) === null) spring('ip answers for a stopped VM')
      return void process.stdout.write(`${address}\n`)
    }
    await delay(1_000)
  } while (Date.now() < until)
  spring('ip takes a second when there is no address')
  end(1, `no IP address found${runner(dir) === null ? ', is your VM running?' : ''}`)
}

const suspend = ({ words: [name = ''] }: Given): void => {
  const pid = runner(requireVm(name)) ?? end(2, `VM "${name}" is not running`)
  process.kill(pid, 'SIGUSR1')
}

const push = ({ words: [name = '', ...references] }: Given): void => {
  for (const reference of references) copyVm(requireVm(name), inRegistry(reference), { newMac: false })
}

const commands: Readonly<Record<string, (given: Given) => void | Promise<void>>> = {
  ...{ list, get, create, clone, set, rename, stop, ip, suspend, push },
  delete: remove,
  run: given => run(given, ['tart', ...argv].join(' ')),
}

const argv = process.argv.slice(2)
if (argv[0] === '--version') {
  process.stdout.write(`${VERSION}\n`)
  process.exit(0)
}
mkdirSync(at(), { recursive: true })
const given = readArguments(argv)
const command = commands[given.command] ?? end(99, `the stand-in has no ${given.command}`)
if (given.command !== 'clone') collectGarbage()
await command(given)
