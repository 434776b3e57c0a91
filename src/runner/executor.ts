/**
 * Does what an action asks for, under its ticket's lock, with its intent in the journal before the first outside command.
 * The one place where environments change: the runner and the CLI both come here.
 */
import { isDeepStrictEqual } from 'node:util'
import { attemptKey, type EnvironmentKey, type Ticket, ticketOf } from '../domain.ts'
import { fail, failureOf } from '../errors.ts'
import { withLocks } from '../registry/lock.ts'
import type { Action, ActionKind } from '../schema/action.ts'
import type { Environment } from '../schema/environment.ts'
import type { OperationRow } from '../schema/operation.ts'
import type { Outcome } from '../schema/outcome.ts'
import { runAction } from './actions/index.ts'
import { moveEnvironment } from './actions/move.ts'
import { type RunnerContext, resolveTicket } from './context.ts'
import { endedOutcome, endOperation, environmentOf } from './journal.ts'
import { isPartialFailure } from './machine.ts'
import type { Caller, Operation, Result } from './operation.ts'
import { recoverInterrupted } from './recovery.ts'

/** The phase of an action that waits for its ticket's lock: nothing has begun. */
export const WAITING_PHASE = 'waiting for another command on this ticket'

/** The state that a cancelled action leaves. */
const afterCancel = {
  create: 'what it had created is removed',
  start: 'the machine may still be starting',
  stop: 'the machine may still be shutting down',
  restart: 'the machine may be stopped: see agent-swarm status',
  checkpoint: 'no checkpoint was made',
  restore: 'the machine is unchanged, or its previous state is a checkpoint: see agent-swarm checkpoints',
  'delete-checkpoint': 'the checkpoint may be deleted: see agent-swarm checkpoints',
  delete: 'the machine still exists',
  tell: 'the agent may have been told: see agent-swarm status',
  agent: 'the agent may already have changed: see agent-swarm status',
  move: 'the machine may already have the new key: see agent-swarm list',
  fork: 'what it had created is removed',
  promote: 'the attempt may already be the machine of the ticket: see agent-swarm list',
  status: 'nothing was changed',
} satisfies Record<ActionKind, string>

/** A create of a machine that exists starts it. */
export const effectiveKind = <Kind extends ActionKind>(
  kind: Kind,
  environment: Pick<Environment, 'status'> | null,
): Kind | 'start' => (kind === 'create' && environment !== null && environment.status !== 'creating' ? 'start' : kind)

/** `action` has the key that its environment has. `from`: the key that the environment has to be moved from first, or null. */
type Resolved = { action: Action; from: Ticket | null }

/** The issue may have got another key since the action was requested, or since its last try. */
const resolveAction = (context: RunnerContext, action: Action, { actionId }: Caller): Resolved => {
  if (action.kind === 'move') return { action, from: resolveTicket(context, action.from) }
  const ticket = resolveTicket(context, action.ticket)
  const { registry } = context
  // The queue gave an action that was begun under another key the new one, ahead of the move.
  const earlier = actionId === null ? null : registry.ticketOfAction(actionId)
  const isMoved =
    earlier !== null &&
    earlier !== ticket &&
    registry.environment(earlier) !== null &&
    registry.environment(ticket) === null
  return { action: { ...action, ticket }, from: isMoved ? earlier : null }
}

/** People win: a manual operation later than the triggering event stands, whether or not the bot knew of it. */
const laterManualOperation = ({ registry, clock }: RunnerContext, { kind, ticket, at }: Action): Result | null => {
  if (at === undefined || kind === 'move') return null
  const last = registry.lastManualOperation(ticket)
  if (last === null) return null
  const done = Date.parse(last.at)
  // A time from the future would make every event until then look old.
  return done > Date.parse(at) && done <= clock().getTime()
    ? { skipped: `${last.by.who ?? 'somebody'} ran ${last.kind} by hand after that` }
    : null
}

/** A merge deletes or stops what it promoted. The promote may have failed: then that is another machine, in which nothing was merged. */
const requirePromoted = ({ registry }: RunnerContext, action: Action): void => {
  if ((action.kind !== 'stop' && action.kind !== 'delete') || action.promoted === undefined) return
  const { kind, ticket, promoted: attempt } = action
  const row = registry.environment(ticket)
  const promoted = registry.lastPromoted(ticket)
  if (row === null || (promoted?.attempt === attempt && promoted.vmId === row.vmId)) return
  throw fail(
    'refused',
    `${kind} of ${ticket}: ${attemptKey(ticket, attempt)} is not its machine, because it was not promoted`,
    `If the machine of ${ticket} is not needed any more: agent-swarm ${kind} ${ticket}`,
  )
}

const runResolved = async (operation: Operation, { action, from }: Resolved): Promise<Result> => {
  if (from !== null && action.kind !== 'move') await moveEnvironment(operation, from, action.ticket)
  const skipped = laterManualOperation(operation.context, action)
  if (skipped !== null) return skipped
  requirePromoted(operation.context, action)
  return runAction(operation, action)
}

