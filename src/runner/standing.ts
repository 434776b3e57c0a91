/** What is under way and what waits, as the registry, the locks and the bot's last word tell. */
import type { Ticket } from '../domain.ts'
import { ifUnlocked } from '../registry/ticket-lock.ts'
import type { Progress, Requester } from '../schema/action.ts'
import type { RunnerContext } from './context.ts'

export type RunningOperation = {
  ticket: Ticket
  kind: string
  by: Requester
  startedAt: string
  /** What it is at; null before its first phase. */
  phase: Progress | null
  /** Its process died in it: the next command on the ticket, or the runner, settles it. */
  interrupted: boolean
}
export type WaitingAction = { ticket: Ticket; kind: string; by: Requester; since: string; why: string }

const lives = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // Another user's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

export const runningOperations = async (world: RunnerContext, ticket?: Ticket): Promise<RunningOperation[]> => {
  const found: RunningOperation[] = []
  for (const { id, ...one } of world.registry.openOperations(ticket)) {
    const free = (await ifUnlocked(world.home, one.ticket, async () => true)) === true
    // It may have ended while we looked.
    if (free && !world.registry.openOperations(one.ticket).some(still => still.id === id)) continue
    found.push({
      ...{ ticket: one.ticket, kind: one.kind, by: one.by, startedAt: one.startedAt },
      ...{ phase: one.phases.at(-1) ?? null, interrupted: free },
    })
  }
  return found
}

/** Commands of this home first, then what the bot had queued for this runner when it was heard last. */
export const waitingActions = (world: RunnerContext): WaitingAction[] => {
  const here = world.registry
    .waiting()
    .filter(one => lives(one.pid))
    .map(({ ticket, kind, by, since }) => ({
      ticket,
      kind,
      by,
      since,
      why: 'another command on this ticket is under way',
    }))
  const heard = world.registry.queued()
  const queued = heard?.queued.map(one => ({ ...one, why: `${one.why} (the bot said so at ${heard.at})` })) ?? []
  return [...here, ...queued]
}
