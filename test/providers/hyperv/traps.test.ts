/** Every trap of Hyper-V that is known, and the test that springs it. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { titlesIn } from '../../support/titles.ts'

/** Name, what is true of Hyper-V, and a part of the title of the test that springs it. */
const traps: readonly (readonly [trap: string, fact: string, title: string])[] = [
  ['long script', 'a command line has 32,767 characters', 'has less than 8 KB and fits into a command line'],
  [
    'noise',
    'stderr comes as CLIXML, and programs print beside the answer',
    'the last answer counts, whatever stands around it',
  ],
  ['PSModulePath', 'one of PowerShell 7 makes 5.1 load the wrong modules', 'nothing of PowerShell 7 is passed on'],
  ['syntax of 7', '5.1 lacks &&, ??, ?:, -AsArray and more', 'no script has what PowerShell 5.1 lacks'],
  ['one element', 'a piped list of one is unwrapped', 'a list of one machine is a list'],
  ['enums', 'ConvertTo-Json writes numbers for them', 'a state is a word and not the number of its enum'],
  ['language', "messages are in the system's language", 'the id %s with %o is %s'],
  ['wildcards', '-Name takes them', 'addresses by object'],
  ['names of machines', 'are not unique', "somebody else's machine of the same name"],
  ['names of checkpoints', 'are not unique', 'of two checkpoints with one name none is restored'],
  ['Wait-VM and other names', "are not in Microsoft's reference", "%s has no name that Microsoft's reference lacks"],
  ['automatic checkpoints', 'Windows 10 takes one at each start', 'Windows takes no checkpoint of it by itself'],
  [
    'production checkpoints',
    'are the default, and hold no memory',
    'its checkpoints are of the kind that holds memory',
  ],
  ['state after a restore', 'may be Saved, Off or Running', 'a restore goes on from whatever state it leaves'],
  ['notes after a restore', 'are those of the capture', 'a restored machine keeps its present mark'],
  ['rules after a restore', 'are those of the capture', 'a restored machine has its rules'],
  ['rules one by one', 'a port is open while its rules are written anew', 'two rules close the port until all of them'],
  ['Remove-VM', 'deletes no disk, and merges after it returned', 'a machine is deleted when the disks'],
  ['Remove-VMSnapshot', 'merges in the background', 'a checkpoint is deleted when its disk is merged'],
  [
    'Stop-VM -Force',
    'waits five minutes for the guest',
    'a guest that does not shut down is turned off after its time',
  ],
  ['states …Critical', 'storage lost or full', 'a disk that is full pauses a machine'],
  [
    'sparse files',
    'Hyper-V refuses what NTFS holds as sparse (0xC03A001A)',
    'a disk that qemu-img wrote is not sparse when Hyper-V gets it',
  ],
  ['parent disks', 'are read-only and never move', 'the image below its disk is read-only'],
  ['generation 2', 'boots by UEFI alone', 'a disk without an EFI partition is refused before anything is made'],
  [
    'permissions',
    'set after attaching, they keep the machine from starting (0x80070005)',
    'are set before they are attached',
  ],
  ['no DHCP', 'on an internal switch: the address is in the seed', 'its address is in its seed'],
  ['overlapping NAT', 'is refused, and others make some, too', 'a range that no other one overlaps'],
  ['Default Switch', 'its addresses come by DHCP', 'a machine gets the Default Switch and its address by DHCP'],
  [
    'KVP',
    'is empty until the daemon runs, and lists 169.254 and IPv6',
    'the address that the guest reports counts more',
  ],
  ['neighbours', 'know an address after traffic alone', 'that of the neighbour with its MAC'],
  ['rights', 'a refusal is known by its id', 'a refusal in German names the group to join'],
  ['an empty list', 'may be what a user without the right gets', 'where a user without the right gets an empty list'],
  ['memory', 'OutOfMemory is an id, not a text', 'for which the memory does not suffice'],
  ['New-VM takes no notes', 'a crash leaves a machine without a mark', 'that a crash left without a mark'],
  ['an imported copy', 'has the same mark', 'an imported copy has its mark, too'],
  ['a renamed VM', 'keeps its mark and its disks', 'a VM that somebody renamed is neither made again nor deleted'],
  ['names of switches', 'are not unique: half of a network is in the way', 'half of a network is not left'],
  [
    'locks',
    'cannot be opened when an Administrator holds them',
    'a script that does not get its lock in time does nothing',
  ],
  [
    'paths',
    '260 characters are the limit of parts of Hyper-V',
    'a home with a long path is refused before anything is made',
  ],
  ['processor seconds', 'Hyper-V counts none', 'has no processor seconds'],
  ['two creates at once', 'would choose one address', 'two machines made at once never have one address'],
  [
    'half a recovery',
    'its VM has the disk, and Remove-VM deletes no disk',
    'a recovery that ended in the middle leaves the machine absent',
  ],
  ['killed callers', 'a script outlives them', 'a create that was killed leaves nothing without an owner'],
  ['attached disks', 'Convert-VHD takes none', 'the disk of a machine that runs is never converted itself'],
  ['an export', 'has one merged disk, or a chain', 'a fork stands on no other disk, whether an export is merged'],
  ['several disks', 'are all in an export', 'a machine with another disk is not forked'],
  ['half a fork', 'its checkpoint grows beside the disk', 'the checkpoint of a fork that died is not listed'],
  [
    'killed forks',
    'Hyper-V goes on with the export',
    'a fork that was killed leaves no machine, no disk and no checkpoint',
  ],
  [
    'machines that go',
    'a list and the next cmdlet are two looks',
    'a survey leaves out a machine that is deleted meanwhile',
  ],
  [
    'scripts that outlive',
    'the next one for the machine waits',
    'the next script for a machine waits for one that is still at work',
  ],
]

test('every trap has a test that there is, and that is its own', () => {
  const sources = readdirSync(import.meta.dirname)
    .filter(name => name.endsWith('.test.ts') && name !== 'traps.test.ts')
    .map(name => readFileSync(join(import.meta.dirname, name), 'utf8'))
  const titles = traps.map(([trap, , part]) => {
    const found = sources.flatMap(source => titlesIn(source, part))
    expect([trap, found.length]).toEqual([trap, 1])
    return found[0]
  })
  expect(titles.filter((title, n) => titles.indexOf(title) !== n)).toEqual([])
  expect(new Set(traps.map(([name]) => name)).size).toBe(traps.length)
})
