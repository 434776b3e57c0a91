/** Machines made of another machine's checkpoint or present state. */
import type { ForkTarget } from '../provider.ts'
import type { Context } from './context.ts'
import { machineOf } from './definition.ts'
import { diskCommands } from './disk-file.ts'
import { forkDisks } from './disk-forks.ts'
import { withFreeSpace } from './disk-space.ts'
import { closeSource, type ForkSource, openSource, sourceCommands } from './fork-source.ts'
import type { Forking } from './fork-volumes.ts'
import { waitForAgent } from './guest-agent.ts'
import { ensurePool, poolCommands } from './host.ts'
import type { Isolator } from './isolation.ts'
import { deleteMachine, lookAndConnect } from './machines.ts'
import { forkMemory } from './memory-forks.ts'
import { parseNames, parsePool } from './parse.ts'
import { forksMemory } from './settings.ts'

const removeForks = async (context: Context, targets: readonly ForkTarget[]): Promise<void> => {
  const failures: unknown[] = []
  for (const { vmId } of targets) await deleteMachine(context, vmId).catch(error => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

/** The forks of which an interrupted call left something. `names`: of all machines and volumes. */
const begunForks = (names: readonly string[], isolator: Isolator | null, targets: readonly ForkTarget[]) => {
  const known = new Set(names.flatMap(name => [name, machineOf(name)]))
  const kept = new Set(isolator?.network.hosts.map(({ name }) => name))
  return targets.filter(({ vmId }) => known.has(vmId) || kept.has(vmId))
}

const makeForks = (forking: Forking, source: ForkSource, targets: readonly ForkTarget[]): Promise<void> =>
  source.kind === 'layer' && source.memory !== null && forksMemory(forking.context.settings)
    ? forkMemory(forking, { layer: source.layer, memory: source.memory }, targets)
    : forkDisks(forking, source, targets)

/** All forks are of one moment. */
export const forkMachine = async (
  context: Context,
  id: string,
  checkpoint: string | null,
  targets: readonly ForkTarget[],
): Promise<void> => {
  const doing = checkpoint === null ? `forking ${id}` : `forking ${id} from ${checkpoint}`
  const machine = await lookAndConnect(context, id, doing, [
    ...diskCommands(context, id),
    ...poolCommands(context.settings),
    ...sourceCommands(id),
    ['list', '--all', '--name'],
    ['vol-list', context.settings.kvmPool],
  ])
  const { isolator, mark, status, paused, stdout } = machine
  await removeForks(context, begunForks(parseNames(stdout), isolator, targets))
  const isLive = checkpoint === null && status === 'running' && paused === undefined
  // A fork without an agent could not become a machine of its own: that is known before the source stands still.
  if (isLive && mark.checkpoints === 'external' && forksMemory(context.settings)) await waitForAgent(context, id, 0)
  const pool = parsePool(stdout) ?? (await ensurePool(context))
  const source = await openSource(context, { ...machine, pool, doing }, checkpoint, targets.length).catch(
    withFreeSpace(context),
  )
  try {
    await makeForks({ context, machine, isolator, pool, doing }, source, targets)
  } catch (error) {
    // The runner deletes what is left of them.
    await removeForks(context, targets).catch(() => {})
    // Without `await`, it fails while `finally` runs, and nobody handles it then.
    return await withFreeSpace(context)(error)
  } finally {
    // What it leaves, the next checkpoint or fork removes.
    await closeSource(context, id, source).catch(() => {})
  }
}
