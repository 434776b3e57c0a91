/** What makes a guest a machine of its own that goes on with the memory of another one. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../src/errors.ts'

const read = (file: string): string => readFileSync(join(import.meta.dirname, file), 'utf8')

/** The shell function `reseed`, which needs the variable `fresh`. */
export const reseedScript = (): string => read('reseed.sh')

export type GuestIdentity = {
  name: string
  /** 32 hexadecimal digits. */
  machineId: string
  hostKey: { privateKey: string; publicKey: string }
  publicKey: string
  now: Date
  /** Random bytes for the kernel's pool. */
  fresh: Buffer
  mac: string
  /** That of the machine whose memory it is. */
  oldMac: string
  /** Null: only DHCP knows it. */
  address: { ip: string; prefix: number; gateway: string } | null
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** A script for `sh` on its standard input, as root, while the guest's network has no carrier. It holds the host key. */
export const identityScript = (identity: GuestIdentity): string => {
  const { name, machineId, hostKey, publicKey, now, fresh, mac, oldMac, address } = identity
  if (/[\r\n]/.test(publicKey)) throw fail('usage', "the machine's public key has more than one line")
  const values = {
    name,
    machine_id: machineId,
    host_private: hostKey.privateKey.trimEnd(),
    host_public: hostKey.publicKey.trimEnd(),
    login_key: publicKey,
    now: (now.getTime() / 1000).toFixed(3),
    fresh: fresh.toString('base64'),
    old_mac: oldMac,
    mac,
    address: address?.ip ?? '',
    prefix: address === null ? '' : String(address.prefix),
    gateway: address?.gateway ?? '',
  }
  return [
    ...Object.entries(values).map(([variable, value]) => `${variable}=${quote(value)}`),
    reseedScript(),
    read('identity.sh'),
  ].join('\n')
}
