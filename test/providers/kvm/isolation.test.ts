/** Isolation of machines on kvm, with a virsh that answers as libvirt does. The packets are in test/kvm/isolation.test.ts. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { is } from 'valibot'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hypervSettings } from '../../../providers/hyperv/settings.ts'
import { addressText, covers, parseAddress, parseRange, rangeText } from '../../../providers/ipv4.ts'
import { ephemeralPorts, localAddresses, parseLocalAddresses } from '../../../providers/kvm/addresses.ts'
import { filterName, filterXml, isFilterOf } from '../../../providers/kvm/filter.ts'
import { withSessionNet } from '../../../providers/kvm/libvirt-xml.ts'
import { parseNetwork } from '../../../providers/kvm/network.ts'
import { kvmSettings } from '../../../providers/kvm/settings.ts'
import { tartSettings } from '../../../providers/tart/settings.ts'
import {
  ABSENT,
  type Answer,
  failureOf,
  fakeKvm,
  HOME_ID,
  isolated,
  MAC,
  mark,
  network,
  noFilter,
  options,
  pool,
  RUNNING,
  STOPPED,
  state,
  VM,
  version,
} from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-isolation-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const IP = '192.168.177.10'
const FILTER = filterName(HOME_ID)
const surroundings = (allowed: string[] = [], own: string[] = []) => ({
  gateway: parseAddress('192.168.177.1') ?? 0,
  subnet: { base: parseAddress('192.168.177.0') ?? 0, bits: 24 },
  own: own.flatMap(text => parseRange(text) ?? []),
  allowed: allowed.flatMap(text => parseRange(text) ?? []),
  ephemeral: { from: 32_768, to: 60_999 },
})
const current = filterXml(FILTER, { ...surroundings(), own: localAddresses(), ephemeral: ephemeralPorts() }, 'salt')
const filter: Answer = { to: 'nwfilter-dumpxml', stdout: current.replaceAll('"', "'") }
const MARK = mark({ mac: MAC, ip: IP })
const OLD_MARK = mark({ mac: MAC })
const NETWORK = network([{ mac: MAC, name: VM, ip: IP }])
const ground: Answer[] = [NETWORK, filter, version('9.0.0')]
/** libvirt cannot bind the filter. */
const UNBINDABLE = {
  to: 'update-device',
  stderr: "error: operation failed: failed to add new filter rules to 'vnet6' - attempting to restore old rules",
}
const definition = (text: string): Answer => ({ to: ' dumpxml', stdout: text })

// ── Addresses and rules ──

test.for([
  ['10.1.0.0/16', true],
  ['10.1.2.3/32', true],
  ['10.0.0.0/8', true],
  ['10.1.2.3/16', false],
  ['0.0.0.0/0', false],
  ['10.1.0.0', false],
  ['10.1.0.0/33', false],
  ['256.1.0.0/16', false],
  ['fd00::/8', false],
  ["10.1.0.0/16'/><rule", false],
] as const)('%s is a range that can be opened: %s', ([text, expected]) => {
  for (const { form } of [kvmSettings.kvmAllow, tartSettings.tartAllow, hypervSettings.hypervAllow])
    expect(is(form, [text])).toBe(expected)
})

test('what the kernel delivers to the host: addresses of every interface, and broadcasts', () => {
  const trie = `Local:
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.0
              /8 host LOCAL
     +-- 192.0.2.0/24 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
`
  const expected = ['127.0.0.0/8', '192.0.2.2/32', '192.0.2.255/32']
  expect(parseLocalAddresses(trie + trie).map(rangeText)).toEqual(expected)
})

