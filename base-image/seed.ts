/** What cloud-init (NoCloud) gives a new machine at its first boot. Everything is JSON, which is valid YAML. */
import { fail } from '../src/errors.ts'
import { isoImage } from './iso.ts'

export const GUEST_USER = 'agent'

/**
 * How the guest finds its one network interface, and where its address comes from. `name`: the machine's MAC may change, and its
 * images are for netplan. `address`: with its prefix, `172.30.0.5/20`.
 */
export type SeedNetwork =
  | { by: 'mac'; mac: string; fixed?: { address: string; gateway: string; nameservers: readonly string[] } }
  | { by: 'name'; pattern: string }

/** What a machine is at its first boot, apart from its network. */
export type Identity = {
  hostname: string
  publicKey: string
  hostKey: { privateKey: string; publicKey: string }
  /** 32 hexadecimal digits, for a disk that has the machine-id of another machine already. */
  machineId?: string
}
export type Seed = Identity & {
  /** cloud-init runs again when it changes. The host name when absent. */
  instanceId?: string
  network: SeedNetwork
}

/** Clones that share a machine-id would share a DHCP lease. */
const DHCP = { dhcp4: true, 'dhcp-identifier': 'mac' }

/**
 * Only netplan takes a pattern of names. cloud-init's other renderers (sysconfig, NetworkManager, networkd, eni) write a
 * configuration for the name itself, so where the MAC is known the interface gets it: `set-name`, which needs the MAC.
 */
const interfaceOf = (network: SeedNetwork) => {
  if (network.by === 'name') return { match: { name: network.pattern }, ...DHCP }
  const { mac, fixed } = network
  const matched = { match: { macaddress: mac }, 'set-name': 'eth0' }
  if (fixed === undefined) return { ...matched, ...DHCP }
  const { address, gateway, nameservers } = fixed
  // Old versions of cloud-init know no default route under `routes`.
  return { ...matched, dhcp4: false, addresses: [address], gateway4: gateway, nameservers: { addresses: nameservers } }
}

const networkConfig = (network: SeedNetwork) => ({
  version: 2,
  ethernets: { eth0: { ...interfaceOf(network), dhcp6: false, 'accept-ra': false, optional: false } },
})

const newMachineId = (id: string): string =>
  `echo ${id} >/etc/machine-id; [ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id`

/** cloud-init's user data: the machine's name, keys and user. At most 4 KB. */
export const userData = ({ hostname, publicKey, hostKey, machineId }: Identity): string => {
  if (/[\r\n]/.test(publicKey)) throw fail('usage', "the machine's public key has more than one line")
  const config = {
    hostname,
    fqdn: hostname,
    // sudo looks up its own host name, and waits for a name server when /etc/hosts lacks it.
    manage_etc_hosts: 'localhost',
    ssh_pwauth: false,
    disable_root: true,
    // Removes the image's host keys: the machine has only the one that we made and pinned.
    ssh_deletekeys: true,
    ssh_keys: { ed25519_private: hostKey.privateKey, ed25519_public: hostKey.publicKey },
    ssh: { emit_keys_to_console: false },
    users: [
      {
        name: GUEST_USER,
        gecos: 'agent-swarm',
        shell: '/bin/bash',
        lock_passwd: true,
        sudo: 'ALL=(ALL) NOPASSWD:ALL',
        ssh_authorized_keys: [publicKey],
      },
    ],
    // Once: whatever somebody makes of the machine later stays.
    ...(machineId === undefined
      ? {}
      : { bootcmd: [['cloud-init-per', 'instance', 'swarm-machine-id', 'sh', '-c', newMachineId(machineId)]] }),
    growpart: { mode: 'auto', devices: ['/'] },
    locale: false,
    package_update: false,
    package_upgrade: false,
  }
  return `#cloud-config\n${JSON.stringify(config)}\n`
}

/** The bytes of a CD-ROM with the label CIDATA. */
export const seedImage = ({ hostname, instanceId = hostname, network, ...keys }: Seed): Buffer => {
  const file = (name: string, text: string) => ({ name, content: Buffer.from(text) })
  return isoImage('CIDATA', [
    file('meta-data', JSON.stringify({ 'instance-id': instanceId, 'local-hostname': hostname })),
    file('user-data', userData({ hostname, ...keys })),
    file('network-config', JSON.stringify(networkConfig(network))),
  ])
}
