/**
 * What Tart keeps on disk, in TART_HOME: `vms/NAME/` with config.json, disk.img and nvram.bin. A VM runs while a process holds a lock
 * on its config.json, which goes along when the folder is renamed. Instead of a file system, a disk that has a system begins with the
 * name of a folder in `guests/`, which holds the guest's files.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

const home = (): string => process.env.TART_HOME ?? join(homedir(), '.tart')
export const at = (...path: string[]): string => join(home(), ...path)

/** What a test wants to happen. */
export type Knobs = {
  /** How many lists fail because a VM vanishes meanwhile. */
  vanish?: number
  keychainLocked?: boolean
  /** The guest ignores its power button. */
  ignoresButton?: boolean
  bootMs?: number
  /** What every guest gets instead of an address of its own. */
  address?: string
  leasesBeingWritten?: boolean
  /** Clone dies before the last step. */
  dieInClone?: boolean
  /** Unreleased versions of Tart refuse to replace a VM. */
  cloneRefusesExisting?: boolean
  diskFull?: boolean
}
export const knobs = (): Knobs =>
  existsSync(at('knobs.json')) ? (JSON.parse(readFileSync(at('knobs.json'), 'utf8')) as Knobs) : {}
export const setKnobs = (given: Knobs): void => writeFileSync(at('knobs.json'), JSON.stringify(given))

/** Notes that a trap was sprung, for the test of it. */
export const spring = (trap: string): void => appendFileSync(at('sprung.log'), `${trap}\n`)

export type Config = {
  version: 1
  os: 'linux' | 'darwin'
  arch: 'arm64'
  cpuCountMin: number
  cpuCount: number
  memorySizeMin: number
  memorySize: number
  macAddress: string
  diskFormat: 'raw'
}

export const randomMac = (): string => {
  const [first = 0, ...rest] = randomBytes(6)
  return [(first & 0xfc) | 2, ...rest].map(byte => byte.toString(16).padStart(2, '0')).join(':')
}

export const vmDir = (name: string): string => at('vms', name)
const FILES = ['config.json', 'disk.img', 'nvram.bin']
/** A folder that lacks one of them is not a VM. */
export const isWhole = (dir: string): boolean => FILES.every(file => existsSync(join(dir, file)))
export const exists = (name: string): boolean => isWhole(vmDir(name))
export const readConfig = (dir: string): Config => JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as Config
/** In place: the lock is on this very file. */
export const writeConfig = (dir: string, config: Config): void =>
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config, null, 2))

export const names = (): string[] => (existsSync(at('vms')) ? readdirSync(at('vms')) : []).sort()

// ── Lock ──

const lockFile = (dir: string): string => at('locks', String(statSync(join(dir, 'config.json')).ino))
export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    // The parent of an orphan may not look after it.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
/** The process that runs it; null when none does. */
export const runner = (dir: string): number | null => {
  const file = lockFile(dir)
  const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
  if (pid > 0 && isAlive(pid)) return pid
  if (pid > 0) spring('nothing survives a reboot as running')
  return null
}
export const takeLock = (dir: string): void => {
  mkdirSync(at('locks'), { recursive: true })
  writeFileSync(lockFile(dir), String(process.pid))
}
export const stateOf = (dir: string): 'running' | 'suspended' | 'stopped' =>
  runner(dir) !== null ? 'running' : existsSync(join(dir, 'state.vzvmsave')) ? 'suspended' : 'stopped'

// ── Disk ──

const HEADER = /^guest ([0-9a-f-]{36})\n/
const readHead = (disk: string): string => {
  const file = openSync(disk, 'r')
  const buffer = Buffer.alloc(4096)
  const length = readSync(file, buffer, 0, buffer.length, 0)
  closeSync(file)
  return buffer.subarray(0, length).toString('latin1')
}
/** The folder of the guest's files; null: no system is on this disk. */
export const guestOf = (dir: string): string | null => {
  const id = HEADER.exec(readHead(join(dir, 'disk.img')))?.[1]
  return id === undefined ? null : at('guests', id)
}
/** What lies behind the first bytes is a hole. */
const copyDisk = (from: string, to: string): void => {
  writeFileSync(to, Buffer.from(readHead(from), 'latin1'))
  truncateSync(to, statSync(from).size)
}
const nameGuest = (disk: string, id: string): void => {
  const file = openSync(disk, 'r+')
  writeSync(file, `guest ${id}\n`, 0)
  closeSync(file)
}
/** Puts a raw image on the disk, which is then a system of its own. */
export const putDisk = (dir: string, raw: string): void => {
  const disk = join(dir, 'disk.img')
  const head = readHead(raw)
  copyDisk(raw, disk)
  const id = randomUUID()
  mkdirSync(join(at('guests', id), 'home'), { recursive: true })
  if (head.includes('datasource_list: [ None ]')) writeFileSync(join(at('guests', id), 'ignores-seeds'), '')
  nameGuest(disk, id)
}
export const diskBytes = (dir: string): number => statSync(join(dir, 'disk.img')).size
export const growDisk = (dir: string, bytes: number): void => truncateSync(join(dir, 'disk.img'), bytes)

/** Copies a VM's three files, and a saved state. A guest that runs meanwhile is torn. */
export const copyVm = (from: string, to: string, { newMac }: { newMac: boolean }): void => {
  mkdirSync(to, { recursive: true })
  for (const file of [...FILES, 'state.vzvmsave'])
    if (file === 'disk.img') copyDisk(join(from, file), join(to, file))
    else if (existsSync(join(from, file))) cpSync(join(from, file), join(to, file))
  const guest = guestOf(from)
  if (guest !== null) {
    const id = randomUUID()
    cpSync(guest, at('guests', id), { recursive: true })
    rmSync(join(at('guests', id), 'up'), { force: true })
    nameGuest(join(to, 'disk.img'), id)
    if (stateOf(from) === 'running') {
      spring('clone does not check that the source is stopped')
      writeFileSync(join(at('guests', id), 'torn'), '')
    }
  }
  if (newMac) {
    spring('a clone has another MAC')
    rmSync(join(to, 'state.vzvmsave'), { force: true })
    writeConfig(to, { ...readConfig(to), macAddress: randomMac() })
  }
}

export const removeVm = (dir: string): void => {
  const guest = existsSync(join(dir, 'disk.img')) ? guestOf(dir) : null
  if (existsSync(join(dir, 'config.json'))) rmSync(lockFile(dir), { force: true })
  if (guest !== null) rmSync(guest, { recursive: true, force: true })
  rmSync(dir, { recursive: true, force: true })
}

/** Puts a folder in a VM's place. */
export const place = (from: string, name: string): void => {
  mkdirSync(at('vms'), { recursive: true })
  removeVm(vmDir(name))
  renameSync(from, vmDir(name))
}

// ── Registry and cache ──

export const isReference = (name: string): boolean => name.includes('/') && !name.startsWith('/')
const fileOf = (reference: string): string => encodeURIComponent(reference)
export const cached = (reference: string): string => at('cache', 'OCIs', fileOf(reference))
export const inRegistry = (reference: string): string => at('registry', fileOf(reference))
