/** What kvm says when something is missing, with a virsh that answers as libvirt does then. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openKvm } from '../../../providers/kvm/index.ts'
import type { KvmSettings } from '../../../providers/kvm/settings.ts'
import { systemOf, thisSystem } from '../../../providers/kvm/systems.ts'
import { isFailure } from '../../../src/errors.ts'
import { openRun } from '../../../src/exec.ts'
import { openGuest } from '../../../src/runner/ssh/guest.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-errors-'))
})
afterEach(() => rmSync(home, { recursive: true }))

type Answer = { to: string; stdout?: string; stderr?: string }
const VM = 'as-a-1-0000000a'
const MARK: Answer = { to: 'metadata', stdout: `<vm xmlns="urn:agent-swarm:1" name="${VM}" ticket="A-1" mac="m"/>` }
const version = (libvirt: string): Answer => ({ to: 'version', stdout: `Running against daemon: ${libvirt}` })
const pool = (mebibytes: number): Answer => ({
  to: 'pool-dumpxml',
  stdout: `<pool type='dir'><capacity unit='bytes'>9</capacity><available unit='bytes'>${mebibytes * 1024 ** 2}</available><target><path>/pool</path></target></pool>`,
})
const RUNNING: Answer = {
  to: 'domstats',
  stdout: `Domain: '${VM}'\n  state.state=1\n  balloon.maximum=1048576\n  balloon.rss=716800`,
}
const ABSENT = { to: 'metadata', stderr: `error: failed to get domain '${VM}'` }

/** A virsh that gives every answer whose word is among its arguments; one that says something on stderr makes it fail. */
const kvm = (answers: Answer[], settings: Partial<KvmSettings> = {}) => {
  const lines = answers.map(({ to, stdout = '', stderr = '' }, at) => {
    writeFileSync(join(home, `${at}.out`), stdout === '' ? '' : `${stdout}\n`)
    writeFileSync(join(home, `${at}.err`), stderr === '' ? '' : `${stderr}\n`)
    return `case "$*" in *'${to}'*) cat '${home}/${at}.out'; cat '${home}/${at}.err' >&2; ${stderr === '' ? ':' : 'code=1'};; esac`
  })
  const text = `#!/bin/sh\necho "$*" >> '${home}/asked'\ncode=0\n${lines.join('\n')}\nexit $code\n`
  if (answers.length > 0) writeFileSync(join(home, 'virsh'), text, { mode: 0o755 })
  return openKvm({
    run: openRun({ PATH: answers.length === 0 ? home : `${home}:/usr/bin:/bin` }),
    home: join(home, 'state'),
    settings: {
      uri: 'qemu:///system',
      domainType: 'qemu',
      firmware: 'bios',
      pool: 'agent-swarm',
      network: 'net',
      ...settings,
    },
  })
}
const asked = () => readFileSync(join(home, 'asked'), 'utf8')
const options = {
  vmId: VM,
  cpus: 1,
  memoryMiB: 512,
  diskGiB: 4,
  publicKey: 'ssh-ed25519 AAAA x',
  hostKey: { privateKey: 'p', publicKey: 'q' },
}
const failure = async (promise: Promise<unknown>) => {
  const error = await promise.then(
    () => null,
    (error: unknown) => error,
  )
  if (!isFailure(error)) throw new Error(`it did not fail as it should: ${error}`)
  return error.failure
}

