/** What the tools of this provider print on stderr, as failure kinds and in plain words. Texts of libvirt 9.0 in the C locale, unless noted. */
import { explainQemuImg as explainWith } from '../../base-image/qemu-img.ts'
import { type Explain, explainBy } from '../../src/errors.ts'
import { isSession, type KvmSettings } from './settings.ts'
import { thisSystem } from './systems.ts'

export const FREE_DISK_SPACE = 'Free disk space there, or delete machines that are not needed: agent-swarm list'
export const USE_BIOS =
  'Set AGENT_SWARM_KVM_FIRMWARE=bios, the default. Debian, Ubuntu and Fedora have cloud images that boot with it.'

/** 10.9 makes internal snapshots with NVRAM in qcow2; restoring and deleting them works since 10.10 (libvirt's NEWS). */
const UEFI_SINCE = '10.10'

/** Why machines cannot have UEFI with this libvirt (`9.0.0`); null where they can. */
export const whyNoUefi = (libvirt: string): string | null => {
  const [major = 0, minor = 0] = libvirt.split('.').map(Number)
  const [needMajor = 0, needMinor = 0] = UEFI_SINCE.split('.').map(Number)
  return major > needMajor || (major === needMajor && minor >= needMinor)
    ? null
    : `checkpoints of a machine with UEFI need libvirt ${UEFI_SINCE} or newer, and this is ${libvirt || 'unknown'}`
}

/** Whether virsh lost libvirt: every command after that fails, too. */
export const isDisconnected = (stderr: string): boolean =>
  /failed to connect to the hypervisor|Disconnected from|client socket is closed/.test(stderr)

/** Of a modular libvirt: each daemon that does not answer, in the order in which they were asked. */
const daemonsIn = ({ input = '' }: RegExpMatchArray): string[] => [
  ...new Set([...input.matchAll(/\/(virt[a-z]+d)-sock/g)].map(([, daemon = '']) => daemon)),
]

/** The last line is the daemon's own. One that is English has one of these words. */
const NOT_ENGLISH = /(?:^|\n)(?!.*\b(?:the|is|are|was|not|for|of|with|by|from|failed|cannot|unable|invalid)\b)[^\n]+$/i

type Rows = Parameters<typeof explainBy>[0]

/** The same with every libvirt. */
const rows: Rows = [
  [/Domain is already active/, 'already-running'],
  [/failed to get domain/, 'no-such-vm'],
  [/failed to get pool |failed to get network /, 'not-configured'],
  [/failed to get vol /, 'no-such-image'],
  // A network that another process makes or starts at this moment.
  [/network is already active/, 'already-running'],
  [/network '[^']*' (already exists|is already defined)/, 'already-exists'],
  [
    /pool '[^']*' has asynchronous jobs running/,
    'busy',
    'An image is being copied into the pool. Try again when that is done.',
  ],
  [/No space left on device/, 'disk-full', FREE_DISK_SPACE, 'the disk is full'],
  [
    /revert requires force/,
    'needs-stop',
    'Stop the machine, and restore it then: agent-swarm stop <TICKET>, agent-swarm restore <TICKET> <NAME>.',
    ({ input = '' }) =>
      `libvirt does not restore this checkpoint while the machine runs, because their definitions differ (${input.replace(/[\s\S]*requires force: /, '')})`,
  ],
  [
    /Failed to get (?:shared )?"[a-z]+" lock|Failed to acquire lock|resource busy/i,
    'busy',
    ({ input = '' }) => {
      const path = input.match(/Is another process using the image \[([^\]]+)\]/)?.[1]
      return `Another program uses the disk, for example qemu-img or a backup. End it${path === undefined ? '' : `, after finding it: sudo fuser -v '${path}'`}.`
    },
  ],
  [
    /cannot acquire state change lock/,
    'busy',
    "Another command works on this machine, or QEMU hangs. Try again; if it stays, restart libvirt's daemon: machines keep running.",
  ],
  [
    /AppArmor|virt-aa-helper/i,
    'permission',
    "See what was denied: sudo dmesg | grep DENIED. The pool's folder must be one that AppArmor's profiles of libvirt allow (/var/lib/libvirt), or be added to /etc/apparmor.d/local/abstractions/libvirt-qemu. Missing profiles come with: sudo systemctl reload apparmor",
  ],
  [
    /Resetting the Virtual Machine is required/,
    'needs-stop',
    'Stop the machine and start it: agent-swarm stop <TICKET>, agent-swarm start <TICKET>.',
  ],
  [
    /[Cc]annot allocate memory|cannot set up guest memory/,
    'capacity',
    'Stop another machine (agent-swarm list), or ask for less memory (AGENT_SWARM_MEMORY_MIB).',
    'the host does not have enough free memory',
  ],
  // QEMU 7.2
  [
    /Could not set up host forwarding rule '([^']*)'/,
    'busy',
    'Another program uses this port. Stop that program, or stop and start the machine, which then gets another port.',
  ],
  // QEMU since 7.1 without libslirp, for example RHEL's
  [
    /network backend 'user' is not compiled into this (binary|qemu)|Parameter 'type' expects a netdev backend type/,
    'unsupported',
    "Use the system's libvirt: AGENT_SWARM_KVM_URI=qemu:///system",
    "this QEMU has no user networking (slirp), which machines of a user's own libvirt need",
  ],
  // The second text is libvirt's since 10.9.
  [
    /internal snapshots of a VM with pflash based firmware/,
    'unsupported',
    'Create the machine again with AGENT_SWARM_KVM_FIRMWARE=bios.',
    `checkpoints of a machine with UEFI need libvirt ${UEFI_SINCE} or newer`,
  ],
  [
    /Unable to find (any|'efi') firmware/,
    'unsupported',
    'Install OVMF (edk2-ovmf), or use AGENT_SWARM_KVM_FIRMWARE=bios.',
  ],
  [
    /Permission denied/,
    'permission',
    'libvirt may not read or write there. Its images belong in its own pool. With AppArmor or SELinux: sudo dmesg | grep DENIED',
  ],
]

