/** The parts of the provider that need no PowerShell: answers, marks, failures, addresses, rules, paths and disks. */
import { expect, test } from 'vitest'
import { usableAddress } from '../../../providers/hyperv/addresses.ts'
import type { Context } from '../../../providers/hyperv/context.ts'
import { explain, explainRefusal } from '../../../providers/hyperv/explain.ts'
import { requireShortExport, requireShortPath } from '../../../providers/hyperv/folders.ts'
import { holeIn, isolationIn, rulesFor, textOf } from '../../../providers/hyperv/isolation.ts'
import { parseMark } from '../../../providers/hyperv/marks.ts'
import { choosePlace, ensureNetwork, networkIn } from '../../../providers/hyperv/network.ts'
import { type Host, parseState } from '../../../providers/hyperv/parse.ts'
import { answerIn } from '../../../providers/hyperv/powershell.ts'
import { hasEfiPartition } from '../../../providers/hyperv/vhdx.ts'
import { overlap, parseRange } from '../../../providers/ipv4.ts'
import { newVmId } from '../../../src/domain.ts'
import { EFI_PARTITION, gptHead, LINUX_PARTITION } from '../../support/hyperv/vhdx-file.ts'

const VM = 'as-ab-1-0000000a'
const mark = { vmId: VM, ticket: 'AB-1', home: '0011', mac: '06:a5:0a:b1:00:0a', address: '10.177.0.10/20', made: true }
const line = (more: object = {}) => `agent-swarm ${JSON.stringify({ ...mark, ...more })}`

test('the last answer counts, whatever stands around it', () => {
  const answer = (value: string) => `<agent-swarm>${value}</agent-swarm>`
  expect(answerIn(`noise\r\n${answer('{"a":1}')}\r\nmore`)).toEqual({ a: 1 })
  expect(answerIn(`${answer('{"a":1}')}\n${answer('{"a":2}')}\n`)).toEqual({ a: 2 })
  // What a person wrote into notes is inside a string of JSON.
  expect(answerIn(answer('{"notes":"</agent-swarm>\\n<agent-swarm>{}"}'))).toEqual({
    notes: '</agent-swarm>\n<agent-swarm>{}',
  })
  for (const text of ['', 'noise', '<agent-swarm>{"a":', answer('{')]) expect(answerIn(text)).toBe(undefined)
})

test.for([
  ['a mark', line(), mark],
  ['a mark among what a person wrote', `mine\r\n${line()}\r\nmore`, mark],
  ['no notes', '', null],
  ['somebody who mentions us', 'see agent-swarm {x}', null],
  ['a mark that is cut', line().slice(0, 60), null],
  ['a mark that is too long', line({ more: 'x'.repeat(3_000) }), null],
  ['a vmId that is a path', line({ vmId: '../../x' }), null],
  ['a ticket that is none', line({ ticket: 'x; y' }), null],
  ['an address that is none', line({ address: '$(x)/20' }), null],
] as const)('notes: %s', ([, notes, expected]) => expect(parseMark(notes)).toEqual(expected))

test.for([
  ['Running', { status: 'running' }],
  ['Starting', { status: 'running' }],
  ['Off', { status: 'stopped' }],
  ['OffCritical', { status: 'stopped' }],
  ['Saved', { status: 'stopped', saved: true }],
  ['FastSaved', { status: 'stopped', saved: true }],
  ['Paused', { status: 'running', paused: 'somebody paused it', pauseCause: 'asked' }],
  [
    'PausedCritical',
    { status: 'running', paused: 'its disk cannot be written (PausedCritical)', pauseCause: 'disk-full' },
  ],
] as const)('the state %s', ([state, expected]) => expect(parseState(state)).toEqual(expected))

const error = { id: '', category: 'NotSpecified', code: '0x80004005', message: 'Es ging\r\nnicht.' }
test.for([
  ['AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM', {}, 'permission'],
  ['x', { category: 'PermissionDenied' }, 'permission'],
  ['OutOfMemory,Microsoft.HyperV.PowerShell.Commands.StartVM', {}, 'capacity'],
  ['Unspecified,Microsoft.HyperV.PowerShell.Commands.StartVM', { code: '0x80070070' }, 'disk-full'],
  ['InvalidParameter,x', { code: '0xC03A001A' }, 'usage'],
  ['CommandNotFoundException', {}, 'provider-missing'],
  ['CouldNotAutoLoadModule', {}, 'provider-missing'],
  // A text about permissions in an error of another kind.
  ['Unspecified,x', { message: 'AccessDenied, PermissionDenied, OutOfMemory' }, 'unknown'],
] as const)('the id %s with %o is %s', ([id, more, kind]) => {
  expect(explain('doing', { ...error, id, ...more }).failure.kind).toBe(kind)
})
test('an error of no known kind shows its message and its id', () => {
  expect(explain('doing', { ...error, id: 'Other' }).failure.message).toBe('doing: Es ging nicht. (Other)')
  expect(explainRefusal('deleting x', 'other-home').failure).toMatchObject({ kind: 'not-ours' })
  expect(explainRefusal('restoring x', 'ambiguous-checkpoint').failure).toMatchObject({ kind: 'refused' })
})

