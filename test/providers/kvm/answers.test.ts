/** What virsh prints, as it was recorded, and what is made of it. */
import { expect, test } from 'vitest'
import { explainVirsh } from '../../../providers/kvm/explain.ts'
import {
  openVirsh,
  parseAddresses,
  parseDomstats,
  parseMarks,
  parseSnapshots,
  parseVolumes,
  vmStatus,
} from '../../../providers/kvm/virsh.ts'
import { domainXml, escapeXml } from '../../../providers/kvm/xml.ts'

test.for<[string, string]>([
  ["error: failed to get domain 'X'", 'no-such-vm'],
  ['error: Domain is already active', 'already-running'],
  ['error: Requested operation is not valid: domain is not running', 'not-running'],
  ['error: operation failed: domain moment one already exists', 'already-exists'],
  ["error: Domain snapshot not found: no domain snapshot with matching name 'X'", 'no-such-checkpoint'],
  ['error: metadata not found: Requested metadata element is not present', 'not-ours'],
  [
    "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
    'hypervisor-unreachable',
  ],
  [
    "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
    'permission',
  ],
  [
    "error: failed to get vol 'x.qcow2'\nerror: Storage volume not found: no storage vol with matching path 'x.qcow2'",
    'no-such-image',
  ],
  ["error: internal error: storage volume name 'x' already exists: storage volume x exists already", 'already-exists'],
  ['error: cannot write data to file: No space left on device', 'disk-full'],
  ['error: something that nobody foresaw', 'unknown'],
])('%j means %s', ([said, kind]) =>
  expect(explainVirsh.find(([pattern]) => pattern.test(said))?.[1] ?? 'unknown').toBe(kind),
)

test('states', () => {
  expect(
    ['running\n\n', 'idle', 'paused', 'in shutdown', 'shut off\n', 'crashed', 'pmsuspended'].map(vmStatus),
  ).toEqual(['running', 'running', 'running', 'running', 'stopped', 'stopped', 'running'])
})

test('what machines take', () => {
  // libvirt 9.0, `domstats --state --cpu-total --vcpu --balloon --nowait`, trimmed.
  const printed = `Domain: 'as-a-1-00000001'
  state.state=1
  state.reason=1
  cpu.time=68705493000
  cpu.user=64703122000
  balloon.current=1048576
  balloon.maximum=1048576
  balloon.unused=870672
  balloon.rss=1405472
  vcpu.current=2
  vcpu.maximum=2
  vcpu.0.time=35250000000

Domain: 'other'
  state.state=5
  state.reason=1
  balloon.maximum=524288
  vcpu.maximum=1

Domain: 'busy'
  state.state=1

`
  const MiB = 1024 ** 2
  expect(parseDomstats(printed)).toEqual(
    new Map([
      [
        'as-a-1-00000001',
        {
          ...{ status: 'running', cpus: 2, cpuSeconds: 68.705493 },
          ...{ memoryBytes: 1024 * MiB, memoryUsedBytes: 1405472 * 1024 },
        },
      ],
      ['other', { status: 'stopped', cpus: 1, memoryBytes: 512 * MiB, memoryUsedBytes: 0, cpuSeconds: null }],
      ['busy', { status: 'running', cpus: 0, memoryBytes: 0, memoryUsedBytes: null, cpuSeconds: null }],
    ]),
  )
})

test('addresses, by the machine they belong to', () => {
  const leases = ` Expiry Time           MAC address         Protocol   IP address           Hostname             Client ID or DUID
-------------------------------------------------------------------------------------------------------------------
 2026-11-24 13:00:00   52:54:00:AA:bb:cc   ipv4       192.168.177.204/24   as-a-1-00000001      01:52:54:00:aa:bb:cc
`
  expect(parseAddresses(leases)).toEqual(new Map([['52:54:00:aa:bb:cc', '192.168.177.204']]))
  const agent = ` lo         00:00:00:00:00:00    ipv4         127.0.0.1/8
 eth0       52:54:00:aa:bb:cc    ipv4         169.254.1.1/16
 eth0       52:54:00:aa:bb:cc    ipv4         192.168.177.9/24
 -          -                    ipv6         fe80::1/64
`
  expect(parseAddresses(agent)).toEqual(new Map([['52:54:00:aa:bb:cc', '192.168.177.9']]))
  expect(parseAddresses('')).toEqual(new Map())
})

test('marks, however libvirt writes them', () => {
  expect(
    parseMarks(
      `<vm xmlns="urn:agent-swarm:1" name="as-a-1-00000001" ticket="A-1" mac="52:54:00:aa:bb:cc"/>\n\n<as:vm mac='m' ticket='T-1' name='n'/>`,
    ),
  ).toEqual([
    { name: 'as-a-1-00000001', ticket: 'A-1', mac: '52:54:00:aa:bb:cc' },
    { name: 'n', ticket: 'T-1', mac: 'm' },
  ])
  expect(parseMarks('<vm name="x"/>')).toEqual([])
})

test('checkpoints, oldest first', () => {
  const listed = ` b      2026-11-23 07:39:43 +0000   running
 a      2026-11-23 08:39:42 +0100   shutoff
 c      2026-11-23 07:39:44 +0000   running
`
  expect(parseSnapshots(listed)).toEqual(['a', 'b', 'c'])
})

test('bytes', () => {
  expect(
    parseVolumes(
      'Name:           a.qcow2\nType:           file\nCapacity:       8589934592 bytes\nAllocation:     1048576 bytes\n\nName:           b.seed.iso\nAllocation:     2048 bytes\n',
    ),
  ).toEqual(
    new Map([
      ['a.qcow2', 1_048_576],
      ['b.seed.iso', 2048],
    ]),
  )
})

test('several commands in one virsh hold no word that it would split', async () => {
  const { batch } = openVirsh(async () => ({ stdout: '', stderr: '', exitCode: 0, milliseconds: 0 }), 'qemu:///system')
  await expect(batch([['metadata', 'as-x; destroy other', 'urn:x']])).rejects.toThrow(/would split/)
  await expect(batch([['metadata', "as-x'"]])).rejects.toThrow(/would split/)
})

test('a definition is escaped throughout', () => {
  expect(escapeXml(`<a b="c" d='e'>&`)).toBe('&lt;a b=&quot;c&quot; d=&apos;e&apos;&gt;&amp;')
  const text = domainXml({
    vmId: 'as-a-1-00000001',
    ticket: 'A-1"/><devices/>',
    mac: '52:54:00:00:00:01',
    domainType: 'qemu',
    cpus: 2,
    memoryMiB: 1024,
    diskPath: '/pool/<x>',
    seedPath: '/pool/seed',
    network: 'net',
  })
  expect(text).toContain('ticket="A-1&quot;/&gt;&lt;devices/&gt;"')
  expect(text).toContain('<source file="/pool/&lt;x&gt;"/>')
  expect(text).toContain('<cpu mode="maximum"/>')
})
