/** What cloud-init (NoCloud) gives a new machine at its first boot. Everything is JSON, which is valid YAML. */
import { fail } from '../src/errors.ts'
import { isoImage } from './iso.ts'

export const GUEST_USER = 'agent'

export type Seed = {
  hostname: string
  /** cloud-init runs again when it changes. The host name when absent. */
  instanceId?: string
  /** Of the one network interface. */
  mac: string
  publicKey: string
  hostKey: { privateKey: string; publicKey: string }
}

/**
 * Only netplan takes a pattern of names. cloud-init's other renderers (sysconfig, NetworkManager, networkd, eni) write a
 * configuration for the name itself, so the interface gets it: `set-name`, which needs the MAC.
 */
const networkConfig = (mac: string) => ({
  version: 2,
  ethernets: {
    eth0: {
      match: { macaddress: mac },
      'set-name': 'eth0',
      dhcp4: true,
      // Clones that share a machine-id would share a DHCP lease.
      'dhcp-identifier': 'mac',
      dhcp6: false,
      'accept-ra': false,
      optional: false,
    },
  },
})

/** The bytes of a CD-ROM with the label CIDATA. */
export const seedImage = ({ hostname, instanceId = hostname, mac, publicKey, hostKey }: Seed): Buffer => {
  if (/[\r\n]/.test(publicKey)) throw fail('usage', "the machine's public key has more than one line")
  const userData = {
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
    growpart: { mode: 'auto', devices: ['/'] },
    locale: false,
    package_update: false,
    package_upgrade: false,
  }
  const file = (name: string, text: string) => ({ name, content: Buffer.from(text) })
  return isoImage('CIDATA', [
    file('meta-data', JSON.stringify({ 'instance-id': instanceId, 'local-hostname': hostname })),
    file('user-data', `#cloud-config\n${JSON.stringify(userData)}\n`),
    file('network-config', JSON.stringify(networkConfig(mac))),
  ])
}
