/**
 * The SSH keys of a home: one login key for all its machines, and for each machine the public half of its host key; beside that, the
 * secret of its link. OpenSSH's own private format is the one that sshd and cloud-init take, so ssh-keygen makes the keys.
 */

import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { keepPrivate } from '../../access-list.ts'
import { DAY_MS } from '../../clock.ts'
import { VM_ID } from '../../domain.ts'
import { checkName } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import { removeUnfinished, writeFileAtomic } from '../../files.ts'

const sshFolder = (home: string) => join(home, 'ssh')
const loginFolder = (home: string) => join(sshFolder(home), 'login')
export const loginKeyFile = (home: string) => join(loginFolder(home), 'key')
/** A machine, or the one that builds an image: `build-` and hex digits. */
const checkHost = (name: string): string => (VM_ID.test(name) ? name : checkName('image', name))
export const knownHostsFile = (home: string, vmId: string) => join(sshFolder(home), `${checkHost(vmId)}.known_hosts`)

/** The private half, while the machine is being made. */
const PRIVATE_HALF = '.host_key'
const privateHalfFile = (home: string, vmId: string) => join(sshFolder(home), `${checkHost(vmId)}${PRIVATE_HALF}`)

const UNFINISHED = 'new-'
const KEYGEN_DEADLINE_MS = 10_000
/** An unfinished key that is older than this belongs to a process that died. */
const UNFINISHED_MAX_AGE_MS = 60_000
/** The host key of a machine that builds an image. No build takes a day. */
const BUILD_KEY = /^build-[0-9a-f]+\.known_hosts$/
const BUILD_MAX_AGE_MS = DAY_MS

/**
 * Removes unfinished keys of processes that died, host keys of builds that did, and private halves of machines that are not being
 * made any more.
 */
export const sweepKeys = (home: string, isBeingMade: (vmId: string) => boolean): void => {
  const folder = sshFolder(home)
  if (!existsSync(folder)) return
  removeUnfinished(folder)
  for (const name of readdirSync(folder)) {
    if (name.endsWith(PRIVATE_HALF) && !isBeingMade(name.slice(0, -PRIVATE_HALF.length)))
      rmSync(join(folder, name), { force: true })
    const most = name.startsWith(UNFINISHED) ? UNFINISHED_MAX_AGE_MS : BUILD_KEY.test(name) ? BUILD_MAX_AGE_MS : null
    if (most === null) continue
    const path = join(folder, name)
    const stats = statSync(path, { throwIfNoEntry: false })
    if (stats !== undefined && Date.now() - stats.mtimeMs > most) rmSync(path, { recursive: true, force: true })
  }
}

/** Makes an ed25519 pair, `key` and `key.pub`, in a new folder, and returns the folder. */
const makeKey = async (run: Run, home: string): Promise<string> => {
  mkdirSync(sshFolder(home), { recursive: true, mode: 0o700 })
  const folder = mkdtempSync(join(sshFolder(home), UNFINISHED))
  await keepPrivate(run, folder)
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'agent-swarm', '-f', join(folder, 'key')], {
    deadline: KEYGEN_DEADLINE_MS,
  }).catch(error => {
    rmSync(folder, { recursive: true, force: true })
    throw error
  })
  return folder
}
const readPublicKey = (folder: string) => readFileSync(join(folder, 'key.pub'), 'utf8').trim()

/** The public key that this home logs in to its machines with. It is made at first use. */
export const loginKey = async (run: Run, home: string): Promise<string> => {
  const folder = loginFolder(home)
  if (!existsSync(folder)) {
    const made = await makeKey(run, home)
    try {
      // One rename publishes both halves, and lets only one of several processes win.
      renameSync(made, folder)
    } catch (error) {
      if (!existsSync(folder)) throw error
      rmSync(made, { recursive: true, force: true })
    }
  }
  return readPublicKey(folder)
}

type HostKey = { privateKey: string; publicKey: string }

