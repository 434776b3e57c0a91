/** What doctor says of a libvirt, by what virsh and the host answer. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { accelerationRemedy } from '../../../providers/kvm/acceleration.ts'
import type { KvmSettings } from '../../../providers/kvm/settings.ts'
import type { Diagnosis } from '../../../providers/provider.ts'
import { type Answer, fakeKvm, pools } from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-diagnose-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const versions = (libvirt: string, qemu: string): Answer => ({
  to: 'version --daemon',
  stdout: `Using library: libvirt ${libvirt}\nRunning hypervisor: QEMU ${qemu}\nRunning against daemon: ${libvirt}`,
})
const node = (memoryMiB: number): Answer => ({
  to: 'nodeinfo',
  stdout: `CPU(s):              4\ntotal  :             16000000 KiB\nfree   :             ${memoryMiB * 1024} KiB\n`,
})
const pool = (gibibytes: number): Answer => ({
  to: 'pool-dumpxml',
  stdout: `<pool type='dir'><name>agent-swarm</name><capacity unit='bytes'>${100 * 1024 ** 3}</capacity><available unit='bytes'>${gibibytes * 1024 ** 3}</available><target><path>/pool</path></target></pool>`,
})
const net = (state: string): Answer => ({ to: 'net-list', stdout: ` net   ${state}   yes   yes` })
/** The BIOS of the test guest comes to its end: libvirt then has no such domain. */
const BOOTS: Answer = { to: 'domstate as-probe-', stderr: "error: failed to get domain 'as-probe-1'" }
const NO_KVM: Answer = {
  to: '--virttype kvm',
  stderr: "error: invalid argument: KVM is not supported by '/usr/bin/qemu'",
}
const INSTALLED: Answer = { to: 'sh -c' }
const clock = (answer: string): Answer => ({ to: 'timedatectl', stdout: `${answer}\n` })
const sound: Answer[] = [
  versions('9.0.0', '7.2.22'),
  node(8000),
  pool(50),
  net('active'),
  BOOTS,
  INSTALLED,
  clock('yes'),
]

const diagnose = async (answers: readonly Answer[], settings: Partial<KvmSettings> = {}) => {
  const { provider, calls } = fakeKvm(answers, { home, settings: { kvmDomainType: 'auto', ...settings } })
  const findings = (await provider.diagnose?.(new AbortController().signal)) ?? []
  for (const { status, remedy } of findings) if (status === 'error') expect(remedy).toMatch(/\w/)
  const lines = findings.map(({ status, text }) => `${status}: ${text}`)
  return { findings, lines, calls }
}
const remedyOf = (findings: readonly Diagnosis[], text: RegExp) => findings.find(row => text.test(row.text))?.remedy
const instead = (...answers: Answer[]): Answer[] => [
  ...answers,
  ...sound.filter(({ to }) => !answers.some(answer => answer.to === to)),
]

test('a sound host has no errors, and says what it found', async () => {
  const { lines } = await diagnose(sound)
  expect(lines.filter(line => line.startsWith('error'))).toEqual([])
  expect(lines).toEqual(
    expect.arrayContaining([
      'ok: this user may use libvirt 9.0.0 with QEMU 7.2.22 at qemu:///system',
      'ok: a test guest boots with hardware virtualization (KVM)',
      // The host of the test may forward packets or not.
      expect.stringMatching(/^ok: the network net is active$|^warning: this host forwards no packets/),
      'ok: the storage pool agent-swarm is active',
      'ok: 50.0 GiB of 100.0 GiB are free in /pool, and 7.8 GiB of 15.3 GiB of memory are available',
      'ok: checkpoints of machines with a BIOS hold disk and memory',
    ]),
  )
})

