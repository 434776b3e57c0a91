/** What becomes of an operation whose process died in it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { OperationRow } from '../registry/registry.ts'
import { ifUnlocked } from '../registry/ticket-lock.ts'
import { adoptCheckpoints } from './checkpoints.ts'
import { endOperation } from './journal.ts'
import { forget, observe, undoCreate } from './machine.ts'
import type { World } from './world.ts'

/** Settles one, under its ticket's lock. `same`: the action that goes on now is that one. */
export const settleInterrupted = async (world: World, operation: OperationRow, same: boolean): Promise<void> => {
  const row = world.registry.environment(operation.ticket)
  if (row !== null && !same) {
    const provider = await world.provider(row.provider)
    const observed = await observe(provider, row)
    if (row.status === 'creating') await undoCreate(world, provider, row)
    else if (row.desired === 'absent' && row.status === 'deleting') {
      await provider.deleteVm(row.vmId)
      forget(world, row)
    } else if (observed === 'running' || observed === 'stopped') {
      world.registry.setStatus(row.ticket, observed)
      await adoptCheckpoints(world, provider, row)
    }
  }
  const { id } = operation
  const onPhase = (phase: string) => world.registry.addPhase(id, { phase, at: world.clock().toISOString() })
  endOperation(world, { id, onPhase }, 'interrupted', null)
}

/**
 * Settles what other processes left when they died: called at every start of a runner and before every changing command
 * of the CLI. An operation of the queue is left to the queue, which hands its action out again (`queueToo` false).
 */
export const sweep = async (world: World, { queueToo }: { queueToo: boolean }): Promise<void> => {
  if (existsSync(join(world.home, 'rescued'))) {
    const { sweepRescues } = await import('./rescue.ts')
    await sweepRescues(world.home, (ticket, work) => ifUnlocked(world.home, ticket, work))
  }
  for (const operation of world.registry.openOperations()) {
    if (operation.actionId !== null && !queueToo) continue
    await ifUnlocked(world.home, operation.ticket, async () => {
      const still = world.registry.openOperations(operation.ticket).find(one => one.id === operation.id)
      if (still !== undefined) await settleInterrupted(world, still, false)
    })
  }
}
