/**
 * Stops a machine, and records what unsaved work is in it. One that is idle is saved with its memory where that is possible, and one
 * whose memory a person wants to keep.
 */
import { failureOf } from '../../errors.ts'
import { findUnsavedWork, observe, recordObserved, shutDown, want } from '../machine.ts'
import { type ActionRunner, type Result, type Target, targetOf } from '../operation.ts'
import { toUnsavedWork } from '../rescue/unsaved-work.ts'
import { isAsleep, requireSave } from '../wake.ts'

/** Notes that the machine sleeps: from then on whoever needs it starts it. */
const noteAsleep = ({ context, row }: Target, state: 'saved' | 'stopped'): void => {
  const { registry, clock } = context
  const report = { state, at: clock().toISOString() }
  registry.setIdleness(row.ticket, { idleMs: 0, operation: registry.lastOperation(row.ticket), report, ssh: row.ssh })
}

/** Its processes go on after it: what work is in it is not looked for, and a delete wakes it to ask. */
const save = async (target: Target, idle: boolean): Promise<Result> => {
  const { context, caller, provider, row } = target
  const { registry } = context
  const before = registry.idleness(row.ticket)
  caller.onPhase('save')
  registry.setUnsavedWork(row.ticket, null)
  // First: after a crash, one that runs has no note any more, and one that is off has it.
  noteAsleep(target, 'saved')
  try {
    await provider.save?.(row.vmId)
  } catch (error) {
    if ((await observe(provider, row).catch(() => null)) !== 'stopped') {
      registry.setIdleness(row.ticket, before)
      throw error
    }
    caller.onPhase(`the hypervisor reported: ${failureOf(error, 'saving it').message}`)
  }
  // Not earlier: whoever brings machines to what they should be would have shut it down.
  want(target, 'stopped')
  recordObserved(context, row, 'stopped')
  registry.setAddress(row.ticket, null)
  const why = idle ? ', since nobody used it,' : ''
  const way = idle ? '' : `. It goes on where it is: agent-swarm start ${row.ticket}`
  return { summary: `The memory of ${row.ticket} is saved${why} and the machine is off${way}` }
}

export const stop: ActionRunner<'stop'> = async (
  operation,
  { ticket, mergedCommits, idle = false, save: keepsMemory = false },
) => {
  const { context } = operation
  const target = await targetOf(operation, ticket)
  const { provider, row } = target
  const observed = await observe(provider, row)
  if (keepsMemory) requireSave(provider, ticket)
  if ((keepsMemory || (idle && provider.save !== undefined)) && observed === 'running') return save(target, idle)
  want(target, 'stopped')
  if (observed === 'stopped') {
    recordObserved(context, row, 'stopped')
    const saved = (await isAsleep(context, provider, row)) ? ', and starts by itself when somebody needs it' : ''
    return { skipped: `${ticket} is already stopped${saved}` }
  }
  const unsaved = observed === 'running' ? await findUnsavedWork(target, mergedCommits) : null
  await shutDown(target)
  // Not earlier: while it runs, more work may be done in it.
  if (unsaved !== null) context.registry.setUnsavedWork(ticket, toUnsavedWork(unsaved))
  if (idle) noteAsleep(target, 'stopped')
  return { summary: `${ticket} is stopped; its disk and checkpoints are kept` }
}
