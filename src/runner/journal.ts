import { failureOf } from '../errors.ts'
import type { OperationRow } from '../schema/operation.ts'
import type { Outcome } from '../schema/outcome.ts'
import type { RunnerContext } from './context.ts'
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
