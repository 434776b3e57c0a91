/** What a new machine is told at its first boot, by cloud-init's NoCloud source. JSON throughout: it is valid YAML. */
import { fail } from '../src/errors.ts'
import { isoImage } from './iso.ts'

export const GUEST_USER = 'agent'

export type Seed = {
  /** Also the instance id: a new one makes cloud-init run again. */
  hostname: string
  publicKey: string
  hostKey: { privateKey: string; publicKey: string }
}

/** The seed as the bytes of a CD-ROM labelled CIDATA. */
export const seedImage = ({ hostname, publicKey, hostKey }: Seed): Buffer => {
  if (/[\r\n]/.test(publicKey)) throw fail('usage', 'the public key for the machine has more than one line')
  const userData = {
    hostname,
    fqdn: hostname,
    // sudo looks its own host up: without an entry it waits for a name server.
    manage_etc_hosts: 'localhost',
    ssh_pwauth: false,
    disable_root: true,
    // Only the key that we made and pinned, none of the image's.
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
  const network = {
    version: 2,
    ethernets: {
      // By MAC: clones with one machine-id would share a lease otherwise.
      any: {
        match: { name: 'e*' },
        dhcp4: true,
        'dhcp-identifier': 'mac',
        dhcp6: false,
        'accept-ra': false,
        optional: false,
      },
    },
  }
  const file = (name: string, text: string) => ({ name, content: Buffer.from(text) })
  return isoImage('CIDATA', [
    file('meta-data', JSON.stringify({ 'instance-id': hostname, 'local-hostname': hostname })),
    file('user-data', `#cloud-config\n${JSON.stringify(userData)}\n`),
    file('network-config', JSON.stringify(network)),
  ])
}
