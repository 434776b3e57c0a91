/** A bench of synthetic machines in a home of its own. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CreateOptions, Provider } from '../../providers/provider.ts'
import { openSynthetic } from '../../providers/synthetic/index.ts'
import { openRun } from '../../src/exec.ts'
import type { TestBench } from '../providers/conformance.ts'

export const HOME_ID = '00112233445566ff'
export const OTHER_HOME_ID = 'ffff000011112222'
export const openSyntheticIn = (
  home: string,
  more: { homeId?: string; knows?: (vmId: string) => boolean; boot?: string } = {},
) => openSynthetic({ run: openRun(process.env), home, homeId: HOME_ID, knows: () => false, ...more })

export const syntheticOptions = (vmId: string): CreateOptions => ({
  vmId,
  cpus: 1,
  memoryMiB: 256,
  diskGiB: 2,
  publicKey: 'ssh-ed25519 AAAA test',
  hostKey: { privateKey: '', publicKey: '' },
})

/** `change`: of both homes' provider. `close` fails when anything is left of a machine. */
export const openSyntheticBench = async (
  change: (provider: Provider) => Provider = provider => provider,
): Promise<TestBench> => {
  const home = await mkdtemp(join(tmpdir(), 'agent-swarm-synthetic-'))
  const provider = openSyntheticIn(home)
  return {
    provider: change(provider),
    otherHome: change(openSyntheticIn(home, { homeId: OTHER_HOME_ID })),
    baseImage: 'none',
    options: async vmId => syntheticOptions(vmId),
    ready: async () => {},
    script: async (vmId, text) => (await provider.runInGuest?.(vmId, text))?.stdout ?? '',
    close: async () => {
      const folders = ['synthetic', 'synthetic-state'].map(name => join(home, name)).filter(existsSync)
      const left = (await Promise.all(folders.map(folder => readdir(folder)))).flat()
      await rm(home, { recursive: true })
      if (left.length > 0) throw new Error(`left behind: ${left}`)
    },
  }
}
