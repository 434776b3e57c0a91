/** What virsh says on stderr, as failure kinds. The first match counts. Texts of libvirt 9.0 in the C locale, unless said. */
import type { Explain } from '../../src/exec.ts'

export const explainVirsh: Explain = [
  [
    /failed to connect to the hypervisor[\s\S]*(Permission denied|authentication (unavailable|failed))/i,
    'permission',
    'Join the group libvirt (sudo usermod -aG libvirt "$USER"), and log in again.',
  ],
  [
    /failed to connect to the hypervisor|Failed to connect socket|Cannot recv data|client socket is closed/,
    'hypervisor-unreachable',
    'Is libvirtd running? Try: sudo systemctl start libvirtd',
  ],
  [/Domain is already active|domain is already running/, 'already-running'],
  [/domain is not running|Domain not running/, 'not-running'],
  [/failed to get domain|Domain not found/, 'no-such-vm'],
  [/Requested metadata element is not present/, 'not-ours'],
  [/domain moment .* already exists|snapshot .* already exists/, 'already-exists'],
  [/no domain snapshot with matching name|Domain snapshot not found/, 'no-such-checkpoint'],
  [/Storage volume not found|failed to get vol /, 'no-such-image'],
  [/storage volume .* exists already|volume .* already exists/, 'already-exists'],
  [
    /No space left on device/,
    'disk-full',
    'Free some space, or delete environments that are not needed: agent-swarm list',
  ],
  [
    /[Cc]annot allocate memory|cannot set up guest memory/,
    'capacity',
    'Stop another environment (agent-swarm list), or ask for less memory (AGENT_SWARM_MEMORY_MIB).',
  ],
  [/Permission denied/, 'permission', 'libvirt may not read or write there; its images belong in its own pool.'],
]