test.for<[what: string, answers: Answer[], settings: Partial<KvmSettings>, line: RegExp, remedy: RegExp]>([
  [
    'a libvirt that is older than what is tested',
    [versions('8.0.0', '6.2.0')],
    {},
    /^warning: .*8\.0\.0.*older than what is tested/,
    /newer/,
  ],
  ['a pool with little room', [pool(3)], {}, /^warning: 3\.0 GiB of 100\.0 GiB/, /agent-swarm list/],
  ['a full pool', [pool(0.5)], {}, /^error: 0\.5 GiB/, /agent-swarm list/],
  [
    'a pool that is off',
    [{ to: 'pool-list', stdout: ' agent-swarm   inactive   yes' }],
    {},
    /^warning: the storage pool agent-swarm is not active$/,
    /^virsh -c qemu:\/\/\/system pool-start agent-swarm$/,
  ],
  [
    'a network that is off',
    [net('inactive')],
    {},
    /^warning: the network net is not active$/,
    /^virsh -c qemu:\/\/\/system net-start net$/,
  ],
  [
    'a network that cannot start',
    [net('inactive'), { to: 'sh -c', stderr: 'not found' }],
    {},
    /^error: the network net cannot start: dnsmasq is not installed$/,
    /[Ii]nstall/,
  ],
  ['no qemu-img', [{ to: 'sh -c', stderr: 'not found' }], {}, /^warning: qemu-img is not installed/, /[Ii]nstall/],
  [
    'a clock that nothing sets',
    [clock('no')],
    {},
    /^warning: the clock of this host is not synchronized/,
    /^sudo timedatectl set-ntp true$/,
  ],
  [
    'a pool of another kind',
    [{ to: 'pool-dumpxml', stdout: "<pool type='logical'><name>agent-swarm</name></pool>" }],
    {},
    /^error: the pool agent-swarm is not a folder$/,
    /AGENT_SWARM_KVM_POOL/,
  ],
  [
    'UEFI with a libvirt that cannot restore its checkpoints',
    [],
    { kvmFirmware: 'uefi' },
    /^error: checkpoints of a machine with UEFI need libvirt 10.10 or newer, and this is 9.0.0$/,
    /AGENT_SWARM_KVM_FIRMWARE=bios/,
  ],
  [
    'UEFI without its firmware',
    [versions('11.3.0', '10.0.2')],
    { kvmFirmware: 'uefi' },
    /^error: libvirt knows no UEFI firmware$/,
    /OVMF/,
  ],
  [
    'a host without KVM',
    [NO_KVM],
    {},
    /^warning: no guest boots with KVM: .*KVM is not supported.*several times slower/,
    /modprobe|firmware|dmesg/,
  ],
  [
    'a host without KVM, where it is demanded',
    [NO_KVM],
    { kvmDomainType: 'kvm' },
    /^error: no guest boots with KVM, which AGENT_SWARM_KVM_DOMAIN_TYPE demands/,
    /modprobe|firmware|dmesg/,
  ],
])('%s', async ([, answers, settings, line, remedy]) => {
  const { findings } = await diagnose(instead(...answers), settings)
  const found = findings.find(({ status, text }) => line.test(`${status}: ${text}`))
  expect(found?.remedy).toMatch(remedy)
})

test('what does not exist yet is made with the first machine', async () => {
  expect((await diagnose(instead({ to: 'net-list', stdout: '' }))).lines).toContain(
    'ok: the network net will be made with the first machine',
  )
  expect((await diagnose(instead({ to: 'pool-list', stdout: '' }))).lines).toContain(
    'ok: the storage pool agent-swarm will be made with the first machine',
  )
})

test('what is remembered of KVM is not believed', async () => {
  const first = fakeKvm(sound, { home, settings: { kvmDomainType: 'auto' } })
  expect(await first.provider.emulated?.()).toBe(false)
  const now = await diagnose(instead(NO_KVM))
  expect(now.lines.join('\n')).toMatch(/error: no guest boots with KVM any more, and new machines are defined with it/)
  expect(remedyOf(now.findings, /any more/)).toContain(`rm ${join(home, 'kvm', 'domain-type.json')}`)
  rmSync(join(home, 'kvm', 'domain-type.json'))
  const slow = fakeKvm(instead(NO_KVM), { home, settings: { kvmDomainType: 'auto' } })
  expect(await slow.provider.emulated?.()).toBe(true)
  expect((await diagnose(sound)).lines).toContain(
    'warning: a test guest boots with KVM now, but did not before: new machines are still emulated',
  )
})

