/** What becomes of an operation whose process died in it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Ticket } from '../domain.ts'
import { failureOf } from '../errors.ts'
import type { OperationRow } from '../registry/registry.ts'
import { ifUnlocked } from '../registry/ticket-lock.ts'
import type { Failure } from '../schema/failure.ts'
import { syncCheckpoints } from './checkpoints.ts'
import type { RunnerContext } from './context.ts'
import { endOperation } from './journal.ts'
import { forgetEnvironment, observe, recordObserved, undoCreate } from './machine.ts'
import { sweepKeys } from './ssh/guest.ts'

/** An operation of the queue is left to the queue, which hands its action out again: after so long, it has given it up. */
const LEFT_TO_QUEUE_MS = 60 * 60_000

/** Settles one, under its ticket's lock. `same`: the action that goes on now is that one. */
export const recoverInterrupted = async (
  world: RunnerContext,
  operation: OperationRow,
  same: boolean,
): Promise<void> => {
  const row = world.registry.environment(operation.ticket)
  if (row !== null && !same) {
    const provider = await world.provider(row.provider)
    const observed = await observe(provider, row)
    if (row.status === 'creating' || (row.status === 'failed' && operation.kind === 'create'))
      await undoCreate(world, provider, row)
    else if (operation.kind === 'delete' && row.desired === 'absent' && row.status === 'deleting') {
      await provider.deleteVm(row.vmId)
      forgetEnvironment(world, row)
    } else if (observed === 'running' || observed === 'stopped') {
      recordObserved(world, row, observed)
      await syncCheckpoints(world, provider, row)
    }
  }
  const { id } = operation
  const onPhase = (phase: string) => world.registry.addPhase(id, { phase, at: world.clock().toISOString() })
  endOperation(world, { id, onPhase }, 'interrupted', null)
}

/**
 * Settles what other processes left when they died: called at every start of a runner and before every changing command
 * of the CLI. Returns what could not be settled now, and is tried again the next time.
 */
export const recoverAll = async (world: RunnerContext): Promise<{ ticket: Ticket; failure: Failure }[]> => {
  sweepKeys(world.home)
  if (existsSync(join(world.home, 'rescued'))) {
    const { sweepRescues } = await import('./rescue/rescue.ts')
    await sweepRescues(world.home, (ticket, work) => ifUnlocked(world.home, ticket, work))
  }
  const unsettled = []
  for (const { id, ticket, actionId, startedAt } of world.registry.openOperations()) {
    if (actionId !== null && world.clock().getTime() - Date.parse(startedAt) < LEFT_TO_QUEUE_MS) continue
    const settle = async () => {
      const still = world.registry.openOperations(ticket).find(one => one.id === id)
      if (still !== undefined) await recoverInterrupted(world, still, false)
    }
    try {
      await ifUnlocked(world.home, ticket, settle)
    } catch (error) {
      unsettled.push({ ticket, failure: failureOf(error, `settling what was left of ${ticket}`) })
    }
  }
  return unsettled
}
