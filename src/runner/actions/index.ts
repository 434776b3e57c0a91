/** One table: kind of action -> what is done for it. */
import type { Action, ActionKind } from '../../domain.ts'
import type { Does, Result, Work } from '../work.ts'
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
  [Kind in ActionKind]: Does<Kind>
}

export const perform = (work: Work, action: Action): Promise<Result> =>
  // The table's type says that each kind gets its own action.
  (does[action.kind] as (work: Work, action: Action) => Promise<Result>)(work, action)