/** What the rules for packets from the guest do, as ebtables: the first that matches. */
const verdict = (text: string, to: string): string => {
  const target = parseAddress(to) ?? 0
  const rules = [...text.matchAll(/action="(\w+)" direction="out"[^>]*><ip ?([^>]*)\/>/g)]
  for (const [, action = '', match = ''] of rules) {
    if (/protocol=|match="no"/.test(match)) continue
    const [, base, bits = '32'] = match.match(/dstipaddr="([\d.]+)"(?: dstipmask="(\d+)")?/) ?? []
    const range = base === undefined ? { base: 0, bits: 0 } : { base: parseAddress(base) ?? 0, bits: Number(bits) }
    if (covers(range, { base: target, bits: 32 })) return action
  }
  return 'none'
}

test.for<[string, string, string[], string]>([
  ['the internet', '203.0.113.9', [], 'accept'],
  ['a public address of the host', '198.51.100.2', [], 'drop'],
  ['the gateway, apart from its own rules', '192.168.177.1', [], 'drop'],
  ['a neighbour', '192.168.177.9', [], 'drop'],
  ['a neighbour, when the range around it is open', '192.168.177.9', ['192.168.0.0/16'], 'drop'],
  ['the office', '10.99.0.5', [], 'drop'],
  ['the office, when it is open', '10.99.0.5', ['10.99.0.0/24'], 'accept'],
  ['an address of the host in an open range', '10.99.0.1', ['10.99.0.0/24'], 'drop'],
  ['the metadata address', '169.254.169.254', [], 'drop'],
  ['shared address space', '100.100.0.1', [], 'drop'],
  ['loopback', '127.0.0.1', [], 'drop'],
  ['loopback, when it is open', '127.0.0.1', ['127.0.0.0/8'], 'drop'],
  ['multicast', '224.0.0.251', [], 'drop'],
  ['broadcast', '255.255.255.255', [], 'drop'],
])('%s (%s, open: %j): %s', ([, to, allowed, expected]) => {
  const own = ['127.0.0.0/8', '10.99.0.1/32', '192.168.177.1/32', '198.51.100.2/32']
  expect(verdict(filterXml(FILTER, surroundings(allowed, own), 'x'), to)).toBe(expected)
})

test('an address of the host that is closed anyway needs no rule', () => {
  const rules = (own: string[]) => filterXml(FILTER, surroundings([], own), 'x').split('<rule').length
  expect(rules(['10.99.0.1/32', '127.0.0.0/8', '192.168.177.1/32'])).toBe(rules([]))
  expect(rules(['198.51.100.2/32'])).toBe(rules([]) + 1)
})

test("a filter is known by what it was made of, in libvirt's form too; another salt is the same filter with the same uuid", () => {
  const text = filterXml(FILTER, surroundings(), 'a')
  const uuid = (xml: string) => xml.match(/<uuid>(.*)<\/uuid>/)?.[1]
  expect(uuid(text)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/)
  expect(uuid(filterXml(FILTER, surroundings(), 'b'))).toBe(uuid(text))
  expect(isFilterOf(text.replaceAll('"', "'"), FILTER, surroundings())).toBe(true)
  expect(isFilterOf(text, FILTER, surroundings(['10.0.0.0/8']))).toBe(false)
  expect(isFilterOf('', FILTER, surroundings())).toBe(false)
})

test('a network is ours by the name of its bridge', () => {
  const text = NETWORK.stdout ?? ''
  const parsed = parseNetwork(text)
  expect(parsed).toMatchObject({ hosts: [{ mac: MAC, name: VM, ip: IP }], subnet: { bits: 24 } })
  expect(addressText(parsed?.gateway ?? 0)).toBe('192.168.177.1')
  expect(parseNetwork(text.replace(/as[0-9a-f]{6}/, 'virbr0'))).toBe(null)
  expect(parseNetwork(text.replace("mode='nat'", "mode='bridge'"))).toBe(null)
  expect(parseNetwork('error: Network not found')).toBe(null)
})

// ── Create, start, restore ──