/**
 * `system`: how libvirt is installed and started here. virsh's own words are English, because it runs in the C locale; the
 * daemon's are in the daemon's language. So the rows are about virsh's words, or about what only the daemon's text tells.
 * Whether something exists, runs or is taken is asked of lists and states instead.
 */
export const explainVirsh = (settings: Pick<KvmSettings, 'kvmUri'>, system = thisSystem()): Explain => {
  const { kvmUri: uri } = settings
  const session = isSession(settings)
  const daemon = system.start.includes('virtqemud') ? 'virtqemud' : 'libvirtd'
  const start = session
    ? `An installed libvirt starts this user's daemon by itself: ${system.install}. It needs XDG_RUNTIME_DIR, or a writable home.`
    : `Start it: ${system.start}. If that service does not exist, install it first: ${system.install}`
  return explainBy([
    [
      /failed to connect to the hypervisor[\s\S]*(Permission denied|authentication (unavailable|failed)|org\.libvirt\.unix)/i,
      'permission',
      session
        ? "Run this as the user whose libvirt it is, with that user's XDG_RUNTIME_DIR."
        : 'Join the group libvirt: sudo usermod -aG libvirt "$USER". Then log in again.',
      `libvirt runs, but this user may not use ${uri}`,
    ],
    [
      /failed to connect to the hypervisor[\s\S]*(system bus connection|polkit)/,
      'permission',
      'Start dbus and polkit, or run this as root.',
      `libvirt asks polkit who may use ${uri}, and polkit does not answer`,
    ],
    [
      /failed to connect to the hypervisor[\s\S]*no connection driver available/,
      'provider-missing',
      `Install libvirt's driver for QEMU: ${system.install}`,
      `libvirt runs, but it has no driver for ${uri}`,
    ],
    [
      /failed to connect to the hypervisor[\s\S]*Failed to connect socket|Cannot recv data|client socket is closed|Disconnected from/,
      'hypervisor-unreachable',
      start,
      `no answer at ${uri}`,
    ],
    // libvirt's words stay: they may be in any language.
    [/failed to connect to the hypervisor/, 'hypervisor-unreachable', start],
    // A modular libvirt: virtqemud asks another daemon.
    [
      /\/virt[a-z]+d-sock/,
      'hypervisor-unreachable',
      match =>
        session
          ? `Install them: ${system.install}`
          : `Start them: sudo systemctl enable --now ${daemonsIn(match)
              .map(name => `${name}.socket`)
              .join(' ')}. If a service does not exist, install it first: ${system.install}`,
      match => `no answer from ${daemonsIn(match).join(' and ')}, which this libvirt needs besides virtqemud`,
    ],
    [
      /not supported by the connection driver: virConnect\w*(Network|StoragePool|NWFilter)/,
      'provider-missing',
      `Install all of libvirt's drivers: ${system.install}`,
    ],
    ...rows,
    [
      NOT_ENGLISH,
      'unknown',
      session
        ? "libvirt's daemon does not speak English here, so its message is not understood. End it; agent-swarm starts it again with LANG=C."
        : `libvirt's daemon does not speak English here, so its message is not understood. Set LANG=C for it: sudo systemctl edit ${daemon} (add the lines "[Service]" and "Environment=LANG=C LC_ALL=C"), then sudo systemctl restart ${daemon}`,
    ],
  ])
}

export const NAME_A_CLOUD_IMAGE = 'Name a cloud image on disk: a qcow2 or raw file.'

export const explainQemuImg = explainWith(NAME_A_CLOUD_IMAGE, FREE_DISK_SPACE)

export const explainMmdebstrap = explainBy([[/No space left/, 'disk-full', FREE_DISK_SPACE]])