test('a libvirt that goes away while the test guest boots proves nothing', async () => {
  const gone: Answer = {
    to: 'domstate as-probe-',
    stderr: 'error: failed to connect to the hypervisor\nerror: Cannot recv data',
  }
  expect((await diagnose(instead(gone))).lines.join('\n')).toMatch(/warning: no guest boots with KVM: .*no answer/)
})

test('nothing that stays is changed', async () => {
  const { calls } = await diagnose(instead(pools('agent-swarm')))
  expect(calls.filter(call => /define|build|pool-start|net-start|autostart|vol-|undefine/.test(call))).toEqual([])
})

test.for<[host: string, Parameters<typeof accelerationRemedy>, remedy: string]>([
  ['Intel, module missing', [{ hasDevice: false, cpuinfo: 'flags\t: fpu vmx' }, false, ''], 'sudo modprobe kvm_intel'],
  ['AMD, module missing', [{ hasDevice: false, cpuinfo: 'flags\t: fpu svm' }, false, ''], 'sudo modprobe kvm_amd'],
  ['off in the firmware', [{ hasDevice: false, cpuinfo: 'flags\t: fpu' }, false, ''], 'Turn on virtualization'],
  [
    'a user without the group',
    [{ hasDevice: true, cpuinfo: '' }, true, 'Could not access KVM kernel module: Permission denied'],
    'sudo usermod -aG kvm "$USER"',
  ],
  ['a device that does not work', [{ hasDevice: true, cpuinfo: '' }, false, 'it ended'], 'dmesg'],
])('no KVM: %s', ([, words, remedy]) => expect(accelerationRemedy(...words)).toContain(remedy))

const monitorSays = (major: number, minor: number, isOn: boolean): Answer[] => [
  { to: 'query-version', stdout: `{"return":{"qemu":{"micro":0,"minor":${minor},"major":${major}},"package":""}}` },
  {
    to: 'query-migrate-capabilities',
    stdout: `{"return":[{"state":${isOn},"capability":"background-snapshot"}]}`,
  },
]

test.for<
  [what: string, answers: Answer[], setting: KvmSettings['kvmLiveCheckpoints'], line: RegExp, remedy: RegExp | null]
>([
  ['with a host that can', monitorSays(10, 0, true), 'auto', /^ok: checkpoints of running machines are live/, null],
  ['without userfaultfd', monitorSays(10, 0, false), 'auto', /^warning: .*userfaultfd/, /unprivileged_userfaultfd=1/],
  ['with an older QEMU', monitorSays(7, 2, true), 'auto', /^ok: .*need QEMU 10/, null],
  ['with an older QEMU, on', monitorSays(7, 2, true), 'on', /^warning: .*may lose a guest/, /QEMU 10/],
  ['off', [], 'off', /^ok: .*LIVE_CHECKPOINTS is off/, null],
])('live checkpoints %s', async ([, answers, kvmLiveCheckpoints, line, remedy]) => {
  const { findings, lines, calls } = await diagnose([...answers, ...sound], { kvmLiveCheckpoints })
  const found = lines.find(each => line.test(each))
  expect(found).toBeDefined()
  expect(remedyOf(findings, new RegExp(found?.replace(/^\w+: /, '').replaceAll(/[()]/g, '.') ?? '')) ?? null).toEqual(
    remedy === null ? null : expect.stringMatching(remedy),
  )
  // The test guest never runs, and goes with its virsh.
  if (kvmLiveCheckpoints !== 'off') expect(calls.join('\n')).toMatch(/create \S+ --paused --autodestroy/)
})
