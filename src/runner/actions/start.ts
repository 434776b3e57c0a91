/** Starts a machine, or lets a paused one go on, and waits until it answers. */
import { observe, pausedReason, want } from '../machine.ts'
import { type ActionRunner, targetOf } from '../operation.ts'
import { followProject } from '../project/follow.ts'
import { reserveToStart } from '../room.ts'
import { startMachine, waitAndSetRight } from '../wake.ts'

export const start: ActionRunner<'start'> = async (operation, { ticket }) => {
  const { registry } = operation.context
  const target = await targetOf(operation, ticket)
  const { provider, row } = target
  const observed = await observe(provider, row)
  if (observed === 'stopped') await reserveToStart(target)
  want(target, 'running')
  const paused = observed === 'running' ? await pausedReason(provider, row) : null
  if (paused !== null) {
    operation.caller.onPhase('resume')
    await provider.startVm(row.vmId)
    return { summary: `${ticket} is running again; it was paused (${paused})${await waitAndSetRight(target)}` }
  }
  const isReachable = row.ssh !== null || provider.runInGuest !== undefined
  if (observed === 'running' && row.status === 'running' && isReachable)
    return { skipped: `${ticket} is already running` }
  const { wasSaved, note } = await startMachine(target)
  registry.setUnsavedWork(ticket, null)
  await followProject(await targetOf(operation, ticket))
  return { summary: `${ticket} is running${wasSaved ? ' again, with its saved memory' : ''}${note}` }
}
