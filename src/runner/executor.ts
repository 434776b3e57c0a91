/**
 * Does what an action asks for, under the ticket's lock, with its intent in the journal before the first outside command.
 * The one place where machines change: the runner and the CLI both come here.
 */

import { fail, failureOf } from '../errors.ts'
import { withTicketLock } from '../registry/ticket-lock.ts'
import type { Action, ActionKind } from '../schema/action.ts'
import type { Environment } from '../schema/environment.ts'
import type { Outcome } from '../schema/outcome.ts'
import { MAX_MANUAL_OPERATIONS } from '../schema/runner-protocol.ts'
import { runAction } from './actions/index.ts'
import { type RunnerContext, toEnvironment } from './context.ts'
import { endOperation } from './journal.ts'
import { isPartialFailure } from './machine.ts'
import type { Caller, Result } from './operation.ts'
import { recoverInterrupted } from './recovery.ts'

/** The phase of whoever stands in line: nothing is begun. */
export const WAITING_PHASE = 'waiting for another command on this ticket'

/** People win: what somebody did here after that which asks for the action holds, whether the bot knew of it or not. */
const byHandSince = ({ registry }: RunnerContext, { ticket, at }: Action): Result | null => {
  const last =
    at === undefined ? undefined : registry.askedByHand(MAX_MANUAL_OPERATIONS).find(one => one.ticket === ticket)
  return last !== undefined && at !== undefined && Date.parse(last.at) > Date.parse(at)
    ? { skipped: `${last.by.who ?? 'somebody'} asked for ${last.kind} by hand after that` }
    : null
}

/** How things stand when somebody let go of an action. */
const afterCancel = {
  create: 'what it had made is removed',
  start: 'the machine may still be coming up',
  stop: 'the machine may still be shutting down',
  checkpoint: 'no checkpoint is left of it',
  restore: 'the machine is as it was, or as it was kept: agent-swarm checkpoints tells',
  'delete-checkpoint': 'the checkpoint may be gone: agent-swarm checkpoints tells',
  delete: 'the machine is still there',
  status: 'nothing was changed',
} satisfies Record<ActionKind, string>

/** A create of a machine that is there already starts it. */
export const effectiveKind = <Kind extends ActionKind>(
  kind: Kind,
  environment: Pick<Environment, 'status'> | null,
): Kind | 'start' => (kind === 'create' && environment !== null && environment.status !== 'creating' ? 'start' : kind)

export const execute = async (world: RunnerContext, action: Action, caller: Caller): Promise<Outcome> => {
  const { ticket } = action
  const began = performance.now()
  const now = () => world.clock().toISOString()
  const environment = () => {
    const row = world.registry.environment(ticket)
    return row === null ? null : toEnvironment(world, row, world.clock())
  }
  let waiting: number | null = null
  const noLongerWaiting = () => {
    if (waiting !== null) world.registry.endWaiting(waiting)
    waiting = null
  }
  const locked = async (): Promise<Outcome> => {
    noLongerWaiting()
    const known = caller.actionId === null ? null : world.registry.outcomeOf(caller.actionId)
    if (known !== null) return known
    if (caller.signal.aborted) throw fail('cancelled', `${action.kind} of ${ticket}: cancelled; nothing was begun`)
    const left = world.registry.openOperations(ticket)
    const operation = world.registry.startOperation({
      actionId: caller.actionId,
      correlation: caller.correlation,
      ticket,
      kind: action.kind,
      by: action.by,
      at: now(),
    })
    const asked: Caller = {
      ...caller,
      onPhase: phase => {
        world.registry.addPhase(operation, { phase, at: now() })
        caller.onPhase(phase)
      },
    }
    let outcome: Outcome
    try {
      // Only now: until this one is in the journal, what was left half-done is theirs.
      for (const open of left)
        await recoverInterrupted(world, open, open.actionId !== null && open.actionId === caller.actionId)
      const later = byHandSince(world, action)
      const result = later ?? (await runAction({ world, asked, operation, by: action.by }, action))
      const seconds = Math.round((performance.now() - began) / 100) / 10
      outcome =
        'skipped' in result
          ? { result: 'skipped', reason: result.skipped, environment: environment() }
          : {
              result: 'done',
              summary: result.said,
              environment: environment(),
              seconds,
              ...(result.kept === undefined ? {} : { rescued: result.kept }),
            }
    } catch (error) {
      const failure = failureOf(error, `${action.kind} of ${ticket}`)
      const cancelled = asked.signal.aborted && !isPartialFailure(error)
      outcome = {
        result: 'failed',
        failure: cancelled
          ? {
              kind: 'cancelled',
              message: `${action.kind} of ${ticket}: cancelled; ${afterCancel[effectiveKind(action.kind, environment())]}`,
              remedy: null,
            }
          : failure,
        environment: environment(),
      }
    }
    endOperation(world, { id: operation, onPhase: asked.onPhase }, outcome.result, outcome)
    return outcome
  }
  try {
    return await withTicketLock(
      world.home,
      ticket,
      {
        signal: caller.signal,
        onWait: () => {
          waiting = world.registry.beginWaiting({
            ...{ pid: process.pid, ticket, kind: action.kind, by: action.by, since: now() },
          })
          caller.onPhase(WAITING_PHASE)
        },
      },
      locked,
    )
  } catch (error) {
    return { result: 'failed', failure: failureOf(error, `${action.kind} of ${ticket}`), environment: null }
  } finally {
    noLongerWaiting()
  }
}
