/** The bench of a selftest: machines of the configured size on this host, reached as every machine is. */
import type { Provider } from '../../providers/provider.ts'
import { fail } from '../errors.ts'
import { fitting } from '../room.ts'
import type { RunnerContext } from '../runner/context.ts'
import { readHost, roomNow } from '../runner/room.ts'
import { runInGuest, waitForGuest } from '../runner/ssh/guest.ts'
import { loginKey, pinnedHostKey } from '../runner/ssh/keys.ts'
import type { BenchTools } from './bench.ts'

const SCRIPT_DEADLINE_MS = 60_000

/** Two show that each has a state of its own. Where they would be slow, or the host has no room for two, one. */
export const machineCount = async (context: RunnerContext, provider: Provider, isSlow: boolean): Promise<number> => {
  const most = isSlow ? 1 : 2
  const host = await readHost(provider)
  if (host === null) return most
  const { size } = context.config
  const { machines } = fitting(size, roomNow(context, provider.name, host).free)
  if (machines < 1)
    throw fail(
      'capacity',
      `a machine of ${size.memoryMiB} MiB of memory and ${size.cpus} CPUs does not fit beside what runs on this host`,
      'Stop a machine (agent-swarm list), or set a smaller size: AGENT_SWARM_MEMORY_MIB, AGENT_SWARM_CPUS.',
    )
  return Math.min(machines, most)
}

export const benchTools = (
  { config, home, run }: RunnerContext,
  provider: Provider,
  otherHome: Provider,
  { newMachine, signal }: Pick<BenchTools, 'newMachine'> & { signal: AbortSignal },
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
    await waitForGuest({ run, home }, provider, vmId, { deadline, signal })
  },
  script: async (vmId, text) =>
    (await runInGuest({ run, home }, provider, vmId, text, { deadline: SCRIPT_DEADLINE_MS, signal })).stdout.trimEnd(),
})
