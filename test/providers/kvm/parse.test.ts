/** What virsh prints, as recorded, and what is read from it; and the definitions that libvirt gets. */
import { expect, test } from 'vitest'
import { lastLines } from '../../../providers/kvm/console.ts'
import { explainVirsh } from '../../../providers/kvm/explain.ts'
import { domainXml, nvramTemplate, overlayXml, withNvram, withPort } from '../../../providers/kvm/libvirt-xml.ts'
import { parseMarks } from '../../../providers/kvm/marks.ts'
import {
  parseAddresses,
  parseLeases,
  parseNode,
  parsePool,
  parseSnapshots,
  parseStates,
  parseUsage,
  parseVolumes,
} from '../../../providers/kvm/parse.ts'
import { isSession } from '../../../providers/kvm/settings.ts'
import { openVirsh } from '../../../providers/kvm/virsh.ts'
import { escapeXml } from '../../../providers/kvm/xml.ts'

const SYSTEM = { kvmUri: 'qemu:///system' }

test.for<[string, string]>([
  ["failed to get domain 'X'", 'no-such-vm'],
  ['Domain is already active', 'already-running'],
  ['Requested operation is not valid: network is already active as x', 'already-running'],
  ["operation failed: network 'x' already exists with uuid 1-2", 'already-exists'],
  [
    "failed to connect to the hypervisor\nFailed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
    'hypervisor-unreachable',
  ],
  [
    "failed to connect to the hypervisor\nFailed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
    'permission',
  ],
  [
    "failed to get vol 'x.qcow2'\nStorage volume not found: no storage vol with matching path 'x.qcow2'",
    'no-such-image',
  ],
  ["failed to get pool 'x'\nStorage pool not found: no storage pool with matching name 'x'", 'not-configured'],
  ["internal error: pool 'x' has asynchronous jobs running.", 'busy'],
  ['cannot write data to file: No space left on device', 'disk-full'],
  ['revert requires force: Target CPU check full does not match source partial', 'needs-stop'],
  [
    'internal error: process exited while connecting to monitor: Failed to get "write" lock\nIs another process using the image [/pool/a b.qcow2]?',
    'busy',
  ],
  [
    'Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainShutdown)',
    'busy',
  ],
  ["internal error: cannot load AppArmor profile 'libvirt-6695eb01-f6a4-8304-79aa-97f2502e193f'", 'permission'],
  [
    "unable to set AppArmor profile 'libvirt-6695eb01' for '/usr/bin/qemu-system-x86_64': No such file or directory",
    'permission',
  ],
  ["internal error: unable to execute QEMU command 'cont': Resetting the Virtual Machine is required", 'needs-stop'],
  ['this function is not supported by the connection driver: virConnectListAllNetworks', 'provider-missing'],
  ['something unforeseen', 'unknown'],
])('%j means %s', ([text, kind]) => expect(explainVirsh(SYSTEM)('trying', text).failure.kind).toBe(kind))

test('states', () => {
  expect(
    parseStates("Domain: 'as-a-1-00000001'\n  state.state=1\n  state.reason=1\n\nDomain: 'other'\n  state.state=5\n"),
  ).toEqual(
    new Map([
      ['as-a-1-00000001', { status: 'running' }],
      ['other', { status: 'stopped' }],
    ]),
  )
})

test.for<[string, number, number, object]>([
  ['runs', 1, 1, { status: 'running' }],
  ['shuts down', 4, 1, { status: 'running' }],
  ['is off', 5, 1, { status: 'stopped' }],
  ['is off, with its memory saved', 5, 5, { status: 'stopped' }],
  ['crashed', 6, 1, { status: 'stopped' }],
  ['was paused by a person', 3, 1, { status: 'running', paused: 'by a user', pauseCause: 'asked' }],
  ['was paused because the disk is full', 3, 5, { status: 'running', paused: 'disk full', pauseCause: 'disk-full' }],
  [
    'was paused by libvirt, which died in a checkpoint',
    3,
    9,
    { status: 'running', paused: 'making a checkpoint', pauseCause: 'interrupted' },
  ],
  ['was paused for a reason of a later libvirt', 3, 99, { status: 'running', paused: 'unknown', pauseCause: 'asked' }],
  ['crashed and is kept', 3, 10, { status: 'running', paused: 'the guest crashed', pauseCause: 'asked' }],
  ['sleeps', 7, 0, { status: 'running', paused: 'suspended by the guest', pauseCause: 'asked' }],
])('a machine that %s', ([, state, reason, expected]) => {
  expect(parseStates(`Domain: 'x'\n  state.state=${state}\n  state.reason=${reason}\n`).get('x')).toEqual(expected)
})