test('a machine is created with the filter, an isolated port and an address that the network keeps for its MAC', async () => {
  const answers = [
    ABSENT,
    network(),
    noFilter,
    version('9.0.0'),
    pool(9_000),
    { to: 'net-info', stdout: 'Active: yes' },
  ]
  const { provider, calls, files } = fakeKvm(answers, { home })
  await provider.createVm('A-1', 'base', options)
  const text = files.find(file => file.startsWith('<domain')) ?? ''
  const [, mac, ip] = text.match(/mac="(52:54:00:[^"]*)" ip="(192\.168\.177\.\d+)"/) ?? []
  expect(text).toContain(
    `<filterref filter="${FILTER}"><parameter name="IP" value="${ip}"/></filterref><port isolated="yes"/></interface>`,
  )
  const order = calls.join('\n')
  expect(order).toContain(
    `net-update net add-last ip-dhcp-host <host mac="${mac}" name="${VM}" ip="${ip}"/> --live --config`,
  )
  // The filter exists before the machine that has it.
  expect(order.indexOf('nwfilter-define')).toBeLessThan(order.indexOf('; define '))
  expect(files.find(file => file.startsWith('<filter'))).toContain(`name="${FILTER}"`)
})

test('an address that another process took meanwhile is not taken', async () => {
  const answers: Answer[] = [OLD_MARK, STOPPED, network(), filter, { to: 'net-info', stdout: 'Active: yes' }]
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    const ip = text.match(/net-update .* ip="([\d.]+)"/)?.[1]
    if (ip === undefined) return
    // The first address is gone, and the second is kept.
    const isFirst = answers.length === 5
    if (isFirst) answers[2] = network([{ mac: '52:54:00:00:00:0b', name: 'as-b-1-0000000b', ip }])
    answers[5] = isFirst ? { to: 'net-update', stderr: 'error: eine Adresse ist vergeben' } : { to: 'net-update' }
  })
  await provider.startVm(VM)
  const asked = calls.flatMap(call => call.match(/net-update .* ip="([\d.]+)"/)?.[1] ?? [])
  expect(new Set(asked).size).toBe(2)
  expect(calls.at(-1)).toContain(`start ${VM}`)
})

test('a network that cannot keep an address is an error, and the machine does not start', async () => {
  const broken = { to: 'net-update', stderr: 'error: internal error: something unforeseen' }
  const answers = [OLD_MARK, STOPPED, network(), filter, { to: 'net-info', stdout: 'Active: yes' }, broken]
  const { provider, calls } = fakeKvm(answers, { home })
  expect((await failureOf(provider.startVm(VM))).message).toContain('something unforeseen')
  expect(calls.join()).not.toContain(`start ${VM}`)
})

const ACTIVE = { to: 'net-info', stdout: 'Active: yes' }

test('a machine of an earlier version is isolated before its start, and keeps the address that it had', async () => {
  const lease = { to: 'net-dhcp-leases', stdout: ` 2026-11-28 20:29:06   ${MAC}   ipv4   192.168.177.77/24   x   -` }
  const answers = [OLD_MARK, STOPPED, network(), filter, ACTIVE, lease, definition('<domain/>')]
  const { provider, calls, files } = fakeKvm(answers, { home })
  await provider.startVm(VM)
  expect(calls.map(call => call.match(/net-update|update-device|--set|start/)?.[0]).filter(Boolean)).toEqual([
    'net-update',
    'update-device',
    '--set',
    'start',
  ])
  expect(calls.join()).toMatch(/ip="192\.168\.177\.77"\/> --live --config/)
  expect(files.join()).toContain('<parameter name="IP" value="192.168.177.77"/>')
})

test('a machine that is isolated starts with no more commands than before', async () => {
  const answers = [MARK, STOPPED, ...ground, ACTIVE, definition(isolated(FILTER, IP))]
  const { provider, calls } = fakeKvm(answers, { home })
  await provider.startVm(VM)
  expect(calls).toHaveLength(2)
  expect(calls[1]).toMatch(/start as-a-1-0000000a$/)
})

