/** The system's libvirt. AGENT_SWARM_KVM_FIRMWARE and AGENT_SWARM_BASE_IMAGE, as for the CLI, run it with UEFI and an image that boots by it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKvm } from '../../providers/kvm/index.ts'
import { openRun } from '../../src/exec.ts'
import { openGuest } from '../../src/runner/ssh/guest.ts'
import { loginKey, pinnedHostKey } from '../../src/runner/ssh/keys.ts'
import { keepsItsPromises } from '../providers/conformance.ts'
import { BASE, ensureBase } from './cli.ts'

keepsItsPromises(
  'kvm',
  async () => {
    if (process.env.AGENT_SWARM_BASE_IMAGE === undefined) await ensureBase()
    const home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-'))
    const run = openRun(process.env)
    const provider = openKvm({
      run,
      home,
      settings: {
        uri: 'qemu:///system',
        domainType: 'auto',
        firmware: process.env.AGENT_SWARM_KVM_FIRMWARE === 'uefi' ? 'uefi' : 'bios',
        pool: 'agent-swarm',
        network: 'agent-swarm',
      },
    })
    const guest = openGuest(run, home)
    return {
      provider,
      baseImage: process.env.AGENT_SWARM_BASE_IMAGE ?? BASE,
      options: async vmId => ({
        vmId,
        cpus: 1,
        memoryMiB: 768,
        diskGiB: 6,
        publicKey: await loginKey(run, home),
        hostKey: await pinnedHostKey(run, home, vmId),
      }),
      ready: async vmId => void (await guest.ready(provider, vmId)),
      script: async (vmId, text) => (await guest.script(provider, vmId, text, 60_000)).trimEnd(),
      close: async () => rmSync(home, { recursive: true }),
    }
  },
  { machines: 2, timeout: 10 * 60_000 },
)
