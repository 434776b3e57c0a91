/** What the programs of a Mac print, hostile text included. */
import { expect, test } from 'vitest'
import { explainTart } from '../../../providers/tart/explain.ts'
import { decimalGb } from '../../../providers/tart/machines.ts'
import {
  isIpv4,
  parseAvailableMemory,
  parseConfig,
  parseHost,
  parseLeaseFile,
  parseList,
  parseRunProcesses,
} from '../../../providers/tart/parse.ts'

test('a list', () => {
  const row = { Source: 'local', Name: 'x', Disk: 50, Size: 0, Accessed: '2026-11-28T09:00:00Z', Running: true }
  expect(parseList(JSON.stringify([{ ...row, State: 'running' }]))).toEqual([{ name: 'x', state: 'running' }])
  expect(parseList(JSON.stringify([{ ...row, State: 'suspended' }]))).toEqual([{ name: 'x', state: 'suspended' }])
  expect(parseList(JSON.stringify([{ ...row, State: 'paused' }]))).toEqual([{ name: 'x', state: 'stopped' }])
  expect(parseList('[\n\n]\n')).toEqual([])
})
test.for(['', 'null', '{}', '[1]', '[{"Name":1,"State":"running"}]', 'Source Name', '[{"Name":"x"'])(
  '%j is not a list',
  text => expect(parseList(text)).toBeNull(),
)

test('a configuration', () => {
  const config = { cpuCount: 4, memorySize: 4_294_967_296, macAddress: '02:0A:00:0b:00:0c', os: 'linux' }
  expect(parseConfig(JSON.stringify(config))).toEqual({ cpus: 4, memoryBytes: 4_294_967_296, mac: '2:a:0:b:0:c' })
  for (const wrong of [{ cpuCount: 0 }, { memorySize: '1' }, { macAddress: 'x' }, { macAddress: null }])
    expect(parseConfig(JSON.stringify({ ...config, ...wrong }))).toBeNull()
  expect(parseConfig('{')).toBeNull()
})

const lease = (mac: string, ip: string, end: string, more = '') =>
  `{\n\tname=x\n\tip_address=${ip}\n\thw_address=${mac}\n\tidentifier=${mac}\n\tlease=${end}\n${more}}\n`
test.for<[string, string, [string, string][]]>([
  ['one', lease('1,2:a:0:b:0:c', '192.168.64.3', '0x20'), [['2:a:0:b:0:c', '192.168.64.3']]],
  ['with leading zeros', lease('1,02:0a:00:0b:00:0c', '192.168.64.3', '0x20'), [['2:a:0:b:0:c', '192.168.64.3']]],
  [
    'the one that ends last',
    lease('1,2:0:0:0:0:1', '192.168.64.4', '0x40') + lease('1,2:0:0:0:0:1', '192.168.64.3', '0x30'),
    [['2:0:0:0:0:1', '192.168.64.4']],
  ],
  ['one that has ended', lease('1,2:0:0:0:0:1', '192.168.64.3', '0xf'), []],
  ['a client id that hides the MAC', lease('ff,f1:f5:dd:7f:0:2', '192.168.64.3', '0x20'), []],
  ['an address that is not one', lease('1,2:0:0:0:0:1', '192.168.64.300', '0x20'), []],
  ['a file that is being written', lease('1,2:0:0:0:0:1', '192.168.64.3', '0x20').slice(0, 40), []],
  ['nothing', '', []],
])('leases: %s', ([, text, expected]) => expect([...parseLeaseFile(text, 0x10)]).toEqual(expected))

test.for<[string, boolean]>([
  ['192.168.64.3', true],
  ['255.255.255.255', true],
  ['256.1.1.1', false],
  ['1.2.3', false],
  ['1.2.3.4.5', false],
  ['1.2.3.4 -oProxyCommand=x', false],
  ['-1.2.3.4', false],
  ['', false],
])('an address: %j %s', ([text, expected]) => expect(isIpv4(text)).toBe(expected))