test('a memory that was saved when the host shut down does not run before it is isolated', async () => {
  const saved = { to: 'dominfo', stdout: 'Managed save:   yes' }
  const answers = [MARK, STOPPED, ...ground, ACTIVE, definition(isolated(FILTER, IP)), saved]
  const { provider, calls } = fakeKvm(answers, { home })
  await provider.startVm(VM)
  expect(calls.slice(1).map(call => call.replace(/\S+\/file/, 'FILE').replace(/^.*--quiet /, ''))).toEqual([
    `start ${VM} --paused`,
    `update-device ${VM} FILE --live --config`,
    `resume ${VM}`,
    `domtime ${VM} --now; metadata ${VM} urn:agent-swarm:1; domstats ${VM} --state --nowait`,
  ])
})

test('one whose start died before it went on is interrupted, and not paused by a person', async () => {
  const saved = { to: 'dominfo', stdout: 'Managed save:   yes' }
  const dead = { to: `resume ${VM}`, stderr: 'error: Disconnected from qemu:///system due to end of file' }
  const answers = [MARK, STOPPED, ...ground, ACTIVE, definition(isolated(FILTER, IP)), saved, dead]
  await failureOf(fakeKvm(answers, { home }).provider.startVm(VM))
  const causes = async (folder: string) =>
    (await fakeKvm([MARK, state(3, VM, 2), ...ground], { home: folder }).provider.listVms()).map(vm => vm.pauseCause)
  expect(await causes(home)).toEqual(['interrupted'])
  expect(await causes(join(home, 'another'))).toEqual(['asked'])
})

test('a paused machine goes on when it is isolated: an interrupted restore may have left it without', async () => {
  const { provider, calls } = fakeKvm([OLD_MARK, state(3), ...ground, ACTIVE], { home })
  await provider.startVm(VM)
  const order = calls.map(call => call.match(/update-device|resume/)?.[0]).filter(Boolean)
  expect(order).toEqual(['update-device', 'resume'])
})

test('one that cannot be isolated stays paused', async () => {
  const { provider, calls } = fakeKvm([OLD_MARK, state(3), ...ground, ACTIVE, UNBINDABLE], { home })
  expect((await failureOf(provider.startVm(VM))).message).toContain(`isolating ${VM}`)
  expect(calls.join('\n')).not.toContain('resume')
})

test('a paused machine is isolated before a stop lets it shut down', async () => {
  const answers: Answer[] = [state(3), OLD_MARK, ...ground]
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    if (text.includes(`resume ${VM}`)) answers[0] = RUNNING
    if (text.includes(`shutdown ${VM}`)) answers[0] = STOPPED
  })
  await provider.stopVm(VM)
  const order = calls.map(call => call.match(/update-device|resume|shutdown|destroy/)?.[0]).filter(Boolean)
  expect(order).toEqual(['update-device', 'resume', 'shutdown'])
})

test('one that cannot be isolated is powered off by a stop, and never runs', async () => {
  const answers: Answer[] = [state(3), OLD_MARK, ...ground, UNBINDABLE]
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    if (text.includes(`destroy ${VM}`)) answers[0] = STOPPED
  })
  await provider.stopVm(VM)
  expect(calls.join('\n')).not.toContain('resume')
  expect(calls.join('\n')).toContain(`destroy ${VM}`)
})

const snapshot = (of: string): Answer => ({ to: 'snapshot-info', stdout: `Name:  one\nState:          ${of}` })

test('a checkpoint is restored paused, and runs when it is isolated', async () => {
  const { provider, calls } = fakeKvm([MARK, RUNNING, ...ground, ACTIVE, snapshot('running')], { home })
  await provider.restore(VM, 'one')
  expect(calls.slice(2, 5).map(call => call.replace(/\S+\/file/, 'FILE').replace(/^.*--quiet /, ''))).toEqual([
    `snapshot-revert ${VM} --snapshotname=one --paused`,
    `update-device ${VM} FILE --live --config`,
    `resume ${VM}`,
  ])
})

