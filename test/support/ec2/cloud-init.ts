/** What cloud-init makes of a guest from its user data, once for each instance id. Its disk is a folder. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Instance, State } from './state.ts'

type UserData = {
  hostname?: string
  ssh_deletekeys?: boolean
  ssh_keys?: { ed25519_public?: string }
  users?: { ssh_authorized_keys?: string[] }[]
  bootcmd?: string[][]
}

const linesOf = (file: string): string[] =>
  existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : []
const write = (file: string, lines: readonly string[]): void =>
  writeFileSync(file, lines.map(line => `${line}\n`).join(''))

/**
 * bootcmd comes before users and keys. systemd makes a machine-id only where there is none. Login keys that are there stay
 * (https://github.com/canonical/cloud-init/blob/main/cloudinit/ssh_util.py).
 */
const becomeInstance = (guest: string, data: UserData): void => {
  const [machineId, loginKeys, hostKeys] = [
    join(guest, 'machine-id'),
    join(guest, 'login-keys'),
    join(guest, 'host-keys'),
  ]
  const commands = (data.bootcmd ?? []).flat().join('\n')
  const given = /echo ([0-9a-f]{32}) >\/etc\/machine-id/.exec(commands)?.[1]
  if (given !== undefined || !existsSync(machineId)) write(machineId, [given ?? randomBytes(16).toString('hex')])
  if (/rm -f [^;]*\/home\/agent\/\.ssh\/authorized_keys\b/.test(commands)) rmSync(loginKeys, { force: true })
  const added = (data.users ?? []).flatMap(({ ssh_authorized_keys = [] }) => ssh_authorized_keys)
  write(loginKeys, [...new Set([...linesOf(loginKeys), ...added])])
  const kept = data.ssh_deletekeys === true ? [] : linesOf(hostKeys)
  write(hostKeys, [...kept, ...(data.ssh_keys?.ed25519_public === undefined ? [] : [data.ssh_keys.ed25519_public])])
  write(join(guest, 'hostname'), [data.hostname ?? 'ip-10-0-0-1'])
}

/** On the disk, beside what scripts see. */
const folderOf = (disk: string) => join(disk, '.guest')

export const boot = (state: State, { id, rootDevice, mappings, userData }: Instance): void => {
  const volume = mappings.find(({ device }) => device === rootDevice)?.volume
  if (volume === undefined) return
  const guest = folderOf(state.disk(volume))
  mkdirSync(guest, { recursive: true })
  const known = join(guest, 'instance-id')
  if (linesOf(known)[0] === id) return
  const text = Buffer.from(userData, 'base64').toString()
  becomeInstance(guest, text.startsWith('#cloud-config\n') ? JSON.parse(text.slice(text.indexOf('\n'))) : {})
  write(known, [id])
}

/** A script with the guest's own name and machine-id in place of those of this host. */
export const inGuest = (script: string): string =>
  `hostname() { cat "$HOME/.guest/hostname"; }\n${script.replaceAll('/etc/machine-id', '"$HOME/.guest/machine-id"')}`
