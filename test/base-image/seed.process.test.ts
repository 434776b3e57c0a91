/** swarm-seed, which makes a clone the machine that its seed names, in a sandbox: with the seed that machines get. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { identityScript } from '../../base-image/identity.ts'
import { type Seed, swarmSeed, userData } from '../../base-image/seed.ts'
import { hasSandbox, inSandbox } from './sandbox.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-seed-'))
  mkdirSync(join(folder, 'bin'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const part = (name: string) => readFileSync(join(import.meta.dirname, '../../base-image', name), 'utf8')
// The sandbox has no device with the seed.
const INSTALL = [
  ...[part('lib.sh'), part('steps/14-seed.sh'), 'write_seed_program'],
  `sed -i 's/ -b "$1" / -e "$folder" /' "$SEED_PROGRAM"`,
  'mkdir -p /etc/ssh /etc/systemd/network',
]

const SEED: Seed = {
  hostname: 'as-drop-1-00000001',
  network: { by: 'mac', mac: '52:54:00:12:34:56' },
  publicKey: `ssh-ed25519 AAAA it's $HOME \`id\` "\\n"`,
  hostKey: { privateKey: '-----BEGIN-----\nLINE\n-----END-----\n', publicKey: 'ssh-ed25519 BBBB host' },
}

/** The machine's files after the commands; `boot` runs swarm-seed. */
const boot = (seeds: readonly string[], { before = '', more = '' } = {}) => {
  const disk = '/run/swarm-seed/disk'
  const boots = seeds.map(text => `cat >${disk}/swarm-seed <<'END'\n${text}END\nrm -f /run/swarm-seed/done\nboot`)
  const after = [
    `boot() { env -i PATH="/usr/local/bin:$BIN" sh /usr/local/sbin/swarm-seed; }`,
    `mkdir -p ${disk} /run/home`,
    "echo 'agent:x:0:0::/run/home:/bin/sh' >>/etc/passwd",
    'printf "127.0.0.1 localhost\\n127.0.1.1 base\\n" >/etc/hosts',
    'touch /etc/ssh/ssh_host_rsa_key',
    ...[before, ...boots],
    'cd /etc',
    'tail -n +1 hostname hosts /proc/sys/kernel/hostname systemd/network/* ssh/ssh_host_* /run/home/.ssh/* 2>/dev/null || true',
    'ls /run/swarm-seed /run/cloud-init 2>/dev/null || true',
    'stat -c "%a %n" /run/home/.ssh /run/home/.ssh/* ssh/ssh_host_* 2>/dev/null || true',
    more,
  ].join('\n')
  return inSandbox(join(folder, 'bin'), INSTALL.join('\n'), {
    stubs: ['mount', 'umount', 'udevadm', 'chown', 'growpart', 'date', 'hwclock', 'ip', 'ss', 'dd', 'logger'],
    after,
  })
}

