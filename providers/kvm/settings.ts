import { listOf, oneOf, type Setting, type SettingValues, text } from '../../src/schema/forms.ts'
import { openedRange } from '../ipv4.ts'

export const kvmSettings = {
  kvmUri: {
    env: 'AGENT_SWARM_KVM_URI',
    form: text,
    default: 'qemu:///system',
    says: "libvirt's connection: `qemu:///system`, or `qemu:///session` for machines of this user alone (docs/kvm.md).",
    example: 'qemu:///session',
  },
  kvmDomainType: {
    env: 'AGENT_SWARM_KVM_DOMAIN_TYPE',
    form: oneOf('auto', 'kvm', 'qemu'),
    default: 'auto',
    says: '`kvm` is hardware virtualization, `qemu` is emulation; `auto` uses `kvm` if a test guest boots with it.',
    example: 'qemu',
  },
  kvmFirmware: {
    env: 'AGENT_SWARM_KVM_FIRMWARE',
    form: oneOf('bios', 'uefi'),
    default: 'bios',
    says: 'Firmware of new machines and images. `uefi` needs libvirt 10.10 or newer, which can restore its checkpoints.',
    example: 'uefi',
  },
  kvmPool: {
    env: 'AGENT_SWARM_KVM_POOL',
    form: text,
    default: 'agent-swarm',
    says: 'The storage pool for machines and images; it is created if missing.',
    example: 'fast',
  },
  kvmNetwork: {
    env: 'AGENT_SWARM_KVM_NETWORK',
    form: text,
    default: 'agent-swarm',
    says: 'The network of the machines; it is created if missing. Unused with `qemu:///session`.',
    example: 'agents',
  },
  kvmLiveCheckpoints: {
    env: 'AGENT_SWARM_KVM_LIVE_CHECKPOINTS',
    form: oneOf('auto', 'on', 'off'),
    default: 'auto',
    says: 'Checkpoints that a running machine hardly notices: `auto` makes them with QEMU 10 or newer where the host can, `on` with older QEMU, too (docs/kvm.md, Live checkpoints); `off` lets the machine stand still while its memory is written.',
    example: 'on',
  },
  kvmAllow: {
    env: 'AGENT_SWARM_KVM_ALLOW',
    form: listOf(openedRange),
    default: [],
    says: 'Private IPv4 ranges that machines may reach; all others are closed to them (docs/kvm.md, Isolation). The addresses of the host stay closed.',
    example: ['10.1.0.0/16'],
  },
  kvmSessionNet: {
    env: 'AGENT_SWARM_KVM_SESSION_NET',
    form: oneOf('open', 'closed'),
    default: 'open',
    says: 'The network of machines with `qemu:///session`. `open`: they reach the internet, and what this host reaches. `closed`: they reach nothing.',
    example: 'closed',
  },
} as const satisfies Record<string, Setting>

export type KvmSettings = SettingValues<typeof kvmSettings>

/** A user's own libvirt: it has no network that the host can reach, and keeps its files in the user's home. */
export const isSession = ({ kvmUri }: Pick<KvmSettings, 'kvmUri'>): boolean =>
  URL.canParse(kvmUri) && new URL(kvmUri).pathname === '/session'

/**
 * Whether a fork goes on with the memory: libvirt reads it through a pipe of this host, and turns the guest's network off until
 * it has an identity of its own. A machine in a session has a network that libvirt does not know.
 */
export const forksMemory = (settings: KvmSettings): boolean =>
  !isSession(settings) && URL.canParse(settings.kvmUri) && new URL(settings.kvmUri).hostname === ''
