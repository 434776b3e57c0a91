/** When a fork is refused, before anything stands still or is written; and what a suspended machine is. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { identityScript } from '../../../base-image/identity.ts'
import { userData } from '../../../base-image/seed.ts'
import { timesRead } from '../../../providers/kvm/memory-image.ts'
import type { ForkTarget } from '../../../providers/provider.ts'
import { fail } from '../../../src/errors.ts'
import {
  type Answer,
  disk,
  failureOf,
  fakeKvm,
  mark,
  network,
  options,
  pool,
  RUNNING,
  STOPPED,
  state,
  VM,
} from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-fork-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const FORK = 'as-a-1-1-0000000b'
const target: ForkTarget = { vmId: FORK, ticket: 'A-1', publicKey: options.publicKey, hostKey: options.hostKey }
const NO_FORK: Answer = { to: `metadata ${FORK}`, stderr: `error: failed to get domain '${FORK}'` }
const LAYERS = mark({ checkpoints: 'external' })
const kvm = (...answers: Answer[]) =>
  fakeKvm([{ to: 'net-info', stdout: 'Active:         yes' }, network(), disk(900), NO_FORK, ...answers], { home })
const commands = (calls: readonly string[]) => calls.map(call => call.replace(/^.*--quiet /, ''))
const fork = (of: ReturnType<typeof kvm>, checkpoint: string | null = null) =>
  of.provider.fork?.(VM, checkpoint, [target])

test('a running machine is suspended once, whoever did it', async () => {
  const running = kvm(RUNNING, LAYERS)
  await running.provider.suspend?.(VM)
  expect(commands(running.calls).at(-1)).toBe(`suspend ${VM}`)
  const suspended = kvm(state(3, VM, 1), LAYERS)
  await suspended.provider.suspend?.(VM)
  expect(suspended.calls.join()).not.toContain('suspend ')
})

test('a machine that does not run, or that libvirt paused, is not suspended', async () => {
  expect(await failureOf(kvm(STOPPED, LAYERS).provider.suspend?.(VM))).toMatchObject({ kind: 'not-running' })
  expect(await failureOf(kvm(state(3, VM, 5), LAYERS).provider.suspend?.(VM))).toMatchObject({
    kind: 'busy',
    message: expect.stringContaining('disk full'),
  })
})

test.for<[string, Answer[], string | null, object]>([
  [
    'a running machine without a guest agent',
    [RUNNING, LAYERS, pool(90_000), { to: 'qemu-agent-command', stderr: 'error: Guest agent is not responding' }],
    null,
    { kind: 'guest-unreachable', remedy: expect.stringContaining('qemu-guest-agent') },
  ],
  [
    'a machine whose memory does not fit',
    [RUNNING, LAYERS, pool(100), { to: 'domblklist', stdout: ` vda   /pool/${VM}.qcow2` }],
    null,
    { kind: 'disk-full', message: expect.stringMatching(/^forking as-a-1-0000000a: it needs about \d+ MiB, but/) },
  ],
  ['a machine that is paused for want of room', [state(3, VM, 5), LAYERS, pool(90_000)], null, { kind: 'disk-full' }],
  [
    'a machine whose memory is saved',
    [STOPPED, LAYERS, pool(90_000), { to: 'dominfo', stdout: 'Managed save:   yes' }],
    null,
    { kind: 'not-running', remedy: expect.stringContaining('agent-swarm start') },
  ],
  ['a checkpoint that is not there', [RUNNING, LAYERS, pool(90_000)], 'never', { kind: 'no-such-checkpoint' }],
  ['a snapshot that is not there', [RUNNING, mark(), pool(90_000)], 'never', { kind: 'no-such-checkpoint' }],
  [
    'a fork whose name another home has',
    [
      RUNNING,
      LAYERS,
      pool(90_000),
      { to: `metadata ${FORK}`, stdout: `<vm name="${FORK}" home="ffff" mac="m"/>` },
      { to: 'list --all --name', stdout: FORK },
      { to: `domstats ${FORK}`, stdout: `Domain: '${FORK}'\n  state.state=1\n` },
    ],
    null,
    { kind: 'not-ours' },
  ],
])('%s is refused before anything changes', async ([, answers, checkpoint, expected]) => {
  const of = kvm(...answers)
  expect(await failureOf(fork(of, checkpoint))).toMatchObject(expected)
  expect(of.calls.join()).not.toMatch(/snapshot-create|vol-create|restore |suspend /)
})

test('forks have their memory with the libvirt of this host alone, and elsewhere their disks', () => {
  const capabilities = (kvmUri: string) => fakeKvm([], { home, settings: { kvmUri } }).provider
  expect(capabilities('qemu:///system').memoryForks).toBe(true)
  for (const uri of ['qemu:///session', 'qemu+ssh://host.example/system']) {
    expect(capabilities(uri).memoryForks).toBeUndefined()
    expect(capabilities(uri).fork).toBeDefined()
  }
})

const AGENT: Answer[] = [
  { to: '"execute":"guest-exec",', stdout: '{"return":{"pid":7}}' },
  { to: '"execute":"guest-exec-status"', stdout: '{"return":{"exited":true,"exitcode":0}}' },
]
const SYNC = Buffer.from('sync').toString('base64')
const DISK: Answer = { to: 'domblklist', stdout: ` vda   /pool/${VM}.qcow2` }
const DEFINITION: Answer = {
  to: 'dumpxml',
  stdout: "<domain type='qemu'>\n  <memory unit='KiB'>524288</memory><vcpu>1</vcpu></domain>",
}

test.for([
  ['layers', LAYERS, '--disk-only'],
  ['snapshots in its disk', mark(), '--atomic'],
] as const)(
  'a running machine with %s writes its files first, frozen never; forks that boot need no memory of it',
  async ([, kind, taken]) => {
    const settings = { kvmUri: 'qemu+ssh://host.example/system' }
    const of = fakeKvm([...AGENT, RUNNING, kind, pool(90_000), DISK, disk(1), NO_FORK], { home, settings })
    await failureOf(fork(of))
    const [synced, snapshot] = [SYNC, taken].map(text => of.calls.findIndex(call => call.includes(text)))
    expect(synced).toBeGreaterThan(-1)
    expect(snapshot).toBeGreaterThan(synced ?? -1)
    expect(of.calls.join()).not.toMatch(/domfsfreeze|--memspec|suspend as-/)
  },
)

test('a fork that is cancelled while the guest writes its files takes no state of it', async () => {
  const settings = { kvmUri: 'qemu+ssh://host.example/system' }
  const of = fakeKvm([RUNNING, LAYERS, pool(90_000), DISK, disk(1), NO_FORK], { home, settings }, text => {
    if (text.includes(SYNC)) throw fail('cancelled', 'cancelled')
  })
  expect(await failureOf(fork(of))).toMatchObject({ kind: 'cancelled' })
  expect(of.calls.join()).not.toContain('snapshot-create-as')
})

test('a capture that fails leaves neither a layer nor a memory', async () => {
  const made = [`${VM}.qcow2`, `${VM}.1.qcow2`, `${VM}.0.memory`]
  const volumes: Answer = { to: 'vol-list', stdout: made.join('\n') }
  const agent: Answer = { to: 'guest-ping', stdout: '{"return":{}}' }
  const off: Answer = {
    to: 'query-migrate-capabilities',
    stdout: '[{"state":false,"capability":"background-snapshot"}]',
  }
  const blocks: Answer = { to: 'query-block', stdout: `{"return":[{"file":"/pool/${VM}.qcow2"}]}` }
  const of = kvm(RUNNING, LAYERS, pool(90_000), DISK, agent, volumes, off, blocks)
  expect(await failureOf(fork(of))).toMatchObject({ message: expect.stringContaining('libvirt did not make') })
  const removed = commands(of.calls).filter(call => call.startsWith('vol-delete'))
  expect(removed).toEqual([`vol-delete --pool agent-swarm ${VM}.0.memory; vol-delete --pool agent-swarm ${VM}.1.qcow2`])
})

test.for([
  ['layers', LAYERS],
  ['snapshots in its disk', mark()],
] as const)('a fork that boots keeps its checkpoints as layers, whatever its source has: %s', async ([, kind]) => {
  const volumes: Answer = { to: 'vol-list', stdout: `${VM}.qcow2\n${VM}.1.qcow2\n${VM}.0.one.checkpoint` }
  const snapshots: Answer = { to: 'snapshot-list', stdout: ' one   2026-11-24 10:00:00 +0000   shutoff' }
  const size: Answer = { to: 'vol-info', stdout: `Name: ${VM}.qcow2\nCapacity: 1024\nAllocation: 1024` }
  const convert: Answer = { to: 'qemu-img convert', stdout: '' }
  const of = kvm(STOPPED, kind, pool(90_000), DISK, volumes, snapshots, size, convert, DEFINITION)
  await fork(of, 'one')
  expect(of.files.find(text => text.includes(`<name>${FORK}</name>`) && text.includes('<domain'))).toMatch(
    /checkpoints="external"/,
  )
})

test('forks that are made stay, also when what was made for them cannot be removed', async () => {
  const size: Answer = { to: 'vol-info', stdout: `Name: ${VM}.qcow2\nCapacity: 1024\nAllocation: 1024` }
  const convert: Answer = { to: 'qemu-img convert', stdout: '' }
  const answers = [{ to: 'net-info', stdout: 'Active:         yes' }, network(), disk(900), NO_FORK, ...AGENT, RUNNING]
  const of = fakeKvm([...answers, mark(), pool(90_000), DISK, size, convert, DEFINITION], { home }, text => {
    if (text.includes('snapshot-delete')) throw fail('unknown', 'libvirt restarts')
  })
  await fork(of)
  const all = commands(of.calls).join('\n')
  expect(all).toMatch(/snapshot-create-as[\s\S]*snapshot-delete/)
  expect(all).not.toContain(`undefine ${FORK}`)
})

test('the layers of a deleted machine that forks need are noted when it is gone', async () => {
  const listed = [`${VM}.qcow2`, `${VM}.1.qcow2`, `${FORK}.qcow2`]
  const volumes: Answer = { to: 'vol-list', stdout: listed.join('\n') }
  const backing: Answer = {
    to: `vol-dumpxml --pool agent-swarm ${FORK}.qcow2`,
    stdout: `<volume><name>${FORK}.qcow2</name><backingStore><path>/pool/${VM}.qcow2</path></backingStore></volume>`,
  }
  const others: Answer[] = [VM, `${VM}.1`].map(name => ({
    to: `vol-dumpxml --pool agent-swarm ${name}.qcow2`,
    stdout: `<volume><name>${name}.qcow2</name></volume>`,
  }))
  let isDefined = true
  const of = fakeKvm([STOPPED, LAYERS, pool(90_000), volumes, backing, ...others], { home }, text => {
    if (text.includes(`undefine ${VM}`)) isDefined = false
    if (text.includes(`${VM}.kept`)) expect(isDefined).toBe(false)
  })
  await failureOf(of.provider.deleteVm(VM))
  const all = commands(of.calls).join('\n')
  expect(all).not.toContain(`vol-delete --pool agent-swarm ${VM}.qcow2`)
  expect(all).toContain(`undefine ${VM}`)
})

test('a fork of a checkpoint ends a merge of layers below it first', async () => {
  const volumes: Answer = { to: 'vol-list', stdout: `${VM}.qcow2\n${VM}.1.qcow2\n${VM}.0.one.checkpoint` }
  const of = kvm(RUNNING, LAYERS, pool(90_000), DISK, volumes, disk(1))
  await failureOf(fork(of, 'one'))
  const all = commands(of.calls)
  expect(all.findIndex(call => call.includes(`blockjob ${VM} vda --abort`))).toBeGreaterThan(-1)
})

test.for([
  ['9.0.0', 1],
  ['8.0.0', 1],
  ['9.1.0', null],
  ['10.10.0', null],
  ['11.3.0', 2],
  ['12.0.0', 2],
] as const)('libvirt %s reads an image of memory this often: %s', ([version, times]) => {
  expect(timesRead(version)).toBe(times)
})

const identity = {
  name: FORK,
  machineId: 'a'.repeat(32),
  hostKey: { privateKey: '-----BEGIN\nab+/=\n-----END\n', publicKey: 'ssh-ed25519 BBBB' },
  publicKey: "ssh-ed25519 AAAA it's $(mine); `x`",
  now: new Date(1_764_000_000_250),
  fresh: Buffer.from('random'),
  mac: '52:54:00:00:00:0b',
  oldMac: '52:54:00:00:00:0a',
  address: { ip: '192.0.2.9', prefix: 24, gateway: '192.0.2.1' },
}

test('the script for a fork has each value as it is, whatever is in it', () => {
  const script = identityScript(identity)
  const [values = ''] = script.split('# shellcheck')
  const print = (name: string) => execFileSync('sh', ['-c', `${values}\nprintf %s "$${name}"`], { encoding: 'utf8' })
  expect(print('login_key')).toBe(identity.publicKey)
  expect(print('host_private')).toBe(identity.hostKey.privateKey.trimEnd())
  expect(print('now')).toBe('1764000000.250')
  expect([print('address'), print('prefix'), print('gateway')]).toEqual(['192.0.2.9', '24', '192.0.2.1'])
  expect(identityScript({ ...identity, address: null })).toContain("address=''\nprefix=''\ngateway=''")
  execFileSync('sh', ['-n'], { input: script })
})

test('a login key of two lines is refused', async () => {
  const write = async () => identityScript({ ...identity, publicKey: 'one\ntwo' })
  expect(await failureOf(write())).toMatchObject({ kind: 'usage' })
})

test('the seed of a fork gives its disk a machine-id of its own; that of a new machine has none', () => {
  const of = { hostname: FORK, publicKey: options.publicKey, hostKey: options.hostKey }
  const config = (text: string) => JSON.parse(text.replace('#cloud-config\n', ''))
  expect(config(userData({ ...of, machineId: identity.machineId })).bootcmd).toEqual([
    [
      'cloud-init-per',
      'instance',
      'swarm-machine-id',
      'sh',
      '-c',
      expect.stringContaining(`echo ${identity.machineId} >/etc/machine-id`),
    ],
  ])
  expect(config(userData(of))).not.toHaveProperty('bootcmd')
})
