/**
 * What a failure of a script means. Hyper-V's messages are in the system's language, so its ids, PowerShell's categories and codes of
 * Windows (HRESULT) decide. Ids were seen in reports of Vagrant, minikube and Multipass (docs/hyperv.md).
 */
import type { FailureKind } from '../../src/domain.ts'
import { type FailureError, fail } from '../../src/errors.ts'

export type ScriptError = { id: string; category: string; code: string; message: string }

export const FREE_DISK_SPACE =
  'Free disk space on the volume of AGENT_SWARM_HOME, or delete machines that are not needed: agent-swarm list'
export const INSTALL =
  'As Administrator, on Windows Pro or Enterprise: Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V -All; on Windows Server: Install-WindowsFeature Hyper-V -IncludeManagementTools. Then restart Windows.'
const JOIN_GROUP =
  'Join the group Hyper-V Administrators, as Administrator: Add-LocalGroupMember -SID S-1-5-32-578 -Member NAME, where NAME is the user of agent-swarm. Then log off and on.'

type Row = readonly [pattern: RegExp, kind: FailureKind, remedy: string | null, words?: string]

/** Matched against `id category code`. */
const rows: readonly Row[] = [
  [
    /CommandNotFoundException|CouldNotAutoload/i,
    'provider-missing',
    INSTALL,
    'Hyper-V and its PowerShell module are not installed',
  ],
  [
    /^AccessDenied,\S+\.StartVM /,
    'permission',
    'Hyper-V gives a machine access to its files when they are attached. If the permissions of AGENT_SWARM_HOME were changed since, delete the machine and create it again.',
  ],
  [/^AccessDenied,| PermissionDenied |0x80070005/, 'permission', JOIN_GROUP],
  [
    /^OutOfMemory,|0x8007000E|0x800705AA/,
    'capacity',
    'Stop another machine (agent-swarm list), or ask for less memory (AGENT_SWARM_MEMORY_MIB).',
    'the host does not have enough free memory',
  ],
  [/0x80070070|0x80070027/, 'disk-full', FREE_DISK_SPACE, 'the disk is full'],
  [
    /0xC03A001A/i,
    'usage',
    'Windows may not compress, encrypt or thin the files of machines: remove these from the folder AGENT_SWARM_HOME (compact /u /s, cipher /d /s).',
    'Hyper-V takes no disk that is compressed, encrypted or sparse',
  ],
  [/0x80070020/, 'busy', 'Another program uses the file, for example a backup. Try again when it is done.'],
  [/^ObjectInUse,|^OperationTimeout,| ResourceBusy /, 'busy', null],
  [
    /^ServiceNotAvailable|0x800706BA/,
    'hypervisor-unreachable',
    'Start the service, as Administrator: Start-Service vmms',
  ],
  // One page of Microsoft's says that what is exported must be off or saved, another one that it may run.
  [/\.ExportVMSnapshot /, 'unknown', 'If the machine runs, stop it and fork it then: agent-swarm stop <TICKET>'],
]

export const explain = (doing: string, { id, category, code, message }: ScriptError): FailureError => {
  const [, kind, remedy, words] = rows.find(([pattern]) => pattern.test(`${id} ${category} ${code}`)) ?? []
  const said = message.replaceAll(/\s+/g, ' ').slice(0, 1_000)
  return fail(kind ?? 'unknown', `${doing}: ${words ?? `${said} (${id || code})`}`, remedy ?? null)
}

/** What a script refuses by itself. */
const refusals: Readonly<Record<string, Row>> = Object.fromEntries(
  (
    [
      [/no-such-vm/, 'no-such-vm', null, 'Hyper-V has no such machine'],
      [
        /no-mark/,
        'not-ours',
        'It is left alone. Rename it if it is in the way.',
        'it has a name like our machines, but not our mark: agent-swarm did not make it',
      ],
      [
        /other-home/,
        'not-ours',
        'Use agent-swarm with that home. It is left alone here.',
        'it belongs to another AGENT_SWARM_HOME',
      ],
      [
        /ambiguous/,
        'not-ours',
        'Remove the line "agent-swarm {…}" from the notes of the copy, in Hyper-V Manager.',
        'two machines have this name and its mark, for example because somebody imported a copy',
      ],
      [
        /renamed/,
        'refused',
        'Rename its VM back in Hyper-V Manager. Its name is "vmId" in the notes of the VM.',
        'it was renamed in Hyper-V',
      ],
      [/locked/, 'busy', null, 'another command of agent-swarm works on it, perhaps as Administrator'],
      [/already-exists/, 'already-exists', null, 'it already exists'],
      [/no-such-checkpoint/, 'no-such-checkpoint', null, 'there is no such checkpoint'],
      [
        /ambiguous-checkpoint/,
        'refused',
        'Rename or remove one of them in Hyper-V Manager.',
        'two checkpoints of the machine have this name',
      ],
      [
        /no-permissions/,
        'permission',
        'AGENT_SWARM_HOME must lie on an NTFS volume where this user may change permissions.',
        'the permissions of its folder cannot be set',
      ],
      [
        /disk-too-small/,
        'usage',
        'Give machines a larger disk: AGENT_SWARM_DISK_GIB',
        'its disk is smaller than that of the base image',
      ],
      [/address-taken/, 'busy', null, 'another machine has the address'],
      [
        /several-disks/,
        'refused',
        'A fork copies one disk. Remove the others from the machine in Hyper-V Manager, and make a new checkpoint.',
        'it does not have exactly one disk',
      ],
      [/not-independent/, 'unknown', null, 'Hyper-V made a copy of its disk that depends on another disk'],
      [
        /merging/,
        'busy',
        'Hyper-V merges the disks of its checkpoints. It is tried again by itself; by hand: agent-swarm delete <TICKET>',
        'the disks of its checkpoints are still being merged',
      ],
    ] satisfies Row[]
  ).map(row => [row[0].source, row]),
)

export const explainRefusal = (doing: string, refused: string): FailureError => {
  const [, kind, remedy, words] = refusals[refused] ?? []
  return fail(kind ?? 'unknown', `${doing}: ${words ?? refused}`, remedy ?? null)
}