// ── Network ──

const host = (more: Partial<Host> = {}): Host => ({
  ...{ machines: [], version: '5.1', system: 'Windows', cpus: 8, memory: 1, free: 1 },
  switches: [{ name: 'agent-swarm', type: 'Internal' }],
  nats: ['172.30.0.0/20'],
  addresses: [{ address: '172.30.0.1', bits: 20, interface: 'vEthernet (agent-swarm)' }],
  ...more,
})

test('our own switch is a network when it has an address and NAT', () => {
  const own = { gateway: 0xac_1e_00_01, range: { base: 0xac_1e_00_00, bits: 20 } }
  expect(networkIn(host(), 'agent-swarm')).toEqual({ name: 'agent-swarm', own })
  expect(networkIn(host({ nats: [] }), 'agent-swarm')).toBe(null)
  expect(networkIn(host({ addresses: [] }), 'agent-swarm')).toBe(null)
  const automatic = [{ address: '169.254.1.2', bits: 16, interface: 'vEthernet (agent-swarm)' }]
  expect(networkIn(host({ addresses: automatic, nats: ['169.254.0.0/16'] }), 'agent-swarm')).toBe(null)
  expect(networkIn(host({ switches: [] }), 'agent-swarm')).toBe(null)
  expect(networkIn(host({ switches: [{ name: 'Default Switch', type: 'Internal' }] }), 'Default Switch')).toMatchObject(
    {
      own: null,
    },
  )
})

test.for(['External', 'Private'])('machines get no fixed address on a switch of the type %s', async type => {
  const office = host({
    switches: ['Default Switch', 'Office'].map(name => ({ name, type: name === 'Office' ? type : 'Internal' })),
    addresses: [{ address: '10.20.30.40', bits: 24, interface: 'vEthernet (Office)' }],
    nats: ['10.20.30.0/24'],
  })
  const ran: string[] = []
  for (const hypervSwitch of ['Office', 'office']) {
    const context = { settings: { hypervSwitch, hypervAllow: [] }, script: (name: string) => ran.push(name) }
    expect(networkIn(office, hypervSwitch)).toBe(null)
    await expect(ensureNetwork(context as unknown as Context, office)).rejects.toMatchObject({
      failure: {
        kind: 'not-configured',
        message: expect.stringContaining(`Office is of the type ${type}`),
        remedy: expect.stringContaining('Default Switch'),
      },
    })
    expect(isolationIn(context as unknown as Context, office)).toMatchObject({
      isolated: false,
      reason: expect.stringContaining(type),
    })
  }
  expect(ran).toEqual([])
})

test('a new machine gets the first address that no machine has', () => {
  const network = networkIn(host(), 'agent-swarm')
  if (network === null) throw new Error('no network')
  const row = { id: '', state: 'Off', path: '', cpus: 1, memory: 1, assigned: 0, addresses: [] }
  const machines = [{ ...row, name: VM, notes: line({ address: '172.30.0.10/20' }) }]
  const place = choosePlace(network, host({ machines }), new Set(['172.30.0.11']))
  expect(place).toEqual({ mac: '06:a5:ac:1e:00:0c', address: '172.30.0.12/20', gateway: '172.30.0.1' })
  const dhcp = choosePlace({ name: 'Default Switch', own: null }, host(), new Set())
  expect(dhcp).toEqual({ mac: expect.stringMatching(/^06:a6(:[0-9a-f]{2}){4}$/), address: null, gateway: null })
})

