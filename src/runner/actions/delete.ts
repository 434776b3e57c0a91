/** Deletes a machine with its disk and its checkpoints. Its unsaved work is rescued first, or the machine is kept. */
import type { Ticket } from '../../domain.ts'
import { type FailureError, fail, failureOf } from '../../errors.ts'
import type { Try } from '../../registry/registry.ts'
import type { OperationRow } from '../../schema/operation.ts'
import type { Outcome } from '../../schema/outcome.ts'
import type { RunnerContext } from '../context.ts'
import { recoverLost, wasChecked } from '../lost.ts'
import {
  converge,
  findUnsavedWork,
  forgetEnvironment,
  observe,
  partialFailure,
  shutDown,
  waitUntilReady,
} from '../machine.ts'
import {
  type ActionRunner,
  earlierTries,
  type Operation,
  type Result,
  type Target,
  targetOf,
  throwIfCancelled,
} from '../operation.ts'
import { describeUnsavedWork, isNothingUnsaved, toUnsavedWork, type UnsavedWorkReport } from '../rescue/unsaved-work.ts'
import { reserveToAsk } from '../room.ts'
import { runInGuest } from '../ssh/guest.ts'

/** A machine that is off is started to be asked, unless a search found nothing when it stopped. */
const findBeforeDelete = async (
  target: Target,
  mergedCommits: readonly string[] | undefined,
  onStart: () => void,
): Promise<UnsavedWorkReport> => {
  const { caller, provider, row } = target
  const nothing: UnsavedWorkReport = { known: true, repositories: [] }
  const observed = await observe(provider, row)
  if (observed === 'unmade') return nothing
  if (observed === 'gone' && (wasChecked(row) || (await recoverLost(target)) === null)) return nothing
  if (observed === 'running') return findUnsavedWork(target, mergedCommits)
  if (observed === 'stopped' && wasChecked(row)) return nothing
  await reserveToAsk(target)
  caller.onPhase('starting it to look for unsaved work')
  onStart()
  await converge(target, 'running')
  await waitUntilReady(target)
  return findUnsavedWork(target, mergedCommits)
}

/** A path for a message, which may be published: it does not show whose home directory it is in. */
const underHome = ({ config }: RunnerContext, path: string): string => {
  const { HOME } = config.environment
  return HOME !== undefined && path.startsWith(`${HOME}/`) ? `~${path.slice(HOME.length)}` : path
}

/** There is nothing to stop: the machine does not exist, or was not started, for example because the host is full. */
const changedNothing = (error: unknown): boolean => {
  const { kind, needs } = failureOf(error, '')
  return kind === 'cancelled' || kind === 'no-such-vm' || needs !== undefined
}

/** Returns a clause about the work that was saved, and where; null when there was none. Throws when work may be lost. */
const rescueWork = async (
  target: Target,
  mergedCommits: readonly string[] | undefined,
  onStart: () => void,
): Promise<string | null> => {
  const { context, caller, by, provider, row } = target
  let unsaved = await findBeforeDelete(target, mergedCommits, onStart)
  if (isNothingUnsaved(unsaved)) return null
  context.registry.setUnsavedWork(row.ticket, toUnsavedWork(unsaved))
  if (!unsaved.known) throw fail('unsaved-work', describeUnsavedWork(unsaved))
  const { rescue } = await import('../rescue/rescue.ts')
  const { signal, onPhase } = caller
  const folder = await rescue(context, row, unsaved.repositories, {
    ...{ by, signal, onPhase, saved: context.registry.project(row.ticket) },
    stream: (script, into, deadline) => runInGuest(context, provider, row.vmId, script, { into, deadline, signal }),
    lookAgain: async () => {
      unsaved = await findUnsavedWork(target, mergedCommits)
      context.registry.setUnsavedWork(row.ticket, toUnsavedWork(unsaved))
      return unsaved
    },
  })
  return `unsaved work (${describeUnsavedWork(unsaved)}) is rescued in ${underHome(context, folder)}`
}

