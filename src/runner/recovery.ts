/** What becomes of an operation whose process died. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { isWithin } from '../clock.ts'
import type { Ticket } from '../domain.ts'
import { failureOf } from '../errors.ts'
import { removeUnfinished } from '../files.ts'
import { ifUnlocked } from '../registry/lock.ts'
import type { Failure } from '../schema/failure.ts'
import type { OperationRow } from '../schema/operation.ts'
import type { Outcome } from '../schema/outcome.ts'
import { finishDelete } from './actions/delete.ts'
import { markAll, markMachine } from './actions/move.ts'
import { syncCheckpoints } from './checkpoints.ts'
import type { RunnerContext } from './context.ts'
import { endOperation, environmentOf } from './journal.ts'
import { recoveryStep } from './lifecycle.ts'
import { observe, recordObserved, undoCreate } from './machine.ts'
import { type Operation, type Target, targetOf } from './operation.ts'
import { sweepKeys } from './ssh/keys.ts'
import { removeDeadMachines } from './temporary-machines.ts'

/** An operation of the queue is left to the queue, which hands its action out again. After this time the queue has given up. */
const LEFT_TO_QUEUE_MS = 60 * 60_000

export const isLeftToQueue = (
  { actionId, startedAt }: Pick<OperationRow, 'actionId' | 'startedAt'>,
  now: Date,
): boolean => actionId !== null && isWithin(Date.parse(startedAt), LEFT_TO_QUEUE_MS, now.getTime())

/** Returns the outcome of an operation that is finished; null when it is not. */
const recoverEnvironment = async (operation: Operation, interrupted: OperationRow): Promise<Outcome | null> => {
  const { context } = operation
  const { ticket, kind, detail } = interrupted
  if (kind === 'promote') return recoverPromote(operation, ticket, detail)
  const finished = kind === 'delete' ? await finishDelete(operation, interrupted) : null
  const row = context.registry.environment(ticket)
  if (row === null) return finished
  const target = await targetOf(operation, ticket, row)
  if (recoveryStep(row, interrupted) === 'undo') {
    await undoCreate(target)
    return null
  }
  const observed = await observe(target.provider, row)
  if (observed !== 'running' && observed !== 'stopped') return null
  recordObserved(context, row, observed)
  // A memory that no checkpoint has may be as large as the guest's. Where this fails, the next checkpoint does it.
  if (kind === 'checkpoint' || kind === 'fork') await target.provider.settle?.(row.vmId).catch(() => {})
  await syncCheckpoints(target)
  // Until it ended, the mark may have been the former one, or that of the checkpoint.
  if (kind === 'move' || kind === 'restore') await markMachine(target)
  // Its clock is that of the checkpoint, or of the saved memory.
  if ((kind === 'restore' || detail?.wakes === true) && observed === 'running') await setRightAgain(target)
  return null
}

/** The reconciler deletes the machines that go. */
const recoverPromote = async (
  operation: Operation,
  ticket: Ticket,
  detail: OperationRow['detail'],
): Promise<Outcome | null> => {
  if (detail?.reached !== 'decided') return null
  const { attempts = [], former } = detail
  await markAll(operation, [ticket, ...attempts])
  const names = attempts.map(key => (key === former ? `the former machine (now ${key})` : key))
  const summary = `An attempt is now the machine of ${ticket}${names.length === 0 ? '' : `; ${names.join(', ')} will be deleted`}`
  return { result: 'done', summary, environment: environmentOf(operation.context, ticket), seconds: 0 }
}

/** A restore or wake that was killed may have left the machine paused, and with the clock of before. */
const setRightAgain = async (target: Target): Promise<void> => {
  const { provider, row } = target
  const vm = (await provider.listVms()).find(({ vmId }) => vmId === row.vmId)
  if (vm?.pauseCause === 'interrupted') await provider.startVm(row.vmId)
  else if (vm?.paused !== undefined) return
  await (await import('./after-restore.ts')).setRight(target)
}

/**
 * Recovers one operation under its ticket's lock. `isSame`: the action that is about to run goes on with it. Returns its outcome
 * when it was finished, and null when it stays interrupted.
 */
export const recoverInterrupted = async (
  context: RunnerContext,
  interrupted: OperationRow,
  isSame: boolean,
): Promise<Outcome | null> => {
  const { id, by } = interrupted
  const onPhase = (phase: string) => context.registry.addPhase(id, { phase, at: context.clock().toISOString() })
  const caller = { actionId: null, correlation: null, signal: new AbortController().signal, onPhase }
  const outcome = isSame ? null : await recoverEnvironment({ context, caller, id, by }, interrupted)
  endOperation(context, { id, onPhase }, outcome?.result ?? 'interrupted', outcome)
  return outcome
}

/** `ticket` null: what could not be recovered belongs to none, for example the machine of a killed build. */
export type Unrecovered = { ticket: Ticket | null; failure: Failure }

/**
 * Recovers what other processes left when they died: called at every start of a runner, and before every command of the CLI
 * that changes something. Returns what cannot be recovered now; the next call tries it again. `onFinished`: what was finished, as a
 * sentence without a full stop. `except`: the ticket of the command, which recovers it itself.
 */
export const recoverAll = async (
  context: RunnerContext,
  onFinished: (ticket: Ticket, summary: string) => void = () => {},
  except: Ticket | null = null,
): Promise<Unrecovered[]> => {
  const { registry, home, clock } = context
  removeUnfinished(home)
  sweepKeys(home, vmId => registry.environments().some(row => row.vmId === vmId && row.status === 'creating'))
  if (existsSync(join(home, 'rescued'))) {
    const { sweepRescues } = await import('./rescue/list.ts')
    await sweepRescues(home, (ticket, work) => ifUnlocked(home, ticket, work))
  }
  const unrecovered: Unrecovered[] = await removeDeadMachines(context)
  for (const operation of registry.openOperations()) {
    const { id, ticket } = operation
    if (ticket === except || isLeftToQueue(operation, clock())) continue
    try {
      await ifUnlocked(home, ticket, async () => {
        const open = registry.openOperations(ticket).find(row => row.id === id)
        const outcome = open === undefined ? null : await recoverInterrupted(context, open, false)
        if (outcome?.result === 'done') onFinished(ticket, outcome.summary)
      })
    } catch (error) {
      unrecovered.push({ ticket, failure: failureOf(error, `recovering ${ticket} after a crash`) })
    }
  }
  return unrecovered
}