test('addresses', () => {
  expect(usableAddress(['fe80::1', '169.254.7.7', '172.30.9.9'])).toBe('172.30.9.9')
  expect(usableAddress(['fe80::1', 'x'])).toBe(null)
  const [a, b, c] = ['10.0.0.0/8', '10.1.0.0/16', '11.0.0.0/8'].map(text => parseRange(text) ?? { base: 0, bits: 0 })
  if (a === undefined || b === undefined || c === undefined) throw new Error('no ranges')
  expect([overlap(a, b), overlap(b, a), overlap(a, c)]).toEqual([true, true, false])
  expect(parseRange('10.1.2.3/16')).toBe(null)
})

// ── Isolation ──

type Packet = { direction: 'Inbound' | 'Outbound'; local: string; remote: string; protocol?: string; port?: string }
/** What the rule with the highest weight says, as the switch decides it. */
const decide = (rules: NonNullable<ReturnType<typeof rulesFor>>, packet: Packet): string => {
  const covers = (range: string, address: string) => {
    if (range.includes(':')) return address.includes(':')
    const [outer, inner] = [range.includes('/') ? range : `${range}/32`, `${address}/32`].map(parseRange)
    return outer != null && inner != null && overlap(outer, inner)
  }
  const found = rules
    .filter(
      rule =>
        rule.direction === packet.direction &&
        covers(rule.remote, packet.remote) &&
        (rule.local === undefined || rule.local === packet.local) &&
        (rule.protocol === undefined || rule.protocol === packet.protocol) &&
        (rule.remotePort === undefined || packet.port === rule.remotePort) &&
        (rule.localPort === undefined || packet.port === rule.localPort),
    )
    .sort((x, y) => y.weight - x.weight)[0]
  return found?.action ?? 'Allow'
}

const OWN = '172.30.0.10'
const out = (remote: string, more: Partial<Packet> = {}): Packet => ({
  direction: 'Outbound',
  local: OWN,
  remote,
  ...more,
})
const inward = (remote: string, more: Partial<Packet> = {}): Packet => ({
  direction: 'Inbound',
  local: OWN,
  remote,
  ...more,
})
test.for([
  ['the internet', out('93.184.216.34'), 'Allow'],
  ['the internet, with the address of another machine', out('93.184.216.34', { local: '172.30.0.11' }), 'Deny'],
  ['the metadata address', out('169.254.169.254'), 'Deny'],
  ['the gateway', out('172.30.0.1', { protocol: 'TCP', port: '3000' }), 'Deny'],
  ['another machine', out('172.30.0.11'), 'Deny'],
  ['an office', out('10.9.0.5'), 'Deny'],
  ['a range that is opened', out('10.1.2.3'), 'Allow'],
  ['an address of the host in it', out('10.1.0.7'), 'Deny'],
  ['a public address of the host', out('203.0.113.9'), 'Deny'],
  ['a private name server', out('10.5.0.53', { protocol: 'UDP', port: '53' }), 'Allow'],
  [
    'a private name server, with the address of another machine',
    out('10.5.0.53', { local: '172.30.0.11', protocol: 'UDP', port: '53' }),
    'Deny',
  ],
  ['something else there', out('10.5.0.53', { protocol: 'TCP', port: '443' }), 'Deny'],
  ['IPv6', out('fe80::1'), 'Deny'],
  ['SSH from the host', inward('172.30.0.1', { protocol: 'TCP', port: '22' }), 'Allow'],
  ['another port from the host', inward('172.30.0.1', { protocol: 'TCP', port: '5432' }), 'Deny'],
  ['another machine, inward', inward('172.30.0.11', { protocol: 'TCP', port: '22' }), 'Deny'],
  ['answers of the internet', inward('93.184.216.34'), 'Allow'],
] as const)('a machine and %s', ([, packet, expected]) => {
  const settings = { hypervAllow: ['10.1.0.0/16'], hypervNameservers: ['1.1.1.1', '10.5.0.53'] }
  const rules = rulesFor({ address: `${OWN}/20`, gateway: '172.30.0.1' }, ['10.1.0.7', '203.0.113.9'], settings)
  expect(decide(rules ?? [], packet)).toBe(expected)
  const keys = rules?.map(({ direction, weight }) => `${direction} ${weight}`) ?? []
  expect(new Set(keys).size).toBe(keys.length)
})
/** What a rule says after its range when it leaves everything else open. */
const OPEN = 'ANY ANY ANY ANY False'
test.for([
  ['all of them', (rules: string[]) => rules, null],
  // The host has an address more since, so that others have another place in their group.
  ['the same at another place', (rules: string[]) => rules.map(rule => rule.replace(' 601 ', ' 640 ')), null],
  ['none', () => [], 'runs without rules'],
  [
    'one less that closes',
    (rules: string[]) => rules.filter(rule => !rule.includes(' 169.254.0.0/16 ')),
    'lost a rule of its port, "Outbound 204 Deny 169.254.0.0/16"',
  ],
  ['one less that opens', (rules: string[]) => rules.filter(rule => !rule.includes(' 10.1.0.0/16 ')), null],
  ['one more that closes', (rules: string[]) => [...rules, `Outbound 990 Deny 8.8.8.8 ${OPEN}`], null],
  [
    'one more that opens',
    (rules: string[]) => [...rules, `Inbound 990 Allow 0.0.0.0/0 ${OPEN}`],
    'has a rule that agent-swarm did not give it, "Inbound 990 Allow 0.0.0.0/0"',
  ],
  [
    'SSH, for every port of the machine',
    (rules: string[]) => rules.map(rule => rule.replace(' TCP 22 ANY ', ' TCP ANY ANY ')),
    'has a rule that agent-swarm did not give it, "Inbound 900 Allow 172.30.0.1 TCP stateful"',
  ],
  [
    'one more that opens everything',
    (rules: string[]) => [...rules, `Inbound 990 Allow ANY ${OPEN}`],
    'has a rule that agent-swarm did not give it, "Inbound 990 Allow ANY"',
  ],
  [
    'the internet, for every address of the machine',
    (rules: string[]) => rules.map(rule => rule.replace(` Allow 0.0.0.0/0 ${OWN} `, ' Allow 0.0.0.0/0 ANY ')),
    'has a rule that agent-swarm did not give it, "Outbound 100 Allow 0.0.0.0/0"',
  ],
  [
    'one that closes a single port',
    (rules: string[]) => rules.map(rule => rule.replace('Deny 169.254.0.0/16 ANY ANY', 'Deny 169.254.0.0/16 ANY TCP')),
    'lost a rule of its port, "Outbound 204 Deny 169.254.0.0/16"',
  ],
  [
    'one that closes, below one that opens',
    (rules: string[]) => rules.map(rule => rule.replace('Outbound 1 Deny', 'Outbound 101 Deny')),
    'lost a rule of its port, "Outbound 1 Deny 0.0.0.0/0"',
  ],
] as const)('rules in force: %s', ([, edit, hole]) => {
  const settings = { hypervAllow: ['10.1.0.0/16'], hypervNameservers: ['1.1.1.1'] }
  const wanted = rulesFor({ address: `${OWN}/20`, gateway: '172.30.0.1' }, ['203.0.113.9'], settings) ?? []
  const inForce = wanted.map(textOf)
  expect(holeIn(wanted, edit(inForce))).toBe(hole)
})
test('where addresses change, there are no rules', () => {
  expect(rulesFor({ address: null, gateway: null }, [], { hypervAllow: [], hypervNameservers: [] })).toBe(null)
})

