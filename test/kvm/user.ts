/** Tests as an ordinary user: the process of one test file gives up root for good, and what it starts has no more rights. */
import { chownSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** `nobody` of Debian. */
export const USER = 65_534

export const settings = {
  uri: 'qemu:///system',
  domainType: 'auto',
  firmware: 'bios',
  pool: 'agent-swarm',
  network: 'agent-swarm',
} as const

/** A folder of the user's with what a login gives. Its name is short: the paths of sockets are. */
export const userFolder = () => {
  const folder = mkdtempSync(join(tmpdir(), 'as-'))
  const home = join(folder, 'state')
  const runtime = join(folder, 'run')
  mkdirSync(home)
  mkdirSync(runtime, { mode: 0o700 })
  return { folder, home, environment: { PATH: process.env.PATH, HOME: folder, XDG_RUNTIME_DIR: runtime } }
}

/** Gives the folder to the user, and becomes that user. */
export const becomeUser = async (folder: string, groups: number[]): Promise<void> => {
  for (const name of ['', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })])
    chownSync(join(folder, name), USER, USER)
  // Loaded with the first command otherwise: this user may not be allowed to read where it is installed.
  await import('execa')
  process.setgroups?.(groups)
  process.setgid?.(USER)
  process.setuid?.(USER)
}
