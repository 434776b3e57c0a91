import { attemptKey, type EnvironmentKey } from '../domain.ts'
import type { Action } from '../schema/action.ts'

/** The commands that print the same JSON, and those of them that take several tickets. */
export type ChangeCommand =
  | 'create'
  | 'checkpoint'
  | 'restore'
  | 'start'
  | 'stop'
  | 'restart'
  | 'delete'
  | 'fork'
  | 'promote'
/** What the change is about, as people type it. */
export const keyOf = (change: Change): EnvironmentKey =>
  change.kind === 'promote' ? attemptKey(change.ticket, change.attempt) : change.ticket
/** An action without the members that are the same for every command. */
export type Change =
  Exclude<Action, { kind: 'status' | 'move' }> extends infer Kind
    ? Kind extends Action
      ? Omit<Kind, 'by' | 'replyTo'>
      : never
    : never
