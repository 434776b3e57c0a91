/** One action under way: what it was asked with, and what comes of it. */
import { setImmediate as turn } from 'node:timers/promises'
import type { Attempt } from '../registry/registry.ts'
import type { Action, ActionKind } from '../schema/action.ts'
import type { RunnerContext } from './context.ts'

export type Caller = {
  /** The queue's id, or null for a command of the CLI. Doing one action twice does it once. */
  actionId: string | null
  correlation: string | null
  signal: AbortSignal
  onPhase: (phase: string) => void
}

export type Operation = {
  world: RunnerContext
  asked: Caller
  operation: number
  by: Action['by']
  size?: RunnerContext['config']['size']
}
export type Result = { said: string; kept?: string | undefined } | { skipped: string }
/** What is done for one kind of action. */
export type ActionRunner<Kind extends ActionKind> = (
  work: Operation,
  action: Extract<Action, { kind: Kind }>,
) => Promise<Result>

/** Earlier attempts of this very action, oldest first. A command of the CLI has none. */
export const earlierAttempts = ({ world, asked }: Operation): Attempt[] =>
  asked.actionId === null ? [] : world.registry.attempts(asked.actionId)

/** Hears a Ctrl-C that has come meanwhile. */
export const throwIfCancelled = async ({ asked }: Operation): Promise<void> => {
  await turn()
  asked.signal.throwIfAborted()
}
