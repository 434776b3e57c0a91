/** The end of an operation, whoever comes to it. */

import { failureOf } from '../errors.ts'
import type { OperationRow } from '../registry/registry.ts'
import type { Outcome } from '../schema/outcome.ts'
import type { RunnerContext } from './context.ts'
import { refreshSshConfig } from './ssh/config-file.ts'

/** The end of every operation. That a file for ssh could not be brought up to date is told, and fails nothing. */
export const endOperation = (
  world: RunnerContext,
  { id, onPhase }: { id: number; onPhase: (phase: string) => void },
  result: NonNullable<OperationRow['result']>,
  outcome: Outcome | null,
): void => {
  try {
    refreshSshConfig(world)
  } catch (error) {
    const { message, remedy } = failureOf(error, 'keeping the hosts for ssh')
    onPhase([message, remedy].filter(Boolean).join('. '))
  }
  world.registry.endOperation(id, world.clock().toISOString(), result, outcome)
}
