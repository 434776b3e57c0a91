/** Deletes a machine with its disk and its checkpoints. Its unsaved work is rescued first, or the machine is kept. */
import type { Provider } from '../../../providers/provider.ts'
import { type FailureError, fail, failureOf } from '../../errors.ts'
import type { Attempt, EnvironmentRow } from '../../registry/registry.ts'
import type { RunnerContext } from '../context.ts'
import {
  converge,
  findUnsavedWork,
  forgetEnvironment,
  observe,
  partialFailure,
  shutDown,
  waitUntilReady,
} from '../machine.ts'
import { type ActionRunner, earlierAttempts, type Operation, throwIfCancelled } from '../operation.ts'
import { describeUnsavedWork, isNothingUnsaved, toUnsavedWork, type UnsavedWorkReport } from '../rescue/unsaved-work.ts'
import { openGuest } from '../ssh/guest.ts'

const SAVE_DEADLINE_MS = 30 * 60_000

/** Starts a machine that was stopped with unsaved work in it. */
const findBeforeDelete = async (
  operation: Operation,
  provider: Provider,
  row: EnvironmentRow,
): Promise<UnsavedWorkReport> => {
  const observed = await observe(provider, row)
  if (observed === 'gone' || observed === 'unmade') return { known: true, repositories: [] }
  if (observed === 'running') return findUnsavedWork(operation, provider, row)
  const earlier = row.unsavedWork
  if (earlier === null) return { known: false, reason: 'the machine is stopped, and was not checked when it stopped' }
  if (!earlier.known) return earlier
  if (isNothingUnsaved(earlier)) return { known: true, repositories: [] }
  operation.caller.onPhase('starting it to save its work')
  await converge(operation, provider, row, 'running')
  await waitUntilReady(operation, provider, row)
  return findUnsavedWork(operation, provider, row)
}

/** A path for a message, which may be published: it does not show whose home directory it is in. */
const underHome = ({ config }: RunnerContext, path: string): string => {
  const { HOME } = config.environment
  return HOME !== undefined && path.startsWith(`${HOME}/`) ? `~${path.slice(HOME.length)}` : path
}

/** Returns a clause about the work that was saved, and where; null when there was none. Throws when work may be lost. */
const rescueWork = async (operation: Operation, provider: Provider, row: EnvironmentRow): Promise<string | null> => {
  const { context, caller, by } = operation
  const unsaved = await findBeforeDelete(operation, provider, row)
  if (isNothingUnsaved(unsaved)) return null
  context.registry.setUnsavedWork(row.ticket, toUnsavedWork(unsaved))
  if (!unsaved.known) throw fail('unsaved-work', describeUnsavedWork(unsaved))
  const { rescue } = await import('../rescue/rescue.ts')
  const guest = openGuest(context.run, context.home)
  const folder = await rescue(context, row, unsaved.repositories, {
    by,
    signal: caller.signal,
    onPhase: caller.onPhase,
    stream: (script, into) =>
      guest.stream(provider, row.vmId, script, { into, deadline: SAVE_DEADLINE_MS, signal: caller.signal }),
  })
  return `unsaved work (${describeUnsavedWork(unsaved)}) is rescued in ${underHome(context, folder)}`
}

/** Stops the machine, whose work could not be saved. Returns the failure of the delete. */
const keepMachine = async (
  operation: Operation,
  provider: Provider,
  row: EnvironmentRow,
  error: unknown,
): Promise<FailureError> => {
  const { context, by } = operation
  const { ticket } = row
  context.registry.setDesired(ticket, 'stopped', by)
  await shutDown(operation, provider, row)
  const unsaved = context.registry.environment(ticket)?.unsavedWork ?? null
  const work =
    unsaved?.known === true && !isNothingUnsaved(unsaved)
      ? `${describeUnsavedWork(unsaved)}, which could not be saved: `
      : ''
  return fail(
    'unsaved-work',
    `${ticket} is kept and stopped: ${work}${failureOf(error, 'saving its work').message}`,
    `Start it and save the work: agent-swarm start ${ticket}. Or delete it with the work: agent-swarm delete ${ticket} --force`,
    error,
  )
}

/** Whether an earlier attempt decided the delete, and nobody can have worked in the machine since. */
const isDecided = async (earlier: Attempt | undefined, provider: Provider, row: EnvironmentRow): Promise<boolean> => {
  if (earlier?.detail.reached !== 'decided' || row.status !== 'deleting' || row.desired !== 'absent') return false
  // After a failure, which was reported, people may have gone on working.
  return earlier.result === 'interrupted' || (await observe(provider, row)) !== 'running'
}

const removeMachine = async (operation: Operation, provider: Provider, row: EnvironmentRow): Promise<void> => {
  const { context, caller } = operation
  try {
    await converge(operation, provider, row, 'absent')
  } catch (error) {
    if (!caller.signal.aborted) throw error
    // A cancellation after the decision does not leave half a machine either.
    await provider.deleteVm(row.vmId).catch(deleteError => {
      throw partialFailure(
        `deleting ${row.ticket}, which had begun`,
        deleteError,
        `Try again: agent-swarm delete ${row.ticket} --force`,
      )
    })
    forgetEnvironment(context, row)
  }
}

const deleted = (ticket: string, rescued: string | null) => ({
  summary: `Deleted the machine of ${ticket}, its disk and its checkpoints${rescued === null ? '' : `; ${rescued}`}`,
  rescued: rescued ?? undefined,
})

export const deleteEnvironment: ActionRunner<'delete'> = async (operation, { ticket, force, by }) => {
  const { context, id, caller } = operation
  const { registry } = context
  const row = registry.environment(ticket)
  const earlier = earlierAttempts(operation).at(-1)
  let rescued = earlier?.detail.rescued ?? null
  const detail = () => ({ force, ...(rescued === null ? {} : { rescued }) })
  if (row === null) return rescued === null ? { skipped: `${ticket} has no machine` } : deleted(ticket, rescued)
  const provider = await context.provider(row.provider)
  if (!force && !(await isDecided(earlier, provider, row))) {
    registry.setDetail(id, detail())
    try {
      const saved = await rescueWork(operation, provider, row)
      rescued = [rescued, saved].filter(clause => clause !== null).join('; ') || null
    } catch (error) {
      if (caller.signal.aborted || failureOf(error, '').kind === 'cancelled') throw error
      throw await keepMachine(operation, provider, row, error)
    }
  }
  await throwIfCancelled(operation)
  // From here on the delete is decided: after a crash it continues without looking for work again.
  registry.setDetail(id, { ...detail(), reached: 'decided' })
  registry.setDesired(ticket, 'absent', by)
  registry.setStatus(ticket, 'deleting')
  await removeMachine(operation, provider, row)
  return deleted(ticket, rescued)
}