test('what a Mac has', () => {
  expect(parseHost('10\n34359738368\n')).toEqual({ cpus: 10, memoryBytes: 34_359_738_368 })
  expect(parseHost('sysctl: unknown oid')).toBeNull()
  const text = `Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               100.
Pages active:                             900.
Pages inactive:                            20.
Pages speculative:                          3.
`
  expect(parseAvailableMemory(text)).toBe(123 * 16_384)
  expect(parseAvailableMemory(text.replace('Pages free', 'Freie Seiten'))).toBeNull()
})

const machine = { vmId: 'as-drop-1-0000000a', home: '00112233445566ff' }
test.for<[string, number[]]>([
  ['  71 /opt/homebrew/bin/tart run as-drop-1-0000000a.none.00112233445566ff --disk /a b/seed.iso:ro', [71]],
  ['71 tart run as-drop-1-0000000a.DROP-1.00112233445566ff --no-audio --disk /a b/seed.iso:ro', [71]],
  ['71 /x/tart.app/Contents/MacOS/tart run as-drop-1-0000000a.DROP-1.00112233445566ff --disk /a b/seed.iso:ro', [71]],
  ['71 tart run as-drop-1-0000000a.DROP-1.00112233445566ff --disk /link/to/a b/seed.iso:ro', [71]],
  ['71 tart run as-drop-1-0000000a.DROP-1.00112233445566ff --no-audio', [71]],
  ['71 tart run as-drop-1-0000000a.running.0001.one.00112233445566ff --no-audio', []],
  ['71 tart run as-drop-1-0000000a.DROP-1.ffff000011112222 --disk /a b/seed.iso:ro', []],
  ['71 tart run as-drop-1-0000000ab.DROP-1.00112233445566ff --disk /a b/seed.iso:ro', []],
  ['71 tart stop as-drop-1-0000000a.DROP-1.00112233445566ff', []],
  ['71 vi tart run as-drop-1-0000000a.DROP-1.00112233445566ff --disk /a b/seed.iso:ro', []],
  ['71 start run as-drop-1-0000000a.DROP-1.00112233445566ff --disk /a b/seed.iso:ro', []],
])('the process of a machine: %s', ([line, expected]) =>
  expect(parseRunProcesses(`1 launchd\n${line}\n`, machine)).toEqual(expected),
)

test.for<[number, number]>([
  [1, 2],
  [4, 5],
  [20, 22],
  [100, 108],
  [0, 0],
])('%s GiB are %s of the gigabytes of Tart', ([gibibytes, expected]) => expect(decimalGb(gibibytes)).toBe(expected))

test.for<[string, string]>([
  ['Error: the specified VM "x" does not exist', 'no-such-vm'],
  ['the specified VM "x" does not exist', 'no-such-vm'],
  ['VM "x" is not running', 'not-running'],
  ['VM "x" is already running!', 'already-running'],
  ['VM "x" is running', 'busy'],
  ['Error: failed to rename VM a, target VM b already exists, delete it first!\nUsage: tart rename', 'already-exists'],
  ['no IP address found, is your VM running?', 'no-address-yet'],
  ['Error: Truncated(name: "truncated DHCPD leases file")', 'no-address-yet'],
  ['new disk size of 5 GB should be larger than the current disk size of 10 GB', 'usage'],
  ['disk /x.iso seems to be already in use, unmount it first in Finder', 'busy'],
  ['The number of VMs exceeds the system limit (other running VMs: a, b)', 'capacity'],
  ['SecKeyCreateRandomKey_ios failed: x', 'permission'],
  ['Keychain returned unsuccessful status -25308', 'permission'],
  ["Error: Unknown option '--x'\nUsage: tart run", 'unsupported'],
  ['sh: 1: tart: not found', 'provider-missing'],
  ['Error: Die Datei konnte nicht geöffnet werden.', 'unknown'],
])('%s: %s', ([text, expected]) => expect(explainTart('starting x', text).failure.kind).toBe(expected))
