/** Machines that are in the middle of something: held by us, worked on by libvirt, or without the file of their disk. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseMemoryInUse } from '../../../providers/kvm/parse.ts'
import { spaceIn } from '../../../providers/kvm/saved.ts'
import {
  type Answer,
  disk,
  failureOf,
  fakeKvm,
  mark,
  network,
  pool,
  RUNNING,
  STOPPED,
  state,
  VM,
} from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-states-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const kvm = (answers: readonly Answer[], onCall?: (text: string) => void) => fakeKvm(answers, { home }, onCall)
const notes = () => readdirSync(join(home, 'kvm')).filter(name => name.startsWith('held-'))
const SNAPSHOTS: Answer = { to: 'snapshot-list', stdout: ' one   2026-11-28 19:26:56 +0000   running' }

// ── Paused: by whom ──

const causeOf = async (answers: readonly Answer[]) => (await kvm(answers).provider.listVms())[0]?.pauseCause

test('the note of a held machine goes when it goes on, is stopped or deleted', async () => {
  const noteHeld = async () => (await import('../../../providers/kvm/held.ts')).noteHeld({ home }, VM)
  const paused = [mark(), state(3, VM, 1)]
  expect(await causeOf(paused)).toBe('asked')
  await noteHeld()
  expect(await causeOf(paused)).toBe('interrupted')
  const answers: Answer[] = [...paused]
  await kvm(answers, text => void (text.includes(`resume ${VM}`) && answers.splice(1, 1, RUNNING))).provider.startVm(VM)
  expect(notes()).toEqual([])
  await noteHeld()
  const stopping: Answer[] = [mark(), RUNNING]
  await kvm(stopping, text => void (text.includes('shutdown') && stopping.splice(1, 1, STOPPED))).provider.stopVm(VM)
  expect(notes()).toEqual([])
  await noteHeld()
  await kvm([{ to: 'metadata', stderr: `error: failed to get domain '${VM}'` }]).provider.deleteVm(VM)
  expect(notes()).toEqual([])
})

test('a restore that is refused leaves no note: the machine runs as before', async () => {
  const refused = { to: 'snapshot-revert', stderr: 'error: revert requires force: definitions differ' }
  const snapshot = { to: 'snapshot-info', stdout: 'State:          running' }
  const { provider } = kvm([
    mark(),
    RUNNING,
    SNAPSHOTS,
    snapshot,
    refused,
    network([{ mac: 'm', name: VM, ip: '192.168.177.9' }]),
  ])
  expect(await failureOf(provider.restore(VM, 'one'))).toMatchObject({ kind: 'needs-stop' })
  expect(notes()).toEqual([])
})

// ── libvirt is still at work ──

const JOB = 'Job type:         Unbounded   \nOperation:        Snapshot    \n'
const NO_ANSWER = 'error: Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatch)'

test.for<[string, (provider: ReturnType<typeof kvm>['provider']) => Promise<unknown> | undefined]>([
  ['checkpoint', provider => provider.checkpoint(VM, 'two')],
  ['restore', provider => provider.restore(VM, 'one')],
  ['delete of a checkpoint', provider => provider.deleteCheckpoint?.(VM, 'one')],
  ['start', provider => provider.startVm(VM)],
])('a %s waits for the checkpoint that libvirt still writes', async ([, work]) => {
  const job: Answer = { to: 'domjobinfo', stdout: JOB }
  const answers: Answer[] = [job, mark(), RUNNING, SNAPSHOTS, pool(9_000)]
  let looks = 0
  const { provider, calls } = kvm(answers, text => {
    if (!text.includes('domjobinfo')) return
    looks += 1
    if (looks === 2) answers.splice(0, 1, { to: 'domjobinfo', stderr: NO_ANSWER })
    // It ends between the second and the third look.
    if (looks === 3) answers.splice(0, 1, { to: 'domjobinfo', stdout: 'Job type:         None   ' })
  })
  await work(provider)
  const first = calls.findIndex(text => /snapshot-create-as|snapshot-revert|snapshot-delete| start /.test(text))
  expect(calls.slice(0, first).filter(text => text.includes('domjobinfo'))).toHaveLength(3)
})

// ── The file of the disk ──

const DELETED: Answer[] = [
  mark(),
  RUNNING,
  { to: 'vol-info', stderr: "error: failed to get vol\nerror: can't open" },
  { to: 'vol-list', stdout: ' base.qcow2   /pool/base.qcow2' },
]

test('a running machine whose disk file somebody deleted is neither stopped nor given a checkpoint', async () => {
  for (const work of ['stop', 'checkpoint'] as const) {
    const { provider, calls } = kvm(DELETED)
    expect(await failureOf(work === 'stop' ? provider.stopVm(VM) : provider.checkpoint(VM, 'one'))).toMatchObject({
      kind: 'unsaved-work',
      message: expect.stringContaining(`somebody deleted the file of its disk, ${VM}.qcow2`),
      remedy: expect.stringContaining('agent-swarm ssh'),
    })
    expect(calls.join('\n')).not.toMatch(/shutdown|destroy|snapshot-create-as/)
  }
})

test('a disk that libvirt has not read yet is not a deleted one', async () => {
  const answers: Answer[] = [...DELETED.slice(0, 3), { to: 'vol-list', stdout: ` ${VM}.qcow2   /pool/${VM}.qcow2` }]
  const { provider } = kvm(answers, text => void (text.includes('shutdown') && answers.splice(1, 1, STOPPED)))
  await provider.stopVm(VM)
})

// ── Room for a checkpoint ──

const balloon = (values: Record<string, number>, running = 1) =>
  `Domain: '${VM}'\n  state.state=${running}\n${Object.entries(values)
    .map(([name, value]) => `  balloon.${name}=${value}\n`)
    .join('')}`
/** As measured under emulation: 254 MiB went to the disk. */
const MEASURED = { maximum: 1_048_576, unused: 853_960, 'last-update': 1_000, rss: 1_464_724 }

