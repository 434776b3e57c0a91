/** `tart run`: the process that lives as long as its VM. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Given, usageError } from './arguments.ts'
import { bootGuest } from './guest.ts'
import {
  at,
  exists,
  guestOf,
  isAlive,
  isReference,
  knobs,
  names,
  randomMac,
  readConfig,
  runner,
  spring,
  stateOf,
  takeLock,
  vmDir,
  writeConfig,
} from './store.ts'

const end = (code: number, text: string): never => {
  process.stderr.write(`${text}\n`)
  process.exit(code)
}

/** A disk that a guest may write to is locked by the first one. */
const lockDisk = (path: string): void => {
  mkdirSync(at('disk-locks'), { recursive: true })
  const file = at('disk-locks', createHash('sha256').update(path).digest('hex'))
  if (existsSync(file) && isAlive(Number(readFileSync(file, 'utf8')))) {
    spring('a disk without ro is locked')
    end(1, `disk ${path} seems to be already in use, unmount it first in Finder`)
  }
  writeFileSync(file, String(process.pid))
}

const openDisk = (value: string): string => {
  const [path = '', options = ''] = value.split(':')
  if (isReference(path)) {
    spring('a relative path of a disk is taken for an image of a registry')
    end(1, `Error: the image "${path}" could not be pulled: a server with the specified hostname could not be found`)
  }
  if (!existsSync(path)) end(1, `Error: The file “${path}” couldn’t be opened because there is no such file.`)
  if (!options.split(',').includes('ro')) lockDisk(path)
  return path
}

/** It gets its rights only from a person at a terminal. */
const requireSoftnet = (): void => {
  const path = (process.env.PATH ?? '')
    .split(':')
    .map(folder => join(folder, 'softnet'))
    .find(file => existsSync(file))
  if (path === undefined) end(1, 'Error: InitializationFailed(why: "softnet not found in PATH")')
  const { uid, mode } = statSync(path ?? '')
  if (uid === 0 && (mode & 0o4000) !== 0) return
  spring('Softnet gets its rights only on a terminal')
  end(1, 'Softnet failed: failed to configure SUID bit on Softnet executable with Sudo')
}

const resetSharedMac = (name: string): void => {
  const dir = vmDir(name)
  const { macAddress } = readConfig(dir)
  const isShared = names().some(
    other =>
      other !== name &&
      exists(other) &&
      runner(vmDir(other)) !== null &&
      readConfig(vmDir(other)).macAddress === macAddress,
  )
  if (!isShared) return
  spring('a MAC of a VM that runs is drawn anew')
  process.stdout.write(
    'There is already a running VM with the same MAC address!\nResetting VM to assign a new MAC address...\n',
  )
  rmSync(join(dir, 'state.vzvmsave'), { force: true })
  writeConfig(dir, { ...readConfig(dir), macAddress: randomMac() })
}

/** What its exit code is after the guest ran says nothing: here it is 1 for each second VM. */
const lastCode = (): number => {
  spring('the exit code of run says nothing')
  return process.pid % 2
}

export const run = async ({ words: [name = ''], options, flags, command }: Given, title: string): Promise<void> => {
  // Whoever looks for the process sees these words.
  process.title = title
  const dir = vmDir(name)
  if (!exists(name)) spring('run of a VM that is missing ends with 1')
  if (!exists(name)) end(1, `Error: the specified VM "${name}" does not exist`)
  const config = readConfig(dir)
  if (stateOf(dir) === 'suspended' || flags.has('--suspendable')) {
    spring('a Linux guest cannot be suspended')
    if (config.os === 'linux') usageError('You can only suspend macOS VMs', command)
  }
  for (const disk of options['--disk'] ?? [])
    if (disk.endsWith('-amd64.iso')) {
      spring('a disk for another processor is refused')
      usageError(
        "Seems you have a disk targeting x86 architecture (hence amd64 in the name). Please use an 'arm64' version of the disk.",
        command,
      )
    }
  resetSharedMac(name)
  if (flags.has('--net-softnet')) requireSoftnet()
  const disks = (options['--disk'] ?? []).map(openDisk)
  if (runner(dir) !== null) end(2, `VM "${name}" is already running!`)
  takeLock(dir)
  const guest = guestOf(dir)
  const { bootMs = 30, keychainLocked = false } = knobs()
  if (keychainLocked) {
    await delay(100)
    spring('a VM starts only while the keychain is unlocked')
    end(1, 'SecKeyCreateRandomKey_ios failed: Error Domain=NSOSStatusErrorDomain Code=-25308')
  }
  const stop = () => {
    if (guest !== null) rmSync(join(guest, 'up'), { force: true })
    process.exit(lastCode())
  }
  // `tart stop`: off at once.
  process.on('SIGINT', stop)
  process.on('SIGUSR1', () => {
    spring('suspend kills a Linux guest')
    process.stdout.write('Failed to suspend the VM: Invalid virtual machine configuration.\n')
    process.exit(1)
  })
  process.on('SIGUSR2', () => {
    process.stdout.write('Requesting guest OS to stop...\n')
    if (guest === null || !existsSync(join(guest, 'up')) || knobs().ignoresButton === true)
      return spring('a guest that boots or hangs ignores its power button')
    writeFileSync(join(guest, 'shut-down'), '')
    stop()
  })
  await delay(bootMs)
  if (guest !== null) {
    rmSync(join(guest, 'shut-down'), { force: true })
    if (!disks.some(disk => disk.endsWith('.iso'))) spring('a disk is attached for one run')
    bootGuest(guest, disks, readConfig(dir).macAddress)
  }
  setInterval(() => {}, 60_000)
}
