import type { EnvironmentKey } from '../domain.ts'
import { failureOf } from '../errors.ts'
import type { ActionKind } from '../schema/action.ts'
import type { Environment } from '../schema/environment.ts'
import type { OperationRow } from '../schema/operation.ts'
import type { Outcome } from '../schema/outcome.ts'
import { type RunnerContext, toEnvironment } from './context.ts'
import type { Operation, Result } from './operation.ts'
import { refreshSshConfig } from './ssh/config-file.ts'

/** Ends an operation, interrupted ones too. A file for ssh that could not be updated is reported, and fails nothing. */
export const endOperation = (
  context: RunnerContext,
  { id, onPhase }: { id: number; onPhase: (phase: string) => void },
  result: NonNullable<OperationRow['result']>,
  outcome: Outcome | null,
): void => {
  try {
    refreshSshConfig(context)
  } catch (error) {
    const { message, remedy } = failureOf(error, 'updating the hosts for ssh')
    onPhase([message, remedy].filter(Boolean).join('. '))
  }
  context.registry.endOperation(id, context.clock().toISOString(), result, outcome)
}

export const environmentOf = (context: RunnerContext, key: EnvironmentKey): Environment | null => {
  const row = context.registry.environment(key)
  return row === null ? null : toEnvironment(context, row, context.clock())
}

/** `began`: monotonic. */
export const endedOutcome = (
  context: RunnerContext,
  { ticket }: { ticket: EnvironmentKey },
  result: Result,
  began: number,
): Outcome => {
  const environment = environmentOf(context, ticket)
  if ('skipped' in result) return { result: 'skipped', reason: result.skipped, environment }
  const { summary, rescued, log, pauseMs, attempts, deleted, noAgent } = result
  const seconds = Math.round((performance.now() - began) / 100) / 10
  const more = {
    ...(rescued === undefined ? {} : { rescued }),
    ...(log === undefined ? {} : { log }),
    ...(pauseMs === undefined ? {} : { pauseMs }),
    ...(attempts === undefined ? {} : { attempts }),
    ...(deleted === undefined ? {} : { deleted }),
    ...(noAgent === undefined ? {} : { noAgent }),
  }
  return { result: 'done', summary, environment, seconds, ...more }
}

/** A part of an operation, with a row of its own in the journal, on an environment whose lock the operation holds. */
export const runPart = async (
  operation: Operation,
  { kind, ticket }: { kind: ActionKind; ticket: EnvironmentKey },
  work: (part: Operation) => Promise<Result>,
): Promise<Outcome> => {
  const { context, caller, by } = operation
  const began = performance.now()
  const at = context.clock().toISOString()
  const { correlation } = caller
  const id = context.registry.startOperation({ actionId: null, correlation, ticket, kind, by, at })
  let outcome: Outcome
  try {
    outcome = endedOutcome(context, { ticket }, await work({ ...operation, id }), began)
  } catch (error) {
    const environment = environmentOf(context, ticket)
    outcome = { result: 'failed', failure: failureOf(error, `${kind} of ${ticket}`), environment }
  }
  endOperation(context, { id, onPhase: caller.onPhase }, outcome.result, outcome)
  return outcome
}
