/** What runs and what waits on this home, according to the registry, the locks and the bot's last heartbeat response. */
import type { Ticket } from '../domain.ts'
import { isProcessAlive } from '../exec.ts'
import { ifUnlocked } from '../registry/lock.ts'
import type { RunningOperation, WaitingAction } from '../schema/operation.ts'
import type { RunnerContext } from './context.ts'

export const runningOperations = async (context: RunnerContext, ticket?: Ticket): Promise<RunningOperation[]> => {
  const { registry, home } = context
  const operations: RunningOperation[] = []
  for (const { id, ticket: key, kind, by, startedAt, phases } of registry.openOperations(ticket)) {
    const interrupted = (await ifUnlocked(home, key, async () => true)) === true
    // It may have ended since it was read.
    if (interrupted && !registry.openOperations(key).some(open => open.id === id)) continue
    operations.push({ ticket: key, kind, by, startedAt, phase: phases.at(-1) ?? null, interrupted })
  }
  return operations
}

/** Commands of this home first, then what the bot had queued for this runner at its last heartbeat. */
export const waitingActions = ({ registry }: RunnerContext): WaitingAction[] => {
  const commands = registry
    .waiting()
    .filter(({ pid }) => isProcessAlive(pid))
    .map(({ ticket, kind, by, since, why }) => ({
      ...{ ticket, kind, by, since },
      why: why ?? 'another command on this ticket is running',
    }))
  const last = registry.queued()
  const queued =
    last?.queued.map(entry => ({ ...entry, why: `${entry.why} (reported by the bot at ${last.at})` })) ?? []
  return [...commands, ...queued]
}