test.for<[string, string, string]>([
  [
    'the one that ends last',
    ` 2026-11-28 11:49:13   52:54:00:12:34:56   ipv4   192.168.122.23/24    a   01:52:54:00:12:34:56
 2026-11-28 12:37:33   52:54:00:12:34:56   ipv4   192.168.122.104/24   a   ff:56:50:4d:98:00:02:00:00:ab:11`,
    '192.168.122.104',
  ],
  [
    'the same in the other order',
    ` 2026-11-28 12:37:33   52:54:00:12:34:56   ipv4   192.168.122.104/24   a   ff:56:50:4d:98:00:02:00:00:ab:11
 2026-11-28 11:49:13   52:54:00:12:34:56   ipv4   192.168.122.23/24    a   01:52:54:00:12:34:56`,
    '192.168.122.104',
  ],
  [
    'one without an end',
    ` 1970-01-01 00:00:00   52:54:00:12:34:56   ipv4   192.168.122.7/24    a   01:52:54:00:12:34:56
 2026-11-28 12:37:33   52:54:00:12:34:56   ipv4   192.168.122.104/24   a   ff:56`,
    '192.168.122.7',
  ],
])('of two leases of one MAC, %s', ([, text, expected]) => {
  expect(parseLeases(text)).toEqual(new Map([['52:54:00:12:34:56', expected]]))
})

test('addresses by MAC', () => {
  const leases = ` Expiry Time           MAC address         Protocol   IP address           Hostname             Client ID or DUID
-------------------------------------------------------------------------------------------------------------------
 2026-11-24 13:00:00   52:54:00:AA:bb:cc   ipv4       192.168.177.204/24   as-a-1-00000001      01:52:54:00:aa:bb:cc
 2026-11-24 13:00:00   52:54:00:aa:bb:cd   ipv6       fd00::1/64           -                    -
`
  expect(parseLeases(leases)).toEqual(new Map([['52:54:00:aa:bb:cc', '192.168.177.204']]))
  expect(parseAddresses(leases)).toEqual(new Map())
  const agent = ` lo         00:00:00:00:00:00    ipv4         127.0.0.1/8
 eth0       52:54:00:aa:bb:cc    ipv4         169.254.1.1/16
 -          -                    ipv6         fe80::1/64
 -          -                    ipv4         192.168.177.9/24
 docker0    52:54:00:aa:bb:cd    ipv6         fe80::2/64
 -          -                    ipv4         172.17.0.1/16
 tun0       N/A                  ipv4         10.8.0.1/24
 -          -                    ipv4         10.8.0.2/24
`
  expect(parseAddresses(agent)).toEqual(
    new Map([
      ['52:54:00:aa:bb:cc', '192.168.177.9'],
      ['52:54:00:aa:bb:cd', '172.17.0.1'],
    ]),
  )
  expect(parseAddresses('')).toEqual(new Map())
})

test.for<[string, boolean]>([
  ['qemu:///session', true],
  ['qemu+unix:///session?socket=/run/user/1000/libvirt/virtqemud-sock', true],
  ['qemu:///session?mode=direct', true],
  ['qemu:///system', false],
  ['qemu+unix:///system?socket=/tmp/session', false],
  ['qemu+ssh://host/system', false],
  ['not a URI /session', false],
])("%s is a user's own libvirt: %s", ([kvmUri, expected]) => expect(isSession({ kvmUri })).toBe(expected))

test('checkpoints, oldest first', () => {
  const listed = ` b      2026-11-23 07:39:43 +0000   running
 a      2026-11-23 08:39:42 +0100   shutoff
 c      2026-11-23 07:39:44 +0000   running
`
  expect(parseSnapshots(listed)).toEqual(['a', 'b', 'c'])
})

