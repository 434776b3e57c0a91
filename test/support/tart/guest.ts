/** The guest of a VM that runs: it reads its seed at its first boot, and asks macOS' DHCP server for an address. */
import { randomBytes } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { at, knobs, spring } from './store.ts'

export const LEASES = 'dhcpd_leases'
const LABEL_AT = 0x8028

type Network = { name?: string; mac?: string; identifier: string | null }
type Instance = { id: string; hostname: string; network: Network }
/** What of cloud-init's user data this guest knows. */
type UserData = {
  ssh_deletekeys?: boolean
  ssh_keys?: { ed25519_public?: string }
  users?: { name: string; ssh_authorized_keys?: string[] }[]
  bootcmd?: string[][]
}

/** Of a CD-ROM with the label CIDATA. Null: it is none. */
const readSeed = (path: string): (Instance & { userData: UserData }) | null => {
  const bytes = readFileSync(path)
  if (bytes.subarray(LABEL_AT, LABEL_AT + 6).toString('latin1') !== 'CIDATA') return null
  const text = bytes.toString('latin1')
  const find = (pattern: RegExp) => text.match(pattern)?.[1]
  const [name, mac] = [find(/"match":\{"name":"([^"]+)"\}/), find(/"match":\{"macaddress":"([^"]+)"\}/)]
  return {
    id: find(/"instance-id":"([^"]+)"/) ?? '',
    hostname: find(/"local-hostname":"([^"]+)"/) ?? '',
    network: {
      ...(name === undefined ? {} : { name }),
      ...(mac === undefined ? {} : { mac }),
      identifier: find(/"dhcp-identifier":"([^"]+)"/) ?? null,
    },
    userData: JSON.parse(find(/#cloud-config\n(\{.*\})\n/) ?? '{}') as UserData,
  }
}

const linesOf = (file: string): string[] =>
  existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : []

/**
 * A new instance: bootcmd comes first, then the keys. systemd makes a machine-id only where there is none. cloud-init keeps the login
 * keys that are there (https://github.com/canonical/cloud-init/blob/main/cloudinit/ssh_util.py).
 */
const becomeInstance = (guest: string, hostname: string, { bootcmd = [], users = [], ...data }: UserData): void => {
  const [machineId, loginKeys, hostKeys] = ['machine-id', 'home/.ssh/authorized_keys', 'host-keys'].map(name =>
    join(guest, name),
  ) as [string, string, string]
  const commands = bootcmd.flat().join('\n')
  const given = /echo ([0-9a-f]{32}) >\/etc\/machine-id/.exec(commands)?.[1]
  if (given === undefined && existsSync(machineId)) spring('a clone has the machine-id of its source')
  else writeFileSync(machineId, `${given ?? randomBytes(16).toString('hex')}\n`)
  if (/rm -f [^;]*\/home\/agent\/\.ssh\/authorized_keys\b/.test(commands)) rmSync(loginKeys, { force: true })
  const before = linesOf(loginKeys)
  const added = users.flatMap(({ ssh_authorized_keys = [] }) => ssh_authorized_keys)
  if (before.some(key => !added.includes(key))) spring('cloud-init keeps the login keys that are there')
  mkdirSync(join(guest, 'home/.ssh'), { recursive: true })
  writeFileSync(loginKeys, [...new Set([...before, ...added])].map(key => `${key}\n`).join(''))
  const kept = data.ssh_deletekeys === false ? linesOf(hostKeys) : []
  writeFileSync(hostKeys, [...kept, data.ssh_keys?.ed25519_public ?? ''].map(key => `${key}\n`).join(''))
  writeFileSync(join(guest, 'hostname'), `${hostname}\n`)
}

/** What cloud-init made of the guest at its first boot. Null: nothing, so that nobody can log in. */
const instanceOf = (guest: string, seeds: readonly string[]): Instance | null => {
  const file = join(guest, 'instance.json')
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Instance) : null
  const seed = seeds.map(readSeed).find(each => each !== null) ?? null
  if (existsSync(join(guest, 'ignores-seeds'))) {
    if (seed !== null) spring('images of Cirrus Labs ignore every seed')
    return null
  }
  if (seed === null || seed.id === before?.id) return before
  const { userData, ...instance } = seed
  becomeInstance(guest, instance.hostname, userData)
  writeFileSync(file, JSON.stringify(instance))
  appendFileSync(join(guest, 'first-boots'), `${instance.id}\n`)
  return instance
}

const withoutZeros = (mac: string): string =>
  mac
    .split(':')
    .map(part => Number.parseInt(part, 16).toString(16))
    .join(':')

type Lease = { ip: string; mac: string; end: number }
const leases = (): Lease[] => {
  const text = existsSync(at(LEASES)) ? readFileSync(at(LEASES), 'utf8') : ''
  return [...text.matchAll(/\{[^}]*ip_address=(\S+)[^}]*hw_address=(\S+)[^}]*lease=0x([0-9a-f]+)[^}]*\}/g)].map(
    ([, ip = '', mac = '', end = '']) => ({ ip, mac, end: Number.parseInt(end, 16) }),
  )
}
const now = () => Date.now() / 1000

/** The newest that has not ended. */
export const addressOf = (mac: string): string | null => {
  const own = leases().filter(lease => lease.mac === `1,${withoutZeros(mac)}` && lease.end > now())
  return own.sort((a, b) => b.end - a.end)[0]?.ip ?? null
}

const newAddress = (): string => {
  mkdirSync(at('addresses'), { recursive: true })
  for (let n = 2; ; n += 1) {
    try {
      mkdirSync(at('addresses', String(n)))
      return `192.168.${64 + Math.floor(n / 250)}.${n % 250}`
    } catch {
      // It is taken.
    }
  }
}

const DAY = 86_400
const lend = (mac: string, { hostname, network }: Instance): void => {
  const ip = knobs().address ?? addressOf(mac) ?? newAddress()
  // systemd's own client id is made of the machine-id, and hides the MAC.
  const isHidden = network.identifier !== 'mac'
  if (isHidden) spring('the client id of Debian and Ubuntu hides the MAC')
  const hardware = isHidden ? `ff,f1:f5:dd:7f:0:2:0:0:ab:11:${withoutZeros(mac).slice(0, 5)}` : `1,${withoutZeros(mac)}`
  const end = Math.floor(now() + DAY).toString(16)
  appendFileSync(
    at(LEASES),
    `{\n\tname=${hostname}\n\tip_address=${ip}\n\thw_address=${hardware}\n\tidentifier=${hardware}\n\tlease=0x${end}\n}\n`,
  )
}

/** Boots. `up` exists in its folder while it answers. */
export const bootGuest = (guest: string, seeds: readonly string[], mac: string): void => {
  const instance = instanceOf(guest, seeds)
  if (instance === null) return
  const { network } = instance
  if (network.mac !== undefined && network.mac.toLowerCase() !== mac) {
    spring('a seed that names a MAC fits no clone')
    return
  }
  lend(mac, instance)
  writeFileSync(join(guest, 'up'), '')
}