/** Stops the machine, whose work could not be saved. Returns the failure of the delete. */
const keepMachine = async (target: Target, error: unknown): Promise<FailureError> => {
  const { context, by, row } = target
  const { ticket } = row
  context.registry.setDesired(ticket, 'stopped', by)
  await shutDown(target)
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

/** A person pressed Ctrl-C: a machine that was started to be asked is stopped again. The runner's next try, or its reconciler, does that itself. */
const stopAgain = async (target: Target): Promise<void> => {
  const { caller } = target
  const signal = new AbortController().signal
  await shutDown({ ...target, caller: { ...caller, signal } }).catch(error => {
    throw partialFailure(
      `stopping ${target.row.ticket} again, which was started to look for unsaved work`,
      error,
      `Stop it: agent-swarm stop ${target.row.ticket}`,
    )
  })
}

/**
 * Rescues what is unsaved, or keeps the machine and throws. `rescued`: the clause about what earlier tries rescued; the one about all
 * of it is returned, and null when there was nothing.
 */
const rescueOrKeep = async (
  target: Target,
  mergedCommits: readonly string[] | undefined,
  rescued: string | null,
): Promise<string | null> => {
  const { caller } = target
  let isStarted = false
  const onStart = () => {
    isStarted = true
  }
  try {
    const saved = await rescueWork(target, mergedCommits, onStart)
    return [rescued, saved].filter(clause => clause !== null).join('; ') || null
  } catch (error) {
    if (isStarted && caller.signal.aborted && caller.actionId === null) await stopAgain(target)
    if (caller.signal.aborted || changedNothing(error)) throw error
    throw await keepMachine(target, error)
  }
}

/** Whether an earlier try decided the delete, and the machine is off since. While it runs, people and agents go on working in it. */
const isDecided = async (earlier: Try | undefined, { provider, row }: Target): Promise<boolean> => {
  if (earlier?.detail.reached !== 'decided' || row.status !== 'deleting' || row.desired !== 'absent') return false
  return (await observe(provider, row)) !== 'running'
}

const removeMachine = async (target: Target): Promise<void> => {
  const { context, caller, provider, row } = target
  try {
    await converge(target, 'absent')
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

/** How a delete ends. */
const deleted = (ticket: string, rescued: string | null) => ({
  summary: `Deleted the machine of ${ticket}, its disk and its checkpoints${rescued === null ? '' : `; ${rescued}`}`,
  ...(rescued === null ? {} : { rescued }),
})

/** Why there is nothing to delete. The last delete may have rescued work, which its caller was perhaps never told. */
const noMachine = ({ context, id }: Operation, ticket: Ticket): Result => {
  const last = context.registry.operations(ticket, 2).find(operation => operation.id !== id)
  const outcome = last?.kind === 'delete' ? last.outcome : null
  const where = outcome?.result === 'done' && outcome.rescued !== undefined ? `. Its ${outcome.rescued}` : ''
  return { skipped: `${ticket} has no machine${where}` }
}

export const deleteEnvironment: ActionRunner<'delete'> = async (operation, { ticket, force, by, mergedCommits }) => {
  const { context, id } = operation
  const { registry } = context
  const row = registry.environment(ticket)
  const earlier = earlierTries(operation).at(-1)
  let rescued = earlier?.detail.rescued ?? null
  const detail = () => ({ force, ...(rescued === null ? {} : { rescued }) })
  if (row === null) {
    // An earlier try died when the machine was gone and its end was not recorded.
    const isDone = rescued !== null || (earlier?.detail.reached === 'decided' && earlier.result === 'interrupted')
    return isDone ? deleted(ticket, rescued) : noMachine(operation, ticket)
  }
  const target = await targetOf(operation, ticket, row)
  if (!force && !(await isDecided(earlier, target))) {
    registry.setDetail(id, detail())
    rescued = await rescueOrKeep(target, mergedCommits, rescued)
    // Told by the next try, should this one end here.
    registry.setDetail(id, detail())
  }
  await throwIfCancelled(operation)
  // From here on the delete is decided: after a crash it is finished, and only a machine that still runs is looked at again. One
  // commit: half of it would be a machine that nobody wants and nobody deletes.
  registry.exclusively(() => {
    registry.setDetail(id, { ...detail(), reached: 'decided' })
    registry.setDesired(ticket, 'absent', by)
    registry.setStatus(ticket, 'deleting')
  })
  await removeMachine(target)
  return deleted(ticket, rescued)
}

/**
 * Finishes the delete of a process that died after it was decided. Its outcome is the one that the process would have recorded;
 * null when the delete was not decided.
 */
export const finishDelete = async (
  operation: Operation,
  { ticket, detail, startedAt }: Pick<OperationRow, 'ticket' | 'detail' | 'startedAt'>,
): Promise<Outcome | null> => {
  if (detail?.reached !== 'decided') return null
  const { context, id } = operation
  const row = context.registry.environment(ticket)
  if (row !== null && (row.desired !== 'absent' || row.status !== 'deleting')) return null
  let rescued = detail.rescued ?? null
  if (row !== null) {
    const target = await targetOf(operation, ticket, row)
    // That may be days later: people and agents have gone on working in a machine that still runs.
    if (!detail.force && (await observe(target.provider, row)) === 'running') {
      rescued = await rescueOrKeep(target, undefined, rescued)
      if (rescued !== null) context.registry.setDetail(id, { ...detail, rescued })
    }
    await converge(target, 'absent')
  }
  const end = deleted(ticket, rescued)
  const seconds = Math.max(0, (context.clock().getTime() - Date.parse(startedAt)) / 1000)
  return { result: 'done', ...end, environment: null, seconds }
}
