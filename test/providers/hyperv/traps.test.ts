/** Every trap of Hyper-V that is known, and the test that springs it. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const MADE = 'how a machine is made, and what it survives'
const RESTORED = 'a restore, whatever state it leaves'
const MERGES = 'merges go on after their command returned'
const STATES = 'a guest that does not shut down, a disk that is full, and a memory that is saved'
const LANGUAGE = 'messages in another language: ids, categories and codes decide'
const DEFAULT = 'without an Administrator: the Default Switch, where Hyper-V learns addresses from the guest'
const CALLS = 'names the module of each cmdlet, addresses by object, and asks nobody'

/** Name, what is true of Hyper-V, the title of the test. */
const traps: readonly (readonly [trap: string, fact: string, title: string])[] = [
  ['long script', 'a command line has 32,767 characters', 'has less than 8 KB and fits into a command line'],
  [
    'noise',
    'stderr comes as CLIXML, and programs print beside the answer',
    'the last answer counts, whatever stands around it',
  ],
  ['PSModulePath', 'one of PowerShell 7 makes 5.1 load the wrong modules', MADE],
  ['syntax of 7', '5.1 lacks &&, ??, ?:, -AsArray and more', 'no script has what PowerShell 5.1 lacks'],
  ['one element', 'a piped list of one is unwrapped', MADE],
  ['enums', 'ConvertTo-Json writes numbers for them', STATES],
  ['language', "messages are in the system's language", LANGUAGE],
  ['wildcards', '-Name takes them', CALLS],
  ['names of machines', 'are not unique', MADE],
  ['names of checkpoints', 'are not unique', RESTORED],
  ['Wait-VM and other names', "are not in Microsoft's reference", CALLS],
  ['automatic checkpoints', 'Windows 10 takes one at each start', MADE],
  ['production checkpoints', 'are the default, and hold no memory', MADE],
  ['state after a restore', 'may be Saved, Off or Running', RESTORED],
  ['notes after a restore', 'are those of the capture', RESTORED],
  ['rules after a restore', 'are those of the capture', RESTORED],
  ['Remove-VM', 'deletes no disk, and merges after it returned', MERGES],
  ['Remove-VMSnapshot', 'merges in the background', MERGES],
  ['Stop-VM -Force', 'waits five minutes for the guest', STATES],
  ['states …Critical', 'storage lost or full', STATES],
  [
    'sparse files',
    'Hyper-V refuses what NTFS holds as sparse (0xC03A001A)',
    'a disk that qemu-img wrote is not sparse when Hyper-V gets it',
  ],
  ['parent disks', 'are read-only and never move', MADE],
  ['generation 2', 'boots by UEFI alone', 'a disk without an EFI partition is refused before anything is made'],
  ['permissions', 'set after attaching, they keep the machine from starting (0x80070005)', MADE],
  ['no DHCP', 'on an internal switch: the address is in the seed', MADE],
  ['overlapping NAT', 'is refused, and others make some, too', MADE],
  ['Default Switch', 'its addresses come by DHCP', DEFAULT],
  ['KVP', 'is empty until the daemon runs, and lists 169.254 and IPv6', DEFAULT],
  ['neighbours', 'know an address after traffic alone', DEFAULT],
  ['rights', 'a refusal is known by its id', LANGUAGE],
  ['an empty list', 'may be what a user without the right gets', LANGUAGE],
  ['memory', 'OutOfMemory is an id, not a text', LANGUAGE],
  ['New-VM takes no notes', 'a crash leaves a machine without a mark', MADE],
  ['an imported copy', 'has the same mark', MADE],
  ['a renamed VM', 'keeps its mark and its disks', 'a VM that somebody renamed is neither made again nor deleted'],
  ['names of switches', 'are not unique: half of a network is in the way', DEFAULT],
  ['locks', 'cannot be opened when an Administrator holds them', 'two machines at once never have one address'],
  [
    'paths',
    '260 characters are the limit of parts of Hyper-V',
    'a home with a long path is refused before anything is made',
  ],
  ['processor seconds', 'Hyper-V counts none', STATES],
  ['two creates at once', 'would choose one address', 'two machines at once never have one address'],
  ['killed callers', 'a script outlives them', 'a create that was killed leaves nothing without an owner'],
  ['scripts that outlive', 'the next one for the machine waits', 'two machines at once never have one address'],
]

test('every trap has a test, and each of these tests exists', () => {
  const sources = readdirSync(import.meta.dirname)
    .filter(name => name.endsWith('.test.ts') && name !== 'traps.test.ts')
    .map(name => readFileSync(join(import.meta.dirname, name), 'utf8'))
    .join('\n')
  expect(new Set(traps.map(([name]) => name)).size).toBe(traps.length)
  expect(traps.filter(([, , title]) => !sources.includes(title)).map(([name]) => name)).toEqual([])
})