describe.skipIf(!hasSandbox())('a clone boots', () => {
  test('it takes name, network, host key and login key from its seed, to the letter, and cloud-init has nothing to do', async () => {
    const ran = await boot([swarmSeed(SEED)])
    expect(ran).toMatchObject({ code: 0 })
    for (const piece of [
      '==> hostname <==\nas-drop-1-00000001\n',
      '==> hosts <==\n127.0.0.1 localhost\n127.0.1.1 as-drop-1-00000001\n',
      '==> /proc/sys/kernel/hostname <==\nas-drop-1-00000001\n',
      '==> systemd/network/10-agent-swarm.network <==\n[Match]\nMACAddress=52:54:00:12:34:56\n[Network]\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\nDHCP=ipv4\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n',
      `==> ssh/ssh_host_ed25519_key <==\n${SEED.hostKey.privateKey}`,
      '==> ssh/ssh_host_ed25519_key.pub <==\nssh-ed25519 BBBB host\n',
      `==> /run/home/.ssh/authorized_keys <==\n${SEED.publicKey}\n`,
      '/run/cloud-init:\ndisabled\n',
      '700 /run/home/.ssh\n600 /run/home/.ssh/authorized_keys\n600 ssh/ssh_host_ed25519_key\n644 ssh/ssh_host_ed25519_key.pub\n',
    ])
      expect(ran.stdout).toContain(piece)
    // The image's own host key.
    expect(ran.stdout).not.toContain('ssh_host_rsa_key')
  })

  test('at a later boot with the same seed nothing changes; with a new one, it is the new machine, and its own keys stay', async () => {
    const again = await boot([swarmSeed(SEED), swarmSeed(SEED)], { more: 'ls /run/swarm-seed' })
    expect(again.stdout).toContain('done')
    const changed = 'echo own >/etc/hostname; boot; cat /etc/hostname'
    expect((await boot([swarmSeed(SEED)], { more: changed })).stdout).toMatch(/\nown\n$/)
    const other = { ...SEED, hostname: 'as-drop-2-00000002', publicKey: 'ssh-ed25519 CCCC' }
    const renamed = await boot([swarmSeed(SEED), swarmSeed(other)])
    expect(renamed.stdout).toContain('==> hosts <==\n127.0.0.1 localhost\n127.0.1.1 as-drop-2-00000002\n')
    expect(renamed.stdout).toContain(`authorized_keys <==\n${SEED.publicKey}\nssh-ed25519 CCCC\n`)
  })

  test('one that has the machine-id of another machine on its disk takes its own', async () => {
    const [machineId, others] = [`${'0'.repeat(31)}1`, `${'0'.repeat(31)}2`]
    const before = `echo ${others} >/etc/machine-id`
    const ran = await boot([swarmSeed({ ...SEED, machineId })], { before, more: 'cat /etc/machine-id' })
    expect(ran.stdout.trim().endsWith(machineId)).toBe(true)
    const kept = await boot([swarmSeed(SEED)], { before, more: 'cat /etc/machine-id' })
    expect(kept.stdout.trim().endsWith(others)).toBe(true)
  })

  const FORK = { ...SEED, hostname: 'as-drop-1-1-00000002', publicKey: 'ssh-ed25519 CCCC', machineId: 'c'.repeat(32) }
  const COPIED = [
    'mkdir -p /run/home/.ssh /var/lib/systemd',
    "echo 'ssh-ed25519 DDDD a person' >>/run/home/.ssh/authorized_keys",
    'cp /run/home/.ssh/authorized_keys /run/home/.ssh/authorized_keys2',
    'echo seed >/var/lib/systemd/random-seed',
  ].join('\n')
  const LEFT = 'ls /run/home/.ssh /var/lib/systemd; cat /run/urandom'

  test('who logs in to the machine that its disk is a copy of does not log in to it, and its random numbers are its own', async () => {
    const before = `sed -i 's:/dev/urandom:/run/urandom:' /usr/local/sbin/swarm-seed\n${COPIED}`
    const ran = await boot([swarmSeed(FORK)], { before, more: LEFT })
    expect(ran).toMatchObject({ code: 0 })
    expect(ran.stdout).toContain('authorized_keys <==\nssh-ed25519 CCCC\n')
    const random = `${FORK.machineId}${FORK.hostKey.privateKey}\n`
    expect(ran.stdout.endsWith(`/run/home/.ssh:\nauthorized_keys\n\n/var/lib/systemd:\n${random}`)).toBe(true)
    // At later boots its own keys stay.
    const more = "echo 'ssh-ed25519 EEEE' >>/run/home/.ssh/authorized_keys; boot; cat /run/home/.ssh/authorized_keys"
    expect((await boot([swarmSeed(FORK)], { before, more })).stdout).toMatch(/\nssh-ed25519 CCCC\nssh-ed25519 EEEE\n$/)
  })

  test('cloud-init, where it runs, removes the same before it adds the login key', async () => {
    const [[, , , , , command = ''] = []] = JSON.parse(userData(FORK).replace('#cloud-config\n', '')).bootcmd
    const script = command.replaceAll('/home/agent', '/run/home').replaceAll('/dev/urandom', '/run/urandom')
    const before = `${COPIED}\ncat >/run/bootcmd <<'END'\n${script}\nEND\nsh /run/bootcmd`
    const ran = await boot([], { before, more: `cat /etc/machine-id; ${LEFT}` })
    expect(ran).toMatchObject({ code: 0 })
    const end = `${FORK.machineId}\n/run/home/.ssh:\n\n/var/lib/systemd:\n${FORK.machineId}\n`
    expect(ran.stdout.endsWith(end)).toBe(true)
  })

  test('a fork of its memory is the machine that its own seed names: the next boot leaves the name that it got since', async () => {
    const fork = { ...SEED, hostname: 'as-pool-00000002' }
    const script = identityScript({
      ...{ ...fork, name: fork.hostname, machineId: `${'0'.repeat(31)}2`, now: new Date(0), fresh: Buffer.from('x') },
      // The sandbox has the interfaces of this system, and all stand-ins of what changes them.
      ...{ mac: '52:54:00:12:34:57', oldMac: '00:00:00:00:00:00', address: null },
    })
      // Nor may it reach processes and users of this system.
      .replace('/proc/[0-9]*', '/run/none')
      .replaceAll('/home/agent', '/run/home')
    const more = [
      `cat >/run/identity <<'IDENTITY'\n${script}\nIDENTITY`,
      // No service of the network is active.
      `printf '#!/bin/sh\\nprintf "inactive\\\\ninactive\\\\ninactive\\\\ninactive\\\\n"\\n' >"$BIN/systemctl"`,
      // Only this system's root may make its random numbers new.
      `printf '#!/bin/sh\ncat >/dev/null\n' >"$BIN/perl"; chmod +x "$BIN/perl"`,
      'env -i PATH="/usr/local/bin:$BIN" sh /run/identity',
      'echo as-drop-9-00000002 >/etc/hostname',
      `cat >/run/swarm-seed/disk/swarm-seed <<'END'\n${swarmSeed(fork)}END`,
      'boot; cat /etc/hostname',
    ].join('\n')
    const ran = await boot([swarmSeed(SEED)], { more })
    expect(ran.stdout).toMatch(/\nidentity done\nas-drop-9-00000002\n$/)
  })

  test.for([
    ['a seed without our file', 'rm -f /run/swarm-seed/disk/swarm-seed; boot'],
    ['a seed that was cut', "printf 'instance x\\nhostname x\\nuser agent\\n' >/run/swarm-seed/disk/swarm-seed; boot"],
    [
      'a user whom the image does not have',
      "printf 'instance x\\nhostname x\\nuser nobody-here\\nend\\n' >/run/swarm-seed/disk/swarm-seed; boot",
    ],
  ] as const)('%s is left to cloud-init, and nothing is written', async ([, before]) => {
    const ran = await boot([], { before })
    expect(ran).toMatchObject({ code: 0 })
    expect(ran.stdout).toContain('==> hosts <==\n127.0.0.1 localhost\n127.0.1.1 base\n')
    expect(ran.stdout).toContain('ssh_host_rsa_key')
    expect(ran.stdout).not.toContain('done')
  })
})
