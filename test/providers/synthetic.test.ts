import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSynthetic } from '../../providers/synthetic/index.ts'
import { openRun } from '../../src/exec.ts'
import { keepsItsPromises } from './conformance.ts'

keepsItsPromises(
  'synthetic',
  async () => {
    const home = await mkdtemp(join(tmpdir(), 'agent-swarm-synthetic-'))
    const provider = openSynthetic({ run: openRun(process.env), home, settings: null })
    return {
      provider,
      baseImage: 'none',
      options: async vmId => ({
        vmId,
        cpus: 1,
        memoryMiB: 256,
        diskGiB: 2,
        publicKey: 'ssh-ed25519 AAAA test',
        hostKey: { privateKey: '', publicKey: '' },
      }),
      ready: async () => {},
      script: async (vmId, text) => (await provider.runInGuest?.(vmId, text))?.stdout ?? '',
      close: async () => {
        const left = [...(await readdir(join(home, 'synthetic'))), ...(await readdir(join(home, 'synthetic-state')))]
        await rm(home, { recursive: true })
        if (left.length > 0) throw new Error(`left behind: ${left}`)
      },
    }
  },
  { machines: 6, timeout: 30_000 },
)
