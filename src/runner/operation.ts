/** One action that is being done: who called for it, and what it resulted in. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Provider } from '../../providers/provider.ts'
import type { Ticket } from '../domain.ts'
import type { EnvironmentRow, Try } from '../registry/registry.ts'
import type { Action, ActionKind, Requester } from '../schema/action.ts'
import type { Outcome } from '../schema/outcome.ts'
import { type RunnerContext, requireEnvironment } from './context.ts'

export type Caller = {
  /** The queue's id, or null for a command of the CLI. Doing one action twice has the effect of doing it once. */
  actionId: string | null
  correlation: string | null
  signal: AbortSignal
  onPhase: (phase: string) => void
}

export type Operation = {
  context: RunnerContext
  caller: Caller
  /** Its row in the journal. */
  id: number
  by: Requester
  /** Of a machine that is created; the configured size when absent. */
  size?: RunnerContext['config']['size']
  /** A new machine that was kept ready, in which the project is already, in this folder. */
  pooled?: { path: string }
  /** A start boots the machine, and gives up a memory that was saved. */
  coldStart?: boolean
}
/** An operation on an environment that exists. */
export type Target = Operation & { row: EnvironmentRow; provider: Provider }
export const targetOf = async (
  operation: Operation,
  ticket: Ticket,
  row = requireEnvironment(operation.context, ticket),
): Promise<Target> => ({ ...operation, row, provider: await operation.context.provider(row.provider) })

type Done = Extract<Outcome, { result: 'done' }>
/** `summary` is a sentence without a full stop. */
export type Result = Omit<Done, 'result' | 'environment' | 'seconds'> | { skipped: string }
export type ActionRunner<Kind extends ActionKind> = (
  operation: Operation,
  action: Extract<Action, { kind: Kind }>,
) => Promise<Result>

/** Earlier tries of this action, oldest first. A command of the CLI has none. */
export const earlierTries = ({ context, caller }: Operation): Try[] =>
  caller.actionId === null ? [] : context.registry.tries(caller.actionId)

/** Lets a Ctrl-C that arrived meanwhile take effect. */
export const throwIfCancelled = async ({ caller }: Operation): Promise<void> => {
  await nextTurn()
  caller.signal.throwIfAborted()
}