const makeHostKey = async (run: Run, home: string): Promise<HostKey> => {
  const folder = await makeKey(run, home)
  try {
    return { privateKey: readFileSync(join(folder, 'key'), 'utf8'), publicKey: readPublicKey(folder) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const pin = (home: string, vmId: string, publicKey: string): void => {
  const [type, body] = publicKey.split(' ')
  writeFileAtomic(knownHostsFile(home, vmId), `${vmId} ${type} ${body}\n`)
}

/** Makes a host key for one machine, and pins its public half: every later connection requires it. */
export const pinnedHostKey = async (run: Run, home: string, vmId: string): Promise<HostKey> => {
  const made = await makeHostKey(run, home)
  pin(home, vmId, made.publicKey)
  return made
}
/**
 * The pinned host key of a machine that is being made. A create that was interrupted and is done again gets the same one, so
 * that it asks for the same machine. `forgetPrivateHalf` once the machine answers.
 */
export const hostKeyOfCreate = async (run: Run, home: string, vmId: string): Promise<HostKey> => {
  const file = privateHalfFile(home, vmId)
  const pinned = existsSync(file) ? publicHostKey(home, vmId) : null
  if (pinned !== null) return { privateKey: readFileSync(file, 'utf8'), publicKey: pinned }
  // Pinned first: a private half that is there always fits what is pinned.
  rmSync(file, { force: true })
  const { privateKey, publicKey } = await pinnedHostKey(run, home, vmId)
  writeFileAtomic(file, privateKey)
  return { privateKey, publicKey: publicHostKey(home, vmId) ?? publicKey }
}
export const forgetPrivateHalf = (home: string, vmId: string) => rmSync(privateHalfFile(home, vmId), { force: true })
/** For a machine that is made again from its disk, which holds its host key already: what is pinned for it stays. */
export const hostKeyOfDisk = (run: Run, home: string, vmId: string): Promise<HostKey> =>
  existsSync(knownHostsFile(home, vmId)) ? makeHostKey(run, home) : pinnedHostKey(run, home, vmId)
/** Machines that have a host key in this home. */
export const pinnedMachines = (home: string): string[] => {
  const suffix = '.known_hosts'
  return (existsSync(sshFolder(home)) ? readdirSync(sshFolder(home)) : [])
    .filter(name => name.endsWith(suffix))
    .map(name => name.slice(0, -suffix.length))
    .filter(name => VM_ID.test(name))
}
/** The public half of the machine's host key, type and key; null when none is pinned. */
export const publicHostKey = (home: string, vmId: string): string | null => {
  const file = knownHostsFile(home, vmId)
  const [, key] = (existsSync(file) ? readFileSync(file, 'utf8') : '').match(/^\S+ (\S+ \S+)$/m) ?? []
  return key ?? null
}
export const hasHostKey = (home: string, vmId: string): boolean => existsSync(knownHostsFile(home, vmId))
/** Whether this home can log in to machines at all. */
export const hasLoginKey = (home: string): boolean => existsSync(loginKeyFile(home))

const SECRET = /^[0-9a-f]{64}$/
const linkSecretFile = (home: string, vmId: string) => join(sshFolder(home), `${checkHost(vmId)}.link_secret`)
export const newLinkSecret = (): string => randomBytes(32).toString('hex')
/**
 * The secret in the addresses of the machine's link, for its whole life: a program that is at work in it keeps the addresses when the
 * runner starts again. The caller holds the link's lock.
 */
export const linkSecret = (home: string, vmId: string): string => {
  const file = linkSecretFile(home, vmId)
  const known = existsSync(file) ? readFileSync(file, 'utf8') : ''
  if (SECRET.test(known)) return known
  const made = newLinkSecret()
  writeFileAtomic(file, made, { mode: 0o600 })
  return made
}

/** All that this home has of the machine alone. */
export const forgetHostKey = (home: string, vmId: string) => {
  forgetPrivateHalf(home, vmId)
  rmSync(linkSecretFile(home, vmId), { force: true })
  rmSync(knownHostsFile(home, vmId), { force: true })
}