test.for([
  ['paused', /--paused/, false],
  ['shutoff', /--snapshotname=one$/m, false],
] as const)('a checkpoint of a machine that was %s leaves it so', async ([of, revert]) => {
  const { provider, calls } = fakeKvm([MARK, STOPPED, ...ground, ACTIVE, snapshot(of)], { home })
  await provider.restore(VM, 'one')
  expect(calls.join('\n')).toMatch(revert)
  expect(calls.join('\n')).not.toContain(`resume ${VM}`)
})

test('a machine that cannot be isolated after a restore is powered off, and never runs', async () => {
  const answers = [MARK, RUNNING, ...ground, ACTIVE, snapshot('running'), UNBINDABLE]
  const { provider, calls } = fakeKvm(answers, { home })
  expect((await failureOf(provider.restore(VM, 'one'))).message).toContain(`isolating ${VM}`)
  const changes = calls.flatMap(text => text.match(/update-device|resume|destroy/g) ?? [])
  expect(changes).toEqual(['update-device', 'destroy'])
})

test('a checkpoint without the mark of isolation gets it', async () => {
  const answers: Answer[] = [RUNNING, MARK, ...ground, ACTIVE, snapshot('running')]
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    if (text.includes('snapshot-revert')) answers[1] = OLD_MARK
  })
  await provider.restore(VM, 'one')
  expect(calls.at(-1)).toContain(`ip="${IP}"`)
})

test('a deleted machine gives its address back', async () => {
  const { provider, calls } = fakeKvm([MARK, STOPPED], { home })
  await provider.deleteVm(VM)
  expect(calls.join('\n')).toContain(`net-update net delete ip-dhcp-host '<host name="${VM}"/>' --live`)
})

test("in a session, the setting decides about the network, also of a machine's checkpoints", async () => {
  const open = "<qemu:arg value='user,id=reach,hostfwd=tcp:127.0.0.1:20022-:22'/>"
  const closed = "<qemu:arg value='user,id=reach,restrict=on,hostfwd=tcp:127.0.0.1:20022-:22'/>"
  expect([withSessionNet(open, true), withSessionNet(closed, true), withSessionNet(closed, false)]).toEqual([
    closed,
    closed,
    open,
  ])
  const settings = { kvmUri: 'qemu:///session', kvmSessionNet: 'closed' } as const
  const answers = [
    mark({ port: '20022' }),
    STOPPED,
    definition(open),
    { to: 'snapshot-dumpxml', stdout: open },
    snapshot('running'),
  ]
  const { provider, calls, files } = fakeKvm(answers, { home, settings })
  await provider.startVm(VM)
  await provider.restore(VM, 'one')
  expect(files.map(text => text.trim())).toEqual([closed, closed])
  expect(calls.join('\n')).toMatch(/define[\s\S]*start[\s\S]*--redefine[\s\S]*snapshot-revert/)
  expect(calls.join('\n')).not.toMatch(/nwfilter|net-update|net-dumpxml/)
})

// ── Looks ──

test('a running machine of an earlier version is isolated at a look, once', async () => {
  const { provider, calls } = fakeKvm([OLD_MARK, RUNNING, ...ground], { home })
  await provider.listVms()
  expect(calls.slice(3).map(call => call.match(/update-device|--set/)?.[0])).toEqual(['update-device', '--set'])
  const next = fakeKvm([MARK, RUNNING, ...ground], { home })
  await next.provider.listVms()
  expect(next.calls).toHaveLength(3)
})

test('a filter that is not the present one is written at a look; without a running machine nothing is', async () => {
  const { provider, calls } = fakeKvm([MARK, RUNNING, NETWORK, noFilter], { home })
  await provider.listVms()
  expect(calls.at(-1)).toContain('nwfilter-define')
  const stopped = fakeKvm([MARK, STOPPED, NETWORK, noFilter], { home })
  await stopped.provider.listVms()
  expect(stopped.calls).toHaveLength(3)
})

