/**
 * Gives an environment the key that its issue has after it was moved to another project. The registry changes first, in one
 * transaction, and the machine's mark after it. Another try, or the recovery of this one, writes the mark again.
 */
import type { EnvironmentKey, Ticket } from '../../domain.ts'
import { resolveTicket } from '../context.ts'
import { observe } from '../machine.ts'
import { type ActionRunner, type Operation, type Target, targetOf } from '../operation.ts'
import { stop } from './stop.ts'

/** Writes the ticket to the machine's mark. Idempotent. Where the provider cannot, the registry alone has the new key. */
export const markMachine = async ({ provider, row }: Pick<Target, 'provider' | 'row'>): Promise<void> => {
  const observed = await observe(provider, row)
  if (observed === 'running' || observed === 'stopped') await provider.assign?.(row.vmId, row.ticket)
}

/** Of those that exist. */
export const markAll = async (operation: Operation, keys: readonly EnvironmentKey[]): Promise<void> => {
  for (const key of keys)
    if (operation.context.registry.environment(key) !== null) await markMachine(await targetOf(operation, key))
}

const markWithAttempts = (operation: Operation, ticket: Ticket) =>
  markAll(operation, [ticket, ...operation.context.registry.attempts(ticket)])

/** The caller holds all locks, and `to` has no machine. */
export const moveEnvironment = async (operation: Operation, from: Ticket, to: Ticket): Promise<void> => {
  operation.caller.onPhase('move')
  const { registry } = operation.context
  registry.renameTicket(from, to)
  await markWithAttempts(operation, to)
}

export const move: ActionRunner<'move'> = async (operation, { ticket, from: former, by }) => {
  const { context } = operation
  const { registry } = context
  const from = resolveTicket(context, former)
  const [old, existing] = [registry.environment(from), registry.environment(ticket)]
  if (old === null && registry.attempts(from).length === 0) return { skipped: `${former} has no machine` }
  if (old !== null && existing !== null && from !== ticket) {
    const observed = await observe(await context.provider(old.provider), old)
    if (observed === 'running') await stop(operation, { kind: 'stop', ticket: from, by, replyTo: null })
    const fate = observed === 'gone' || observed === 'unmade' ? 'no longer exists' : 'is stopped and kept'
    return {
      skipped: `${ticket} already has a machine, ${existing.vmId}. The machine of ${from}, ${old.vmId}, ${fate}`,
    }
  }
  // An earlier try may have moved it, and died before it wrote the mark.
  if (from === ticket) await markWithAttempts(operation, from)
  else await moveEnvironment(operation, from, ticket)
  const machine = old === null ? 'its attempts' : `its machine ${old.vmId}`
  return { summary: `${former} is now ${ticket}: ${machine}, checkpoints and history moved with it` }
}
