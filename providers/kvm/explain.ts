/** What the tools of this provider print on stderr, as failure kinds and in plain words. Texts of libvirt 9.0 in the C locale, unless noted. */
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

/** `system`: how libvirt is installed and started here. */
export const explainVirsh = (settings: Pick<KvmSettings, 'kvmUri'>, system = thisSystem()): Explain => {
  const { kvmUri: uri } = settings
  const session = isSession(settings)
  return explainBy([
    [
      /failed to connect to the hypervisor[\s\S]*(Permission denied|authentication (unavailable|failed))/i,
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
      /failed to connect to the hypervisor|Failed to connect socket|Cannot recv data|client socket is closed|Disconnected from/,
      'hypervisor-unreachable',
      session
        ? `An installed libvirt starts this user's daemon by itself: ${system.install}. It needs XDG_RUNTIME_DIR, or a writable home.`
        : `Start it: ${system.start}. If that service does not exist, install it first: ${system.install}`,
      `no answer at ${uri}`,
    ],
    // A domain, a network or a storage pool.
    [/is already active|already running/i, 'already-running'],
    [/domain is not running|Domain not running/, 'not-running'],
    [/failed to get domain|Domain not found/, 'no-such-vm'],
    [/Requested metadata element is not present/, 'not-ours'],
    [/domain moment .* already exists|snapshot .* already exists/, 'already-exists'],
    [/no domain snapshot with matching name|Domain snapshot not found/, 'no-such-checkpoint'],
    [/(pool|network) '[^']*' (already exists|is already defined)/, 'already-exists'],
    [/failed to get pool |Storage pool not found/, 'not-configured'],
    [/failed to get network |Network not found/, 'not-configured'],
    [
      /pool '[^']*' has asynchronous jobs running/,
      'busy',
      'An image is being copied into the pool. Try again when that is done.',
    ],
    [/Storage volume not found|failed to get vol /, 'no-such-image'],
    [/storage volume .* exists already|volume .* already exists/, 'already-exists'],
    [/No space left on device/, 'disk-full', FREE_DISK_SPACE, 'the disk is full'],
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
    [/Permission denied/, 'permission', 'libvirt may not read or write there. Its images belong in its own pool.'],
  ])
}

export const NAME_A_CLOUD_IMAGE = 'Name a cloud image on disk: a qcow2 or raw file.'

/** qemu-img 7.2 */
export const explainQemuImg = explainBy([
  [/Could not open|No such file/, 'usage', NAME_A_CLOUD_IMAGE],
  [/No space left/, 'disk-full', FREE_DISK_SPACE, 'the disk is full'],
])

export const explainMmdebstrap = explainBy([[/No space left/, 'disk-full', FREE_DISK_SPACE]])
