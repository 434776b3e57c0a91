/** What each kind of action does. */
import type { Action, ActionKind } from '../../schema/action.ts'
import type { ActionRunner, Operation, Result } from '../operation.ts'
import { isAsleep, needsWake } from '../wake.ts'
import { agent } from './agent.ts'
import { checkpoint } from './checkpoint.ts'
import { create } from './create.ts'
import { deleteEnvironment } from './delete.ts'
import { deleteCheckpoint } from './delete-checkpoint.ts'
import { fork } from './fork.ts'
import { move } from './move.ts'
import { promote } from './promote.ts'
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
  fork,
  promote,
  status,
} satisfies { [Kind in ActionKind]: ActionRunner<Kind> }

/** Starts a machine that sleeps, for an action that needs it. Returns a sentence about it, or nothing. */
const wake = async (operation: Operation, { ticket, by }: Action): Promise<string> => {
  const row = operation.context.registry.environment(ticket)
  // A machine that runs costs nothing here.
  if (row?.status !== 'stopped') return ''
  const provider = await operation.context.provider(row.provider)
  if (!(await isAsleep(operation.context, provider, row))) return ''
  const result = await start(operation, { kind: 'start', ticket, by, replyTo: null })
  return 'summary' in result ? `. It slept: ${result.summary}` : ''
}

export const runAction = async (operation: Operation, action: Action): Promise<Result> => {
  const woken = needsWake(action) ? await wake(operation, action) : ''
  // The table's type guarantees that each kind gets its own action.
  const run = runners[action.kind] as (operation: Operation, action: Action) => Promise<Result>
  const result = await run(operation, action)
  return 'summary' in result ? { ...result, summary: `${result.summary}${woken}` } : result
}
