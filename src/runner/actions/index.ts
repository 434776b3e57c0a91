/** One table: kind of action -> what is done for it. */
import type { Action, ActionKind } from '../../schema/action.ts'
import type { ActionRunner, Operation, Result } from '../operation.ts'
import { checkpoint } from './checkpoint.ts'
import { create } from './create.ts'
import { deleteEnvironment } from './delete.ts'
import { deleteCheckpoint } from './delete-checkpoint.ts'
import { restore } from './restore.ts'
import { start } from './start.ts'
import { status } from './status.ts'
import { stop } from './stop.ts'

const does = {
  create,
  start,
  stop,
  checkpoint,
  restore,
  'delete-checkpoint': deleteCheckpoint,
  delete: deleteEnvironment,
  status,
} satisfies {
  [Kind in ActionKind]: ActionRunner<Kind>
}

export const runAction = (work: Operation, action: Action): Promise<Result> =>
  // The table's type says that each kind gets its own action.
  (does[action.kind] as (work: Operation, action: Action) => Promise<Result>)(work, action)