test('without virsh, it says what to install on this system', async () => {
  expect(await kvm([]).available()).toEqual({
    available: false,
    reason: 'virsh is not installed, with which libvirt is asked.',
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
  ['ID=alpine\n', /^Install what your system calls libvirt/, /^Start libvirt's daemon/],
  ['', /^Install what your system calls libvirt/, /^Start libvirt's daemon/],
])('%j: how libvirt is installed and started', ([text, install, start]) => {
  expect(systemOf(text).install).toMatch(install)
  expect(systemOf(text).start).toMatch(start)
})

const down = (why: string): Answer => ({
  to: 'qemu:///',
  stderr: `error: failed to connect to the hypervisor\nerror: ${why}`,
})
const NOBODY = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"

test('libvirt that does not run, and one that may not be used', async () => {
  expect(await kvm([down(NOBODY)]).available()).toEqual({
    available: false,
    reason: 'asking libvirt: libvirt does not answer at qemu:///system.',
    remedy: expect.stringContaining(`Start it: ${thisSystem().start}. `),
  })
  const session = { uri: 'qemu:///session' }
  expect(await kvm([down(NOBODY)], session).available()).toMatchObject({
    reason: 'asking libvirt: libvirt does not answer at qemu:///session.',
    remedy: expect.stringContaining('XDG_RUNTIME_DIR'),
  })
  for (const why of [
    "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
    "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
  ]) {
    const found = await kvm([down(why)]).available()
    expect(found).toMatchObject({
      reason: 'asking libvirt: libvirt runs, and this user may not use qemu:///system.',
      remedy: 'Join the group libvirt: sudo usermod -aG libvirt "$USER". Then log in again.',
    })
    // Every other command says the same.
    const { message } = await failure(kvm([down(why)]).listVms())
    expect(message).toContain('this user may not use qemu:///system')
    expect(message).not.toContain('error:')
  }
})

test('a polkit that does not run is not taken for a libvirt that does not', async () => {
  const bus = down('internal error: Unable to get system bus connection: Could not connect: No such file or directory')
  expect(await kvm([bus]).available()).toMatchObject({
    reason: 'asking libvirt: libvirt asks polkit who may use qemu:///system, and polkit does not answer.',
    remedy: 'Start dbus and polkit, or run it as root.',
  })
})

test('UEFI is refused where libvirt is too old for its checkpoints, before anything is made', async () => {
  const uefi = { firmware: 'uefi' } as const
  expect(await kvm([version('9.0.0')], uefi).available()).toEqual({
    available: false,
    reason: 'a machine with UEFI can have checkpoints from libvirt 10.10 on, and this is 9.0.0.',
    remedy: expect.stringContaining('AGENT_SWARM_KVM_FIRMWARE=bios'),
  })
  expect(await failure(kvm([ABSENT, version('10.9.0'), pool(9_000)], uefi).createVm('A-1', 'base', options))).toEqual({
    kind: 'unsupported',
    message: `making ${VM}: a machine with UEFI can have checkpoints from libvirt 10.10 on, and this is 10.9.0`,
    remedy: expect.stringContaining('AGENT_SWARM_KVM_FIRMWARE=bios'),
  })
  expect(asked()).not.toMatch(/vol-create|define/)
  for (const libvirt of ['10.10.0', '11.3.0'])
    expect(await kvm([version(libvirt)], uefi).available()).toEqual({ available: true })
  expect(await kvm([version('9.0.0')]).available()).toEqual({ available: true })
})

test('a full disk: how much is missing, before anything is written', async () => {
  expect(await failure(kvm([ABSENT, version('9.0.0'), pool(100)]).createVm('A-1', 'base', options))).toEqual({
    kind: 'disk-full',
    message: `making ${VM}: it needs about 512 MiB, and 100 MiB are free in /pool: 412 MiB are missing`,
    remedy: 'Make room there, or delete environments that are not needed: agent-swarm list',
  })
  expect(asked()).not.toMatch(/vol-create|define/)
  expect((await failure(kvm([MARK, RUNNING, pool(300)]).checkpoint(VM, 'one'))).message).toBe(
    `making the checkpoint one of ${VM}: it needs about 700 MiB, and 300 MiB are free in /pool: 400 MiB are missing`,
  )
  expect(asked()).not.toContain('snapshot-create-as')
  // The pool is read anew before its bytes are believed.
  expect(asked()).toMatch(/pool-refresh agent-swarm; pool-dumpxml/)
})

test('a disk that fills up all the same says how much is free', async () => {
  const full = { to: 'snapshot-create-as', stderr: 'error: Error while writing VM state: No space left on device' }
  expect(await failure(kvm([MARK, RUNNING, pool(900), full]).checkpoint(VM, 'one'))).toEqual({
    kind: 'disk-full',
    message: `making the checkpoint one of ${VM}: the disk is full: 900 MiB are free in /pool`,
    remedy: 'Make room there, or delete environments that are not needed: agent-swarm list',
  })
})

test('a missing base image: the command that makes one', async () => {
  const none = { to: 'vol-info', stderr: "error: failed to get vol 'base.qcow2'\nerror: Storage volume not found" }
  const answers = [ABSENT, version('9.0.0'), pool(9_000), none, { to: 'pool-info', stdout: 'State:  running' }]
  expect(await failure(kvm(answers).createVm('A-1', 'base', options))).toEqual({
    kind: 'no-such-image',
    message: 'there is no base image base',
    remedy: expect.stringContaining('agent-swarm init-base base --from debian-packages'),
  })
})

test("a port that another program took: the machine of a user's own libvirt gets another at its start", async () => {
  const { createServer } = await import('node:net')
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(done => server.once('listening', done))
  const { port } = server.address() as { port: number }
  const mark = { to: 'metadata', stdout: MARK.stdout?.replace(' mac=', ` port="${port}" mac=`) ?? '' }
  const stopped = { to: 'domstats', stdout: `Domain: '${VM}'\n  state.state=5` }
  const xml = `<domain><metadata><as:vm port='${port}'/></metadata><uuid>kept</uuid><qemu:arg value='user,id=reach,hostfwd=tcp:127.0.0.1:${port}-:22'/></domain>`
  const provider = kvm([mark, stopped, { to: 'dumpxml', stdout: xml }], { uri: 'qemu:///session' })
  writeFileSync(
    join(home, 'virsh'),
    readFileSync(join(home, 'virsh'), 'utf8').replace(
      'exit',
      `case "$*" in *define*) for f; do :; done; cp "$f" '${home}/defined';; esac\nexit`,
    ),
  )
  await provider.startVm(VM)
  server.close()
  const defined = readFileSync(join(home, 'defined'), 'utf8')
  const [, now] = defined.match(/port='(\d+)'/) ?? []
  expect(defined).toContain(`tcp:127.0.0.1:${now}-:22`)
  expect(defined).toContain('<uuid>kept</uuid>')
  expect(Number(now)).not.toBe(port)
  expect(asked()).toMatch(/start as-a-1/)
})

test('a pool that cannot be read is no pool without images: no build begins, and nothing is deleted', async () => {
  const broken = { to: 'vol-list', stderr: 'error: internal error: something that nobody foresaw' }
  const provider = kvm([version('9.0.0'), pool(9_000), broken])
  const guest = { publicKey: '', hostKey: options.hostKey, run: async () => '' }
  const build = () =>
    failure(
      provider.buildBase?.({
        name: 'base',
        from: { kind: 'file', path: '/x' },
        onPhase: () => {},
        guest,
        signal: new AbortController().signal,
      }) ?? Promise.resolve(),
    )
  expect((await build()).message).toContain('something that nobody foresaw')
  expect((await failure(provider.listBaseImages?.() ?? Promise.resolve())).message).toContain('nobody foresaw')
  expect(asked()).not.toContain('vol-delete')
})

test('an image that another init-base is building is left to it', async () => {
  const provider = kvm([ABSENT, version('9.0.0'), pool(9_000)])
  mkdirSync(join(home, 'state', 'kvm'), { recursive: true })
  const folder = mkdtempSync(join(home, 'state', 'kvm', 'build-'))
  const note = (pid: number) => {
    const text = JSON.stringify({ pid, machines: ['as-image-0000000a'], folder })
    writeFileSync(join(home, 'state', 'kvm', 'building-base'), text)
  }
  note(process.pid)
  const guest = { publicKey: '', hostKey: options.hostKey, run: async () => '' }
  const request = {
    name: 'base',
    from: { kind: 'file', path: '/x' },
    onPhase: () => {},
    guest,
    signal: new AbortController().signal,
  } as const
  expect(await failure(provider.buildBase?.(request) ?? Promise.resolve())).toMatchObject({
    kind: 'busy',
    message: `building base: another init-base is building it (process ${process.pid})`,
  })
  expect(asked()).not.toContain('vol-delete')
  // Of one that was killed, what it left goes first.
  note(2 ** 30)
  expect((await failure(provider.buildBase?.(request) ?? Promise.resolve())).message).toContain('/x')
  expect(asked()).toContain('vol-delete --pool agent-swarm as-image-0000000a.qcow2')
  expect(readdirSync(join(home, 'state', 'kvm'))).toEqual([])
})

test('a guest that never answers: what it wrote on its console last, without its escapes', async () => {
  const address = { to: 'domifaddr', stdout: ' vnet0  m  ipv4  no' }
  const provider = kvm([MARK, RUNNING, address])
  const script = readFileSync(join(home, 'virsh'), 'utf8')
  const download = `case "$*" in *vol-download*) printf 'booting\\n\\033[31mKernel panic - not syncing\\n' > "\${*##*console.log }";; esac`
  writeFileSync(join(home, 'virsh'), script.replace('exit', `${download}\nexit`))
  const guest = openGuest(openRun({ PATH: '/usr/bin:/bin' }), home)
  expect(await failure(guest.ready(provider, VM, 50))).toMatchObject({
    kind: 'guest-unreachable',
    message: `waiting for ${VM}: it got no address within 0 s. Its console ends with:\n  booting\n  Kernel panic - not syncing`,
  })
})

test('the manual names the same packages', () => {
  const manual = readFileSync(resolve(import.meta.dirname, '../../../docs/kvm.md'), 'utf8')
  for (const id of ['debian', 'fedora', 'arch', 'opensuse']) expect(manual).toContain(systemOf(`ID=${id}\n`).install)
})
