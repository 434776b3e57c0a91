/** The bench of a selftest: machines of the configured size on this host, reached as every machine is. */
import type { Provider } from '../../providers/provider.ts'
import type { Config } from '../config/config.ts'
import { fail } from '../errors.ts'
import type { RunnerContext } from '../runner/context.ts'
import { runInGuest, waitForGuest } from '../runner/ssh/guest.ts'
import { loginKey, pinnedHostKey } from '../runner/ssh/keys.ts'
import type { BenchTools } from './bench.ts'

const MIB = 1024 ** 2
const GIB = 1024 ** 3
const SCRIPT_DEADLINE_MS = 60_000

/** Two show that each has a state of its own. Where they would be slow, or memory or disk are short, one. */
export const machineCount = async (provider: Provider, { size }: Config, isSlow: boolean): Promise<number> => {
  const capacity = await provider.capacity?.()
  if (capacity === undefined || capacity.memoryBytes.total === 0) return isSlow ? 1 : 2
  const { memoryBytes, diskBytes } = capacity
  const room = Math.floor(
    Math.min(memoryBytes.available / (size.memoryMiB * MIB), diskBytes.available / (size.diskGiB * GIB)),
  )
  if (room < 1)
    throw fail(
      'capacity',
      `a machine of ${size.memoryMiB} MiB of memory and ${size.diskGiB} GiB of disk does not fit beside what runs on this host`,
      'Stop a machine (agent-swarm list), or set a smaller size: AGENT_SWARM_MEMORY_MIB, AGENT_SWARM_DISK_GIB.',
    )
  return isSlow ? 1 : Math.min(room, 2)
}

/** `isSlow`: the guests' processors are emulated. */
export const benchTools = (
  { config, home, run }: RunnerContext,
  provider: Provider,
  otherHome: Provider,
  { isSlow, newMachine, signal }: Pick<BenchTools, 'newMachine'> & { isSlow: boolean; signal: AbortSignal },
): BenchTools => ({
  provider,
  otherHome,
  baseImage: config.baseImage,
  newMachine,
  options: async vmId => ({
    ...{ vmId, ...config.size },
    publicKey: await loginKey(run, home),
    hostKey: await pinnedHostKey(run, home, vmId),
  }),
  ready: async vmId => {
    const deadline = config.bootMinutes * 60_000
    await waitForGuest({ run, home }, provider, vmId, { deadline, isSlow: async () => isSlow, signal })
  },
  script: async (vmId, text) =>
    (await runInGuest({ run, home }, provider, vmId, text, { deadline: SCRIPT_DEADLINE_MS, signal })).stdout.trimEnd(),
})
