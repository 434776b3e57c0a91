/** What virsh says on stderr, as failure kinds and in plain words. The first match counts. Texts of libvirt 9.0 in the C locale, unless said. */
import type { Explain } from '../../src/exec.ts'
import { isSession, type KvmSettings } from './settings.ts'
import { thisSystem } from './systems.ts'

/** `system`: how libvirt is installed and started here. */
export const explainVirsh = (settings: Pick<KvmSettings, 'uri'>, system = thisSystem()): Explain => {
  const { uri } = settings
  const session = isSession(settings)
  return [
    [
      /failed to connect to the hypervisor[\s\S]*(Permission denied|authentication (unavailable|failed))/i,
      'permission',
      session
        ? "Run it as the user whose libvirt it is, with that user's XDG_RUNTIME_DIR."
        : 'Join the group libvirt: sudo usermod -aG libvirt "$USER". Then log in again.',
      `libvirt runs, and this user may not use ${uri}`,
    ],
    [
      /failed to connect to the hypervisor[\s\S]*(system bus connection|polkit)/,
      'permission',
      'Start dbus and polkit, or run it as root.',
      `libvirt asks polkit who may use ${uri}, and polkit does not answer`,
    ],
    [
      /failed to connect to the hypervisor|Failed to connect socket|Cannot recv data|client socket is closed|Disconnected from/,
      'hypervisor-unreachable',
      session
        ? `libvirt starts this user's daemon by itself where it is installed: ${system.install}. It needs XDG_RUNTIME_DIR, or a home that can be written.`
        : `Start it: ${system.start}. Where there is no such service, install it first: ${system.install}`,
      `libvirt does not answer at ${uri}`,
    ],
    [/Domain is already active|domain is already running/, 'already-running'],
    [/domain is not running|Domain not running/, 'not-running'],
    [/failed to get domain|Domain not found/, 'no-such-vm'],
    [/Requested metadata element is not present/, 'not-ours'],
    [/domain moment .* already exists|snapshot .* already exists/, 'already-exists'],
    [/no domain snapshot with matching name|Domain snapshot not found/, 'no-such-checkpoint'],
    [/failed to get pool |Storage pool not found/, 'not-configured'],
    [/failed to get network |Network not found/, 'not-configured'],
    [
      /pool '[^']*' has asynchronous jobs running/,
      'busy',
      'An image is being copied into the pool. Try it again when that is done.',
    ],
    [/Storage volume not found|failed to get vol /, 'no-such-image'],
    [/storage volume .* exists already|volume .* already exists/, 'already-exists'],
    [/No space left on device/, 'disk-full', MAKE_ROOM, 'the disk is full'],
    [
      /[Cc]annot allocate memory|cannot set up guest memory/,
      'capacity',
      'Stop another environment (agent-swarm list), or ask for less memory (AGENT_SWARM_MEMORY_MIB).',
      'the host has not that much memory free',
    ],
    // QEMU 7.2
    [
      /Could not set up host forwarding rule '([^']*)'/,
      'busy',
      'Another program listens on this port. Stop it, or stop the environment and start it: then it takes another port.',
    ],
    // QEMU without libslirp, as RHEL's: its own words since 7.1.
    [
      /network backend 'user' is not compiled into this (binary|qemu)|Parameter 'type' expects a netdev backend type/,
      'unsupported',
      "Take the system's libvirt: AGENT_SWARM_KVM_URI=qemu:///system",
      "this QEMU has no user networking (slirp), which a user's own machines need",
    ],
    // The second text is libvirt's since 10.9.
    [
      /internal snapshots of a VM with pflash based firmware/,
      'unsupported',
      'Make the environment anew with AGENT_SWARM_KVM_FIRMWARE=bios.',
      `a machine with UEFI can have checkpoints from libvirt ${UEFI_SINCE} on`,
    ],
    [
      /Unable to find (any|'efi') firmware/,
      'unsupported',
      'Install OVMF (edk2-ovmf), or use AGENT_SWARM_KVM_FIRMWARE=bios.',
    ],
    [/Permission denied/, 'permission', 'libvirt may not read or write there; its images belong in its own pool.'],
  ]
}

export const MAKE_ROOM = 'Make room there, or delete environments that are not needed: agent-swarm list'

/** 10.9 takes internal snapshots with NVRAM in qcow2; going back to one and deleting one works from 10.10 on (libvirt's NEWS). */
const UEFI_SINCE = '10.10'

/** Why machines cannot have UEFI with this libvirt (`9.0.0`); null where they can. */
export const withoutUefi = (libvirt: string): string | null => {
  const [major = 0, minor = 0] = libvirt.split('.').map(Number)
  const [needMajor = 0, needMinor = 0] = UEFI_SINCE.split('.').map(Number)
  return major > needMajor || (major === needMajor && minor >= needMinor)
    ? null
    : `a machine with UEFI can have checkpoints from libvirt ${UEFI_SINCE} on, and this is ${libvirt || 'unknown'}`
}
export const TAKE_BIOS =
  'Take AGENT_SWARM_KVM_FIRMWARE=bios, the default: Debian, Ubuntu and Fedora have cloud images for it.'