const failedOutcome = ({ context, caller }: Operation, { kind, ticket }: Action, error: unknown): Outcome => {
  const environment = environmentOf(context, ticket)
  const failure =
    caller.signal.aborted && !isPartialFailure(error)
      ? fail('cancelled', `${kind} of ${ticket}: cancelled; ${afterCancel[effectiveKind(kind, environment)]}`).failure
      : failureOf(error, `${kind} of ${ticket}`)
  return { result: 'failed', failure, environment }
}

/** People win: whoever goes on with an attempt that a promote dismissed keeps it. */
const keepDismissed = ({ registry }: RunnerContext, { kind, ticket, by }: Action): void => {
  const isAsked = by.via === 'cli' || by.cause === 'command'
  if (isAsked && kind !== 'delete' && kind !== 'status') registry.keep(ticket)
}

/** Another try of an action goes on, and a create goes on with the machine of one that was interrupted. */
const goesOnWith = (interrupted: OperationRow, { kind }: Action, actionId: string | null): boolean =>
  (interrupted.actionId !== null && interrupted.actionId === actionId) ||
  (interrupted.kind === 'create' && kind === 'create')

/** What an action works on, by its keys: nobody else does meanwhile. The attempts of a fork are locked when they get their keys. */
const keysOf = ({ registry }: RunnerContext, { action, from }: Resolved): EnvironmentKey[] => {
  const { kind, ticket } = action
  const own = [ticket, ...(from === null ? [] : [from, ...registry.attempts(from)])]
  if (kind === 'fork') return [ticketOf(ticket), ...own]
  return kind === 'promote' ? [...own, ...registry.attempts(ticket)] : own
}

/** Runs the action under its locks, as an operation of the journal. */
const runJournalled = async (
  context: RunnerContext,
  resolved: Resolved,
  caller: Caller,
  began: number,
): Promise<Outcome> => {
  const { registry } = context
  const { action } = resolved
  const { kind, ticket, by } = action
  const { actionId, correlation, signal } = caller
  const finished = actionId === null ? null : registry.outcomeOf(actionId)
  if (finished !== null) return finished
  await registry.unlocked()
  if (signal.aborted) throw fail('cancelled', `${kind} of ${ticket}: cancelled; nothing had begun`)
  const interrupted = [...new Set(keysOf(context, resolved))].flatMap(key => registry.openOperations(key))
  const now = () => context.clock().toISOString()
  const id = registry.startOperation({ actionId, correlation, ticket, kind, by, at: now() })
  keepDismissed(context, action)
  const onPhase = (phase: string) => {
    registry.addPhase(id, { phase, at: now() })
    caller.onPhase(phase)
  }
  const operation: Operation = { context, caller: { ...caller, onPhase }, id, by }
  let outcome: Outcome
  try {
    // Only now: until this operation was in the journal, the interrupted ones owned what they had left half-done.
    for (const open of interrupted) await recoverInterrupted(context, open, goesOnWith(open, action, actionId))
    outcome = endedOutcome(context, action, await runResolved(operation, resolved), began)
  } catch (error) {
    outcome = failedOutcome(operation, action, error)
  }
  endOperation(context, { id, onPhase }, outcome.result, outcome)
  return outcome
}

/** `execute` for a caller that holds the lock of the action's ticket. */
export const executeLocked = (context: RunnerContext, action: Action, caller: Caller): Promise<Outcome> =>
  runJournalled(context, { action, from: null }, caller, performance.now())

/** Records, for others to see, that the action waits for a lock. */
const openWaiting = (context: RunnerContext, { ticket, kind, by }: Action, onPhase: Caller['onPhase']) => {
  const { registry } = context
  let id: number | null = null
  return {
    begin: () => {
      if (id !== null) return
      id = registry.beginWaiting({
        pid: process.pid,
        ticket,
        kind,
        by,
        since: context.clock().toISOString(),
        why: null,
      })
      onPhase(WAITING_PHASE)
    },
    end: () => {
      if (id !== null) registry.endWaiting(id)
      id = null
    },
  }
}

export const execute = async (context: RunnerContext, requested: Action, caller: Caller): Promise<Outcome> => {
  const began = performance.now()
  const waiting = openWaiting(context, requested, caller.onPhase)
  try {
    while (true) {
      const resolved = resolveAction(context, requested, caller)
      const keys = keysOf(context, resolved)
      const outcome = await withLocks(
        context.home,
        keys,
        { signal: caller.signal, onWait: waiting.begin },
        async () => {
          waiting.end()
          // Meanwhile the environment may have been moved, or attempts may have come: then these are not its locks any more.
          const now = keysOf(context, resolveAction(context, requested, caller))
          return isDeepStrictEqual(now, keys) ? runJournalled(context, resolved, caller, began) : null
        },
      )
      if (outcome !== null) return outcome
    }
  } catch (error) {
    const failure = failureOf(error, `${requested.kind} of ${requested.ticket}`)
    return { result: 'failed', failure, environment: null }
  } finally {
    waiting.end()
  }
}
