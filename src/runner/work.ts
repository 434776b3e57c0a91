/** One action under way: what it was asked with, and what comes of it. */
import { setImmediate as turn } from 'node:timers/promises'
import type { Action, ActionKind } from '../domain.ts'
import type { Attempt } from '../registry/registry.ts'
import type { World } from './world.ts'

export type Asked = {
  /** The queue's id, or null for a command of the CLI. Doing one action twice does it once. */
  actionId: string | null
  correlation: string | null
  signal: AbortSignal
  onPhase: (phase: string) => void
}

export type Work = { world: World; asked: Asked; operation: number; by: Action['by']; size?: World['config']['size'] }
export type Result = { said: string; kept?: string | undefined } | { skipped: string }
/** What is done for one kind of action. */
export type Does<Kind extends ActionKind> = (work: Work, action: Extract<Action, { kind: Kind }>) => Promise<Result>

/** Earlier attempts of this very action, oldest first. A command of the CLI has none. */
export const attempts = ({ world, asked }: Work): Attempt[] =>
  asked.actionId === null ? [] : world.registry.attempts(asked.actionId)

/** Hears a Ctrl-C that has come meanwhile. */
export const heed = async ({ asked }: Work): Promise<void> => {
  await turn()
  asked.signal.throwIfAborted()
}
