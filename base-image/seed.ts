/**
 * What a new machine gets at its first boot: for cloud-init (NoCloud) in JSON, which is valid YAML; and the same in lines for
 * swarm-seed (steps/14-seed.sh), which our images have, so that cloud-init need not run.
 */
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
  /**
   * 32 random hexadecimal digits, for a disk that is a copy of another machine's: it gets this machine-id, and what could log in to
   * that machine cannot log in to this one.
   */
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

/**
 * Runs before cloud-init adds the login key, which keeps the keys that are there
 * (https://github.com/canonical/cloud-init/blob/main/cloudinit/ssh_util.py). What is written to urandom is mixed into the kernel's
 * pool (https://man7.org/linux/man-pages/man4/random.4.html).
 */
const leaveCopiedMachine = (id: string): string =>
  [
    `echo ${id} >/etc/machine-id`,
    `echo ${id} >/dev/urandom`,
    `rm -f /var/lib/systemd/random-seed /home/${GUEST_USER}/.ssh/authorized_keys /home/${GUEST_USER}/.ssh/authorized_keys2`,
    '[ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id',
  ].join('; ')

/** The same for systemd-networkd, a line each. */
const networkdLines = (network: SeedNetwork): string[] => {
  const match = network.by === 'name' ? `Name=${network.pattern}` : `MACAddress=${network.mac}`
  const fixed = network.by === 'name' ? undefined : network.fixed
  const lines = ['[Match]', match, '[Network]', 'LinkLocalAddressing=ipv6', 'IPv6AcceptRA=no']
  // It has its name: to take one from DHCP, networkd would start another service of systemd.
  if (fixed === undefined) return [...lines, 'DHCP=ipv4', '[DHCPv4]', 'ClientIdentifier=mac', 'UseHostname=no']
  const { address, gateway, nameservers } = fixed
  return [...lines, `Address=${address}`, `Gateway=${gateway}`, ...nameservers.map(server => `DNS=${server}`)]
}

/** What swarm-seed reads: a name and a value a line, several lines of a name where its value has several. */
export const swarmSeed = ({
  hostname,
  instanceId = hostname,
  network,
  publicKey,
  hostKey,
  machineId,
}: Seed): string => {
  const lines = (name: string, text: string) =>
    text
      .split('\n')
      .filter(Boolean)
      .map(line => `${name} ${line}\n`)
  return [
    ...[`instance ${instanceId}\n`, `hostname ${hostname}\n`, `user ${GUEST_USER}\n`],
    ...networkdLines(network).map(line => `network ${line}\n`),
    ...lines('host-key', hostKey.privateKey),
    ...lines('host-public-key', hostKey.publicKey),
    ...lines('login-key', publicKey),
    ...(machineId === undefined ? [] : lines('machine-id', machineId)),
    // A file that lacks it was cut.
    'end\n',
  ].join('')
}

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
      : { bootcmd: [['cloud-init-per', 'instance', 'swarm-machine-id', 'sh', '-c', leaveCopiedMachine(machineId)]] }),
    growpart: { mode: 'auto', devices: ['/'] },
    locale: false,
    package_update: false,
    package_upgrade: false,
  }
  return `#cloud-config\n${JSON.stringify(config)}\n`
}

/** The bytes of a CD-ROM with the label CIDATA. */
export const seedImage = (seed: Seed): Buffer => {
  const { hostname, instanceId = hostname, network, ...keys } = seed
  const file = (name: string, text: string) => ({ name, content: Buffer.from(text) })
  return isoImage('CIDATA', [
    file('meta-data', JSON.stringify({ 'instance-id': instanceId, 'local-hostname': hostname })),
    file('user-data', userData({ hostname, ...keys })),
    file('network-config', JSON.stringify(networkConfig(network))),
    file('swarm-seed', swarmSeed(seed)),
  ])
}
