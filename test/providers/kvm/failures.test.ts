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
  RUNNING,
  STOPPED,
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
    `making the checkpoint one of ${VM}: it needs about 700 MiB, but /pool has 300 MiB free (400 MiB missing)`,
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

// ── Builds ──

const [BUILDER, PROVER] = ['as-base-0000000b', 'as-base-0000000c']
const request = (): BuildBase => {
  const machines = [BUILDER, PROVER]
  return {
    name: 'base',
    from: { kind: 'file', path: '/x' },
    newMachine: () => machines.shift() ?? '',
    onPhase: () => {},
    guest: { publicKey: '', hostKey: options.hostKey, run: async () => '' },
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