test('bytes of volumes', () => {
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

test('arguments of several commands in one virsh are quoted', async () => {
  const calls: (readonly string[])[] = []
  const { ask } = openVirsh(async (_program, argv) => {
    calls.push(argv)
    return { stdout: '', stderr: '', exitCode: 0, milliseconds: 0 }
  }, SYSTEM)
  await ask([
    ['metadata', 'as-x; destroy other', 'urn:x'],
    ['vol-upload', "/a b/it's", 'as-a-1.qcow2'],
  ])
  expect(calls[0]?.at(-1)).toBe(
    String.raw`metadata 'as-x; destroy other' urn:x; vol-upload '/a b/it'\''s' as-a-1.qcow2`,
  )
})

test('a failed command among several fails `all` but not `ask`; an unreachable libvirt fails both', async () => {
  const answering = (stderr: string) =>
    openVirsh(async () => ({ stdout: 'text', stderr, exitCode: 0, milliseconds: 0 }), SYSTEM)
  const kind = (promise: Promise<unknown>) =>
    promise.then(
      () => 'done',
      error => error.failure.kind,
    )
  expect(await kind(answering('').all([['define', '/x']]))).toBe('done')
  expect(await kind(answering("error: failed to get domain 'x'\n").all([['start', 'x']]))).toBe('no-such-vm')
  expect(await kind(answering("error: failed to get domain 'x'\n").ask([['domstate', 'x']]))).toBe('done')
  const down = 'error: failed to connect to the hypervisor\nerror: Failed to connect socket to /run/x: No such file'
  expect(await kind(answering(down).ask([['domstate', 'x']]))).toBe('hypervisor-unreachable')
})

test('usage of machines', () => {
  const listed = `Domain: 'as-a-1-00000001'
  state.state=1
  cpu.time=69023266000
  balloon.maximum=1048576
  balloon.rss=1405472
  vcpu.current=2

Domain: 'as-a-2-00000002'
  state.state=5
  balloon.maximum=524288
  vcpu.maximum=1

Domain: 'busy'
  state.state=1
  balloon.maximum=1024
  vcpu.current=1
`
  expect(Object.fromEntries(parseUsage(listed))).toEqual({
    'as-a-1-00000001': { cpus: 2, memoryBytes: 1_073_741_824, memoryUsedBytes: 1_439_203_328, cpuSeconds: 69.023266 },
    'as-a-2-00000002': { cpus: 1, memoryBytes: 536_870_912, memoryUsedBytes: 0, cpuSeconds: null },
    busy: { cpus: 1, memoryBytes: 1_048_576, memoryUsedBytes: null, cpuSeconds: null },
  })
})

test('capacity of the host', () => {
  const text = `CPU model:           x86_64
CPU(s):              2
Memory size:         9529548 KiB
total  :             24684084 KiB
free   :             19652180 KiB
buffers:               160584 KiB
cached :              3792320 KiB
`
  expect(parseNode(text)).toEqual({
    cpus: 2,
    memoryBytes: { total: 25_276_502_016, available: 24_171_606_016 },
  })
  const pool =
    "<pool type='dir'>\n  <name>swarm</name>\n  <capacity unit='bytes'>100</capacity>\n  <available unit='bytes'>7</available>\n  <target>\n    <path>/a &amp; b</path>\n  </target>\n</pool>\n"
  expect(parsePool(`${pool} default   inactive   no\n swarm   active   yes\n`)).toEqual({
    folder: '/a & b',
    total: 100,
    available: 7,
  })
  // libvirt stops a pool whose folder is gone, and still shows its last figures.
  expect(parsePool(`${pool} swarm   inactive   yes\n`)).toBe(null)
  expect(parsePool("error: failed to get pool 'x'")).toBe(null)
})

test('the last lines of a console have no escape sequences, and are few and short', () => {
  const hostile = [
    ...Array.from({ length: 50 }, (_, n) => `line ${n}`),
    '\x1b[2J\x1b[1;31mred\x1b[0m\x07',
    '\x1b]0;owned\x07after the title',
    '\x1b]8;;http://evil.example\x1b\\a link\x1b]8;;\x1b\\',
    '\u202eturned around\u202c, and \u200bhidden',
    'over\rwritten',
    `${'x'.repeat(199)}😀`,
    '\x1b',
    '',
  ].join('\n')
  const lines = lastLines(Buffer.from(hostile))
  expect(lines).toHaveLength(20)
  expect(lines.slice(-7)).toEqual([
    'red',
    'after the title',
    'a link',
    'turned around, and hidden',
    'over',
    'written',
    `${'x'.repeat(199)}\ufffd`,
  ])
  expect(lastLines(Buffer.from(''))).toEqual([])
  expect(lastLines(Buffer.from([0xff, 0xfe, 0x0a]))).toEqual(['\ufffd\ufffd'])
})

const mark = { vmId: 'as-a-1-00000001', ticket: 'A-1', home: '00ff', mac: '52:54:00:00:00:01', port: null, ip: null }
const machine = {
  mark,
  domainType: 'qemu',
  firmware: 'bios',
  cpus: 2,
  memoryMiB: 1024,
  diskPath: '/pool/disk',
  seedPath: '/pool/seed',
  consolePath: '/pool/console',
  network: 'net',
  isolation: null,
  closed: false,
} as const

test('every value of a definition is escaped', () => {
  expect(escapeXml(`<a b="c" d='e'>&`)).toBe('&lt;a b=&quot;c&quot; d=&apos;e&apos;&gt;&amp;')
  const text = domainXml({ ...machine, mark: { ...mark, ticket: 'A-1"/><devices/>' }, diskPath: '/pool/<x>' })
  expect(text).toContain('ticket="A-1&quot;/&gt;&lt;devices/&gt;"')
  expect(text).toContain('<source file="/pool/&lt;x&gt;"/>')
  expect(text).toContain('<cpu mode="maximum"/>')
})

test('a disk on a base image has a format that gives discarded blocks back', () => {
  const text = overlayXml('x.qcow2', 8, '/a&b/base.qcow2')
  expect(text).toContain('<compat>1.1</compat>')
  expect(text).toContain('<path>/a&amp;b/base.qcow2</path><format type="qcow2"/>')
})

test('a machine is on a network, or behind a port of this host that is in its mark', () => {
  expect(domainXml(machine)).toContain('<source network="net"/>')
  expect(domainXml(machine)).not.toMatch(/hostfwd| port=/)
  const text = domainXml({ ...machine, mark: { ...mark, port: 20_022 } })
  expect(text).not.toContain('<interface')
  expect(text).toContain('hostfwd=tcp:127.0.0.1:20022-:22')
  expect(parseMarks(text)).toEqual([{ ...mark, port: 20_022 }])
  const moved = withPort(text, 20_023)
  expect(moved).toBe(text.replaceAll('20022', '20023'))
})

test('BIOS by default, and what a guest frees goes back to the host', () => {
  expect(domainXml(machine)).not.toContain('efi')
  expect(domainXml({ ...machine, firmware: 'uefi' })).toMatch(
    /<os firmware="efi">[\s\S]*enabled="no" name="secure-boot"/,
  )
  expect(domainXml(machine)).toMatch(/discard="unmap" detect_zeroes="unmap"[\s\S]*freePageReporting="on"/)
})

test("the firmware's variables are converted to qcow2 where libvirt would keep another format", () => {
  // libvirt 11.3 on Debian 13, and Fedora's firmware descriptions.
  const raw = `<os><nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd' templateFormat='raw' format='raw'>/var/x_VARS.fd</nvram></os>`
  const qcow2 = `<os><nvram template='/usr/share/edk2/ovmf/OVMF_VARS_4M.qcow2' templateFormat='qcow2' format='qcow2'>/x</nvram></os>`
  expect(nvramTemplate(raw)).toBe('/usr/share/OVMF/OVMF_VARS_4M.fd')
  expect(nvramTemplate(qcow2)).toBe(null)
  expect(nvramTemplate('<os/>')).toBe(null)
  expect(withNvram(raw, '/pool/a&b.nvram')).toBe('<os><nvram format="qcow2">/pool/a&amp;b.nvram</nvram></os>')
})
