/** The failures of kvm, with a virsh that answers as libvirt does. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { KvmSettings } from '../../../providers/kvm/settings.ts'
import { systemOf, thisSystem } from '../../../providers/kvm/systems.ts'
import type { BuildBase } from '../../../providers/provider.ts'
import { waitForGuest } from '../../../src/runner/ssh/guest.ts'
import {
  ABSENT,
  type Answer,
  failureOf,
  fakeKvm,
  mark,
  notInstalled,
  options,
  pool,
  pools,
  RUNNING,
  STOPPED,
  state,
  VM,
  version,
} from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-failures-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const kvm = (answers: readonly Answer[], settings: Partial<KvmSettings> = {}) => fakeKvm(answers, { home, settings })
const MARK = mark()
const CREATES = /vol-create|define|snapshot-create-as/

test('without virsh, it says what to install on this system', async () => {
  expect(await fakeKvm([], { home, run: notInstalled }).provider.available()).toEqual({
    available: false,
    reason: 'virsh, the client of libvirt, is not installed.',
    remedy: thisSystem().install,
  })
})

test.for<[string, RegExp, RegExp]>([
  ['ID=ubuntu\nID_LIKE=debian\n', /^sudo apt install .*libvirt-daemon-system/, /enable --now libvirtd$/],
  ['PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n', /^sudo apt install/, /libvirtd$/],
  ['ID="linuxmint"\nID_LIKE="ubuntu debian"\n', /^sudo apt install/, /libvirtd$/],
  ['ID=fedora\n', /^sudo dnf install .*libvirt-daemon-kvm/, /virtqemud\.socket/],
  ['ID="rocky"\nID_LIKE="rhel centos fedora"\n', /^sudo dnf install/, /virtqemud\.socket/],
  ['ID=arch\n', /^sudo pacman -S .*libvirt/, /libvirtd$/],
  ['ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', /^sudo zypper install/, /virtqemud\.socket/],
  ['ID="sles"\nID_LIKE="suse"\n', /^sudo zypper install/, /virtqemud\.socket/],
  ['ID=alpine\n', /^Install your system's packages of libvirt/, /^Start libvirt's daemon/],
  ['', /^Install your system's packages of libvirt/, /^Start libvirt's daemon/],
])('%j: how libvirt is installed and started', ([text, install, start]) => {
  expect(systemOf(text).install).toMatch(install)
  expect(systemOf(text).start).toMatch(start)
})

const disconnected = (reason: string): Answer => ({
  to: 'qemu:///',
  stderr: `error: failed to connect to the hypervisor\nerror: ${reason}`,
})
const NO_SOCKET = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"

test('libvirt does not run', async () => {
  expect(await kvm([disconnected(NO_SOCKET)]).provider.available()).toEqual({
    available: false,
    reason: 'connecting to libvirt: no answer at qemu:///system.',
    remedy: expect.stringContaining(`Start it: ${thisSystem().start}. `),
  })
  expect(await kvm([disconnected(NO_SOCKET)], { kvmUri: 'qemu:///session' }).provider.available()).toMatchObject({
    reason: 'connecting to libvirt: no answer at qemu:///session.',
    remedy: expect.stringContaining('XDG_RUNTIME_DIR'),
  })
})

test.for([
  "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
  "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
])('this user may not use libvirt: %s', async reason => {
  const { provider } = kvm([disconnected(reason)])
  expect(await provider.available()).toMatchObject({
    reason: 'connecting to libvirt: libvirt runs, but this user may not use qemu:///system.',
    remedy: 'Join the group libvirt: sudo usermod -aG libvirt "$USER". Then log in again.',
  })
  // Every other command reports the same.
  const { message } = await failureOf(provider.listVms())
  expect(message).toContain('this user may not use qemu:///system')
  expect(message).not.toContain('error:')
})

test('a polkit that does not run is not reported as a libvirt that does not run', async () => {
  const reason = 'internal error: Unable to get system bus connection: Could not connect: No such file or directory'
  expect(await kvm([disconnected(reason)]).provider.available()).toMatchObject({
    reason: 'connecting to libvirt: libvirt asks polkit who may use qemu:///system, and polkit does not answer.',
    remedy: 'Start dbus and polkit, or run this as root.',
  })
})

const MODULAR = ['network', 'storage'].map(part => ({
  to: part === 'network' ? 'net-list' : 'pool-list',
  stderr: `error: Failed to list ${part}s\nerror: Failed to connect socket to '/var/run/libvirt/virt${part}d-sock': No such file or directory`,
}))
test.for<[string, Answer[], string, string]>([
  ['all', MODULAR, 'virtnetworkd and virtstoraged', 'virtnetworkd.socket virtstoraged.socket'],
  ['the network', MODULAR.slice(0, 1), 'virtnetworkd', 'virtnetworkd.socket'],
  ['the storage', MODULAR.slice(1), 'virtstoraged', 'virtstoraged.socket'],
])('of a modular libvirt %s lacks its daemon, which is named', async ([, answers, names, units]) => {
  const { provider, calls } = kvm([version('10.0.0'), ...answers])
  expect(await provider.available()).toEqual({
    available: false,
    reason: `connecting to libvirt: no answer from ${names}, which this libvirt needs besides virtqemud.`,
    remedy: expect.stringContaining(`Start them: sudo systemctl enable --now ${units}. `),
  })
  expect(calls).toHaveLength(1)
})

test('creating a machine names the missing daemon too', async () => {
  const missing = (to: string, what: string, daemon: string): Answer => ({
    to,
    stderr: `error: failed to get ${what} 'agent-swarm'\nerror: Failed to connect socket to '/var/run/libvirt/${daemon}-sock': No such file or directory`,
  })
  const network = missing('net-list', 'network', 'virtnetworkd')
  expect(
    await failureOf(kvm([ABSENT, version('10.0.0'), pool(9_000), network]).provider.createVm('A-1', 'base', options)),
  ).toMatchObject({ kind: 'hypervisor-unreachable', message: expect.stringContaining('no answer from virtnetworkd') })
  const storage = missing('pool-list', 'pool', 'virtstoraged')
  expect(
    await failureOf(kvm([ABSENT, version('10.0.0'), storage]).provider.createVm('A-1', 'base', options)),
  ).toMatchObject({ kind: 'hypervisor-unreachable', message: expect.stringContaining('no answer from virtstoraged') })
})

test('a pool that is not a folder is not available; one that is, or that can be made, is', async () => {
  const block = { to: 'pool-dumpxml', stdout: "<pool type='rbd'><name>agent-swarm</name></pool>" }
  expect(await kvm([version('9.0.0'), block]).provider.available()).toMatchObject({
    available: false,
    reason: 'the pool agent-swarm is not a folder.',
  })
  for (const answers of [[pool(1)], [pools()], [pools('default')]]) {
    const { provider, calls } = kvm([version('9.0.0'), ...answers])
    expect(await provider.available()).toEqual({ available: true })
    expect(calls.join()).not.toMatch(/define|build|start|refresh|autostart/)
    expect(calls).toHaveLength(1)
  }
})

test('a daemon that answers without a driver for QEMU', async () => {
  const { provider } = kvm([disconnected('no connection driver available for qemu:///system')])
  expect(await provider.available()).toMatchObject({ reason: expect.stringContaining('it has no driver for') })
})

test('a checkpoint that libvirt restores only by force: what to do', async () => {
  const snapshots = { to: 'snapshot-list', stdout: ' one   2026-11-28 19:26:56 +0000   running' }
  const refused = {
    to: 'snapshot-revert',
    stderr: 'error: revert requires force: Target CPU check full does not match source partial',
  }
  expect(await failureOf(kvm([MARK, RUNNING, snapshots, refused]).provider.restore(VM, 'one'))).toEqual({
    kind: 'needs-stop',
    message: `restoring ${VM} to one: libvirt does not restore this checkpoint while the machine runs, because their definitions differ (Target CPU check full does not match source partial)`,
    remedy: expect.stringContaining('agent-swarm stop'),
  })
})

test('a disk that another program uses is named', async () => {
  const locked = {
    to: `start ${VM}`,
    stderr: `error: Failed to start domain '${VM}'\nerror: internal error: process exited while connecting to monitor: Failed to get "write" lock\nIs another process using the image [/pool/x.qcow2]?`,
  }
  expect(await failureOf(kvm([MARK, STOPPED, locked]).provider.startVm(VM))).toMatchObject({
    kind: 'busy',
    remedy: expect.stringContaining("sudo fuser -v '/pool/x.qcow2'"),
  })
})

// ── Paused ──

test('a machine that the full disk paused is resumed only when there is space', async () => {
  const full = kvm([MARK, state(3, VM, 5), pool(10)])
  expect(await failureOf(full.provider.startVm(VM))).toEqual({
    kind: 'disk-full',
    message: `resuming ${VM}, which is paused (disk full): it needs about 64 MiB, but /pool has 10 MiB free (54 MiB missing)`,
    remedy: 'Free disk space there, or delete machines that are not needed: agent-swarm list',
  })
  expect(full.calls.join()).not.toContain(`resume ${VM}`)
  // A quota that libvirt's figures do not show.
  const again = kvm([MARK, state(3, VM, 5), pool(900)])
  expect((await failureOf(again.provider.startVm(VM))).message).toContain(
    'its disk is still full: /pool has 900 MiB free',
  )
  expect(again.calls.join()).toContain(`resume ${VM}`)
})

test.for([
  ['paused by a person', state(3), `resume ${VM}`],
  ['suspended by its guest', state(7), `dompmwakeup ${VM}`],
] as const)('start of a machine that is %s', async ([, before, command]) => {
  const answers: Answer[] = [before, MARK]
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    if (text.includes(command)) answers.splice(0, 1, RUNNING)
  })
  await provider.startVm(VM)
  expect(calls.filter(text => text.endsWith(command))).toHaveLength(1)
  expect(calls.join()).not.toContain(`start ${VM}`)
})

test('a machine that just started has the address that the network keeps for it, before it has asked for one', async () => {
  const machine = mark({ mac: '52:54:00:12:34:56', ip: '192.168.122.50' })
  const starting = kvm([machine, RUNNING])
  expect(await starting.provider.sshInfo(VM)).toMatchObject({ host: '192.168.122.50' })
  expect(starting.calls).toHaveLength(1)
  expect(await failureOf(kvm([machine, STOPPED]).provider.sshInfo(VM))).toMatchObject({ kind: 'no-address-yet' })
})

test('of an address, the lease counts; the guest is asked only without one', async () => {
  const leases = {
    to: 'net-dhcp-leases',
    stdout: ` 2026-11-28 11:49:13   52:54:00:12:34:56   ipv4   192.168.122.23/24    a   01:52:54:00:12:34:56
 2026-11-28 12:37:33   52:54:00:12:34:56   ipv4   192.168.122.104/24   a   ff:56:50:4d:98:00:02:00:00:ab:11`,
  }
  const lease = {
    to: '--source lease',
    stdout:
      ' vnet0      52:54:00:12:34:56    ipv4         192.168.122.23/24\n -          -                    ipv4         192.168.122.104/24',
  }
  const agent = { to: '--source agent', stdout: ' eth0      52:54:00:12:34:56    ipv4         192.168.122.99/24' }
  const machine = [mark({ mac: '52:54:00:12:34:56' }), RUNNING]
  const both = kvm([...machine, leases, lease, agent])
  expect(await both.provider.sshInfo(VM)).toMatchObject({ host: '192.168.122.104' })
  expect(both.calls).toHaveLength(1)
  expect(await both.provider.listVms()).toMatchObject([{ ip: '192.168.122.104' }])
  expect(await kvm([...machine, agent]).provider.sshInfo(VM)).toMatchObject({ host: '192.168.122.99' })
  expect(await failureOf(kvm(machine).provider.sshInfo(VM))).toMatchObject({ kind: 'no-address-yet' })
})

test('UEFI is refused before anything is made, where libvirt is too old for its checkpoints', async () => {
  const uefi = { kvmFirmware: 'uefi' } as const
  expect(await kvm([version('9.0.0')], uefi).provider.available()).toEqual({
    available: false,
    reason: 'checkpoints of a machine with UEFI need libvirt 10.10 or newer, and this is 9.0.0.',
    remedy: expect.stringContaining('AGENT_SWARM_KVM_FIRMWARE=bios'),
  })
  const { provider, calls } = kvm([ABSENT, version('10.9.0'), pool(9_000)], uefi)
  expect(await failureOf(provider.createVm('A-1', 'base', options))).toEqual({
    kind: 'unsupported',
    message: `creating ${VM}: checkpoints of a machine with UEFI need libvirt 10.10 or newer, and this is 10.9.0`,
    remedy: expect.stringContaining('AGENT_SWARM_KVM_FIRMWARE=bios'),
  })
  expect(calls.join()).not.toMatch(CREATES)
  for (const libvirt of ['10.10.0', '11.3.0'])
    expect(await kvm([version(libvirt)], uefi).provider.available()).toEqual({ available: true })
  expect(await kvm([version('9.0.0')]).provider.available()).toEqual({ available: true })
})

test('a full disk is reported before anything is written, with the space that is missing', async () => {
  const create = kvm([ABSENT, version('9.0.0'), pool(100)])
  expect(await failureOf(create.provider.createVm('A-1', 'base', options))).toEqual({
    kind: 'disk-full',
    message: `creating ${VM}: it needs about 512 MiB, but /pool has 100 MiB free (412 MiB missing)`,
    remedy: 'Free disk space there, or delete machines that are not needed: agent-swarm list',
  })
  expect(create.calls.join()).not.toMatch(CREATES)
  const checkpoint = kvm([MARK, RUNNING, pool(300)])
  expect((await failureOf(checkpoint.provider.checkpoint(VM, 'one'))).message).toBe(
    `making the checkpoint one of ${VM}: it needs about 716 MiB, but /pool has 300 MiB free (416 MiB missing)`,
  )
  expect(checkpoint.calls.join()).not.toMatch(CREATES)
  // libvirt's figures are as old as its last refresh of the pool.
  expect(checkpoint.calls.join()).toMatch(/pool-refresh agent-swarm; pool-dumpxml/)
})

test('a disk that fills up during the write is reported with the free space', async () => {
  const full = { to: 'snapshot-create-as', stderr: 'error: Error while writing VM state: No space left on device' }
  expect(await failureOf(kvm([MARK, RUNNING, pool(900), full]).provider.checkpoint(VM, 'one'))).toEqual({
    kind: 'disk-full',
    message: `making the checkpoint one of ${VM}: the disk is full: /pool has 900 MiB free`,
    remedy: 'Free disk space there, or delete machines that are not needed: agent-swarm list',
  })
})

test('a missing base image is reported with the command that makes it', async () => {
  const missing = { to: 'vol-info', stderr: "error: failed to get vol 'base.qcow2'\nerror: Storage volume not found" }
  const answers = [ABSENT, version('9.0.0'), pool(9_000), missing, { to: 'pool-info', stdout: 'State:  running' }]
  expect(await failureOf(kvm(answers).provider.createVm('A-1', 'base', options))).toEqual({
    kind: 'no-such-image',
    message: 'the base image base does not exist',
    remedy: expect.stringContaining('agent-swarm init-base base --from debian-packages'),
  })
})

test("a machine of a user's own libvirt gets another port at its start when another program took its port", async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  const xml = `<domain><metadata><as:vm port='${port}'/></metadata><uuid>kept</uuid><qemu:arg value='user,id=reach,hostfwd=tcp:127.0.0.1:${port}-:22'/></domain>`
  const answers = [mark({ port: String(port) }), STOPPED, { to: 'dumpxml', stdout: xml }]
  const { provider, calls, files } = kvm(answers, { kvmUri: 'qemu:///session' })
  await provider.startVm(VM)
  server.close()
  const [defined = ''] = files
  const [, newPort] = defined.match(/port='(\d+)'/) ?? []
  expect(defined).toContain(`tcp:127.0.0.1:${newPort}-:22`)
  expect(defined).toContain('<uuid>kept</uuid>')
  expect(Number(newPort)).not.toBe(port)
  expect(calls.slice(-2).join()).toMatch(/define .*start as-a-1/)
})

test('a guest that never answers: the failure ends with the last lines of its console, without escape sequences', async () => {
  const { provider } = fakeKvm([MARK, RUNNING], { home }, text => {
    const path = text.match(/console\.log (\S+)/)?.[1]
    if (path !== undefined) writeFileSync(path, 'booting\n\x1b[31mKernel panic - not syncing\n')
  })
  expect(await provider.consoleTail?.(VM)).toEqual(['booting', 'Kernel panic - not syncing'])
  expect(await failureOf(waitForGuest({ run: notInstalled, home }, provider, VM, { deadline: 0 }))).toMatchObject({
    kind: 'guest-unreachable',
    message: `waiting for ${VM}: it got no address within 0 s. Its console ends with:\n  booting\n  Kernel panic - not syncing`,
  })
})

test.for([
  [true, 'it got no address within 1 s'],
  [false, 'it got no address within 0 s'],
] as const)(
  'a guest whose processors are emulated (%s) may take three times as long',
  async ([isEmulated, message]) => {
    const { provider } = fakeKvm([MARK, RUNNING], { home })
    expect(await provider.emulated?.()).toBe(true)
    const host = { ...provider, emulated: async () => isEmulated }
    expect(await failureOf(waitForGuest({ run: notInstalled, home }, host, VM, { deadline: 300 }))).toMatchObject({
      message: expect.stringContaining(message),
    })
  },
)

// ── Builds ──

const [BUILDER, PROVER] = ['as-base-0000000b', 'as-base-0000000c']
const request = (): BuildBase => {
  const machines = [BUILDER, PROVER]
  const access = { publicKey: '', hostKey: options.hostKey, run: async () => ({ stdout: '', stderr: '', exitCode: 0 }) }
  return {
    name: 'base',
    setup: { profile: 'minimal', extra: [] },
    from: { kind: 'file', open: async () => ({ path: '/x', source: 'x' }) },
    newMachine: () => machines.shift() ?? '',
    onPhase: () => {},
    guest: access,
    proofGuest: access,
    signal: new AbortController().signal,
  }
}

test('a pool that cannot be read is not a pool without images: no build begins, and nothing is deleted', async () => {
  const broken = { to: 'vol-list', stderr: 'error: internal error: something unforeseen' }
  const { provider, calls } = kvm([version('9.0.0'), pool(9_000), broken])
  expect((await failureOf(provider.buildBase?.(request()))).message).toContain('something unforeseen')
  expect((await failureOf(provider.listBaseImages?.())).message).toContain('something unforeseen')
  expect(calls.join()).not.toContain('vol-delete')
})

test('what a killed build left of an image stays while a machine depends on it', async () => {
  const names = ['base.qcow2', `${VM}.qcow2`]
  const left = { to: 'vol-list', stdout: names.map(name => ` ${name}   /pool/${name}`).join('\n') }
  const disk = {
    to: `vol-dumpxml --pool agent-swarm ${VM}.qcow2`,
    stdout: `<volume type='file'>
  <name>${VM}.qcow2</name>
  <target><path>/pool/${VM}.qcow2</path></target>
  <backingStore>
    <path>/pool/base.qcow2</path>
  </backingStore>
</volume>`,
  }
  const { provider, calls } = kvm([version('9.0.0'), pool(9_000), left, disk])
  expect(await failureOf(provider.buildBase?.(request()))).toMatchObject({
    kind: 'refused',
    message: `building base: ${VM} depend on it`,
  })
  expect(calls.join()).not.toContain('vol-delete')
})

test('room for a build is what the disk takes once it is unpacked', async () => {
  const gib = 1024 ** 3
  const answers = [
    { to: 'qemu-img info', stdout: JSON.stringify({ format: 'qcow2', 'virtual-size': 8 * gib, 'actual-size': 1 }) },
    { to: 'qemu-img measure', stdout: JSON.stringify({ required: gib / 2, 'fully-allocated': 8 * gib }) },
  ]
  const { provider } = kvm([ABSENT, version('9.0.0'), pool(1_500), ...answers])
  expect(await failureOf(provider.buildBase?.(request()))).toMatchObject({
    kind: 'disk-full',
    message: 'building base: it needs about 2048 MiB, but /pool has 1500 MiB free (548 MiB missing)',
  })
})

test('no machine is made of an image that is not proven yet', async () => {
  const volume = (name: string) => ` ${name}   /pool/${name}`
  const unproven = [
    { to: 'vol-list', stdout: volume('base.qcow2') },
    { to: 'vol-info --pool agent-swarm base.qcow2', stdout: 'Capacity:       1024' },
    { to: 'vol-info --pool agent-swarm base.manifest.json', stderr: "error: failed to get vol 'base.manifest.json'" },
  ]
  const answers = [ABSENT, version('9.0.0'), pool(9_000), ...unproven]
  const { provider, calls } = kvm([...answers, { to: 'pool-info', stdout: 'State:  running' }])
  expect(await failureOf(provider.createVm('A-1', 'base', options))).toMatchObject({ kind: 'no-such-image' })
  expect(calls.join()).not.toMatch(/(?<!net-)define /)
})

const LEFT = 'as-image-0000000a'
const writeNote = (pid: number) => {
  mkdirSync(join(home, 'kvm'), { recursive: true })
  const folder = mkdtempSync(join(home, 'kvm', 'build-'))
  writeFileSync(join(home, 'kvm', 'building-base'), JSON.stringify({ pid, machines: [LEFT], folder }))
}

test('an image that another init-base builds is left to it', async () => {
  writeNote(process.pid)
  const { provider, calls } = kvm([ABSENT, version('9.0.0'), pool(9_000)])
  expect(await failureOf(provider.buildBase?.(request()))).toMatchObject({
    kind: 'busy',
    message: `building base: another init-base is building it (process ${process.pid})`,
  })
  expect(calls.join()).not.toContain('vol-delete')
})

test('what a killed build left is removed by the next, also the machine of an earlier version', async () => {
  writeNote(2 ** 30)
  const marked = mark({ name: LEFT })
  const old = { ...marked, stdout: marked.stdout?.replace(/ home="\w+"| ticket="A-1"/g, '') ?? '' }
  const stopped = { to: `domstats ${LEFT}`, stdout: `Domain: '${LEFT}'\n  state.state=5` }
  const none = { to: BUILDER, stderr: "error: failed to get domain 'x'" }
  const { provider, calls } = kvm([old, stopped, none, { ...none, to: PROVER }, version('9.0.0'), pool(9_000)])
  expect((await failureOf(provider.buildBase?.(request()))).message).toContain('/x')
  expect(calls.join('\n')).toMatch(new RegExp(`undefine ${LEFT} .*vol-delete --pool agent-swarm ${LEFT}.qcow2`))
  expect(readdirSync(join(home, 'kvm'))).toEqual([])
})

test('the manual names the same packages', () => {
  const manual = readFileSync(resolve(import.meta.dirname, '../../../docs/kvm.md'), 'utf8')
  for (const id of ['debian', 'fedora', 'arch', 'opensuse']) expect(manual).toContain(systemOf(`ID=${id}\n`).install)
})