test.for<[string, Record<string, number>, number | null]>([
  ['what the guest says it uses, and a quarter of the rest', MEASURED, (1_048_576 - 853_960 * 0.75) * 1024],
  ['what QEMU has, when that is less', { ...MEASURED, rss: 300_000 }, 300_000 * 1024],
  ['all of it, when what the guest says is of its boot', { ...MEASURED, 'last-update': 10 }, 1_048_576 * 1024],
  ['all of it, when nothing is known', { maximum: 1_048_576 }, 1_048_576 * 1024],
])('room for a checkpoint: %s', ([, values, expected]) => {
  expect(parseMemoryInUse(balloon(values), VM, 1_030)).toBe(expected)
})

test('with the help of the processors only the host says how much: a guest could fill its disk', () => {
  expect(parseMemoryInUse(balloon({ ...MEASURED, rss: 900_000 }), VM, null)).toBe(900_000 * 1024)
  expect(parseMemoryInUse(balloon(MEASURED), VM, null)).toBe(1_048_576 * 1024)
})

test.for<['kvm' | 'qemu', boolean]>([
  ['kvm', false],
  ['qemu', true],
])(
  'a machine of %s that calls all of its memory free is saved where a quarter of it fits: %s',
  async ([type, isSaved]) => {
    const { available } = await spaceIn('/var/lib/libvirt/qemu/save')
    const most = Math.floor((available * 2) / 1024)
    const free = { maximum: most, rss: most, unused: most, 'last-update': Math.floor(Date.now() / 1000) }
    const answers = [mark(), { to: 'domstats', stdout: balloon(free) }]
    const { provider, calls } = fakeKvm(answers, { home, settings: { kvmDomainType: type } })
    await provider.save?.(VM).catch(error => expect(error.failure).toMatchObject({ kind: 'disk-full' }))
    expect(calls.join().includes('managedsave')).toBe(isSaved)
  },
)

test('a checkpoint of a stopped machine needs no room for memory', () => {
  expect(parseMemoryInUse(balloon(MEASURED, 5), VM, 1_030)).toBe(null)
})

// ── Cold ──

test('a cold restore takes the memory out of the checkpoint, and puts it back', async () => {
  const original = `<domainsnapshot>\n  <name>one</name>\n  <state>running</state>\n  <memory snapshot='internal'/>\n</domainsnapshot>`
  const answers: Answer[] = [
    RUNNING,
    mark(),
    disk(1),
    SNAPSHOTS,
    { to: 'snapshot-info', stdout: 'Name: one\nState:          running' },
    { to: 'snapshot-dumpxml', stdout: original },
  ]
  const { provider, calls, files } = kvm(
    answers,
    text => void (text.includes('destroy') && answers.splice(0, 1, STOPPED)),
  )
  await provider.restore(VM, 'one', { cold: true })
  const steps = calls.flatMap(
    text => text.match(/destroy|snapshot-(?:delete|create|revert)(?: \S+ --\S+(?: --metadata)?)?/g) ?? [],
  )
  expect(steps).toEqual([
    'destroy',
    `snapshot-delete ${VM} --snapshotname=one --metadata`,
    'snapshot-create',
    `snapshot-revert ${VM} --snapshotname=one`,
    `snapshot-delete ${VM} --snapshotname=one --metadata`,
    'snapshot-create',
  ])
  const written = files.filter(text => text.includes('<domainsnapshot>'))
  expect(written[0]).toContain('<state>shutoff</state>')
  expect(written[0]).toContain('<memory snapshot="no"/>')
  expect(written[1]?.trim()).toBe(original)
})

test('a cold restore that fails puts the memory back all the same', async () => {
  const answers: Answer[] = [
    STOPPED,
    mark(),
    SNAPSHOTS,
    { to: 'snapshot-info', stdout: 'Name: one\nState:          running' },
    { to: 'snapshot-dumpxml', stdout: "<domainsnapshot><memory snapshot='internal'/></domainsnapshot>" },
    { to: 'snapshot-revert', stderr: 'error: internal error: qemu-img: No space left on device' },
  ]
  const { provider, files } = kvm([...answers, pool(1)])
  expect(await failureOf(provider.restore(VM, 'one', { cold: true }))).toMatchObject({ kind: 'disk-full' })
  expect(files.at(-1)).toContain("<memory snapshot='internal'/>")
})