test('a network that agent-swarm did not make is left alone', async () => {
  const foreign = { ...NETWORK, stdout: NETWORK.stdout?.replace(/as[0-9a-f]{6}/, 'virbr0') ?? '' }
  const answers = [OLD_MARK, RUNNING, foreign, noFilter, version('9.0.0'), ACTIVE, snapshot('running')]
  const { provider, calls } = fakeKvm(answers, { home })
  await provider.listVms()
  await provider.startVm(VM)
  await provider.restore(VM, 'one')
  expect(calls.join('\n')).not.toMatch(/nwfilter-define|net-update|update-device|--paused/)
})

// ── What is told ──

const noDriver = {
  to: 'nwfilter-dumpxml',
  stderr: 'error: this function is not supported by the connection driver: virNWFilterLookupByName',
}
const noDaemon = {
  to: 'nwfilter-dumpxml',
  stderr: "error: Failed to connect socket to '/var/run/libvirt/virtnwfilterd-sock': No such file or directory",
}
const foreign = { ...NETWORK, stdout: NETWORK.stdout?.replace(/as[0-9a-f]{6}/, 'virbr0') ?? '' }

test.for<[string, Answer[], RegExp, RegExp]>([
  ['an old libvirt', [NETWORK, filter, version('6.0.0')], /needs libvirt 6\.1 or newer, and this is 6\.0\.0/, /newer/],
  ['no driver for filters', [NETWORK, noDriver, version('9.0.0')], /nwfilter/, /nwfilter/],
  ['no daemon for filters', [NETWORK, noDaemon, version('9.0.0')], /nwfilter/, /nwfilter/],
  [
    'a network of somebody else',
    [foreign, noFilter, version('9.0.0')],
    /did not make the network net/,
    /AGENT_SWARM_KVM_NETWORK/,
  ],
  [
    'a running machine without it',
    [OLD_MARK, RUNNING, ...ground],
    /as-a-1-0000000a began without it/,
    /agent-swarm list/,
  ],
])('%s: not isolated, with what to do', async ([, answers, reason, remedy]) => {
  const { provider, calls } = fakeKvm(answers, { home })
  const report = await provider.isolated?.()
  expect(report).toEqual({
    isolated: false,
    reason: expect.stringMatching(reason),
    remedy: expect.stringMatching(remedy),
  })
  expect(calls.join('\n')).not.toMatch(/define|update/)
})

test('a session is not isolated, unless its network is closed', async () => {
  const session = { kvmUri: 'qemu:///session' }
  expect(await fakeKvm([], { home, settings: session }).provider.isolated?.()).toMatchObject({
    isolated: false,
    remedy: expect.stringContaining('AGENT_SWARM_KVM_SESSION_NET=closed'),
  })
  const closed = fakeKvm([], { home, settings: { ...session, kvmSessionNet: 'closed' } })
  expect(await closed.provider.isolated?.()).toMatchObject({ isolated: true })
})

test('isolated: it is told how to open a range, and which ones are open', async () => {
  expect(await fakeKvm([MARK, state(5), ...ground], { home }).provider.isolated?.()).toEqual({
    isolated: true,
    note: expect.stringMatching(/private networks are closed.*AGENT_SWARM_KVM_ALLOW=/),
  })
  const settings = { kvmAllow: ['10.1.0.0/16'] }
  expect(await fakeKvm([MARK, state(5), ...ground], { home, settings }).provider.isolated?.()).toMatchObject({
    note: expect.stringContaining('of private networks, 10.1.0.0/16'),
  })
})

test('isolated, with a running machine that does not answer: that the rules are there is not claimed', async () => {
  const report = (machine: Answer) => fakeKvm([MARK, machine, ...ground], { home }).provider.isolated?.()
  const unknown = expect.stringContaining('is unknown: no running machine answered')
  expect(await report(RUNNING)).toEqual({ isolated: true, note: unknown })
  expect(await report(STOPPED)).toEqual({ isolated: true, note: expect.not.stringContaining('unknown') })
})
