/** What each kind of action does. */
import type { Action, ActionKind } from '../../schema/action.ts'
import type { ActionRunner, Operation, Result } from '../operation.ts'
import { agent } from './agent.ts'
import { checkpoint } from './checkpoint.ts'
import { create } from './create.ts'
import { deleteEnvironment } from './delete.ts'
import { deleteCheckpoint } from './delete-checkpoint.ts'
import { move } from './move.ts'
import { restart } from './restart.ts'
import { restore } from './restore.ts'
import { start } from './start.ts'
import { status } from './status.ts'
import { stop } from './stop.ts'
import { tell } from './tell.ts'

const runners = {
  create,
  start,
  stop,
  restart,
  checkpoint,
  restore,
  'delete-checkpoint': deleteCheckpoint,
  delete: deleteEnvironment,
  tell,
  agent,
  move,
  status,
} satisfies { [Kind in ActionKind]: ActionRunner<Kind> }

export const runAction = (operation: Operation, action: Action): Promise<Result> =>
  // The table's type guarantees that each kind gets its own action.
  (runners[action.kind] as (operation: Operation, action: Action) => Promise<Result>)(operation, action)