// ── Paths and disks ──

test('a home with a long path is refused before anything is made', () => {
  requireShortPath('C:\\Users\\anna\\.agent-swarm', VM)
  // What docs/hyperv.md and the remedy say, with the longest vmId.
  requireShortPath('h'.repeat(65), 'v'.repeat(63))
  expect(() => requireShortPath('h'.repeat(66), 'v'.repeat(63))).toThrow(/Hyper-V takes 259/)
  expect(() => requireShortPath(`C:\\${'x'.repeat(170)}`, VM)).toThrow(/Hyper-V takes 259/)
})

test('a home that is short enough is so for the export of a fork, too', () => {
  const longest = newVmId('ABCDEFGHIJ-1234567~99', '0000000a')
  requireShortExport('h'.repeat(65), longest, 'c'.repeat(41))
  expect(() => requireShortExport('h'.repeat(125), longest, 'c'.repeat(41))).toThrow(/Hyper-V takes 259/)
})

test('an EFI partition, in a GPT or an MBR', () => {
  expect(hasEfiPartition(gptHead(EFI_PARTITION))).toBe(true)
  expect(hasEfiPartition(gptHead(LINUX_PARTITION))).toBe(false)
  const mbr = Buffer.alloc(64 * 1024)
  mbr.writeUInt16LE(0xaa55, 510)
  expect(hasEfiPartition(mbr)).toBe(false)
  mbr[446 + 4] = 0xef
  expect(hasEfiPartition(mbr)).toBe(true)
  expect(hasEfiPartition(Buffer.alloc(64 * 1024, 255))).toBe(false)
})
