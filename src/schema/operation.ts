/** The journal's operations, what runs or waits now, and the work that was rescued, as the registry and the CLI have them. */
import * as v from 'valibot'
import { actionKinds, progress, requester } from './action.ts'
import { checkpointName, count, described, environmentKey, machineSize, providerName, time, vmId } from './basics.ts'
import { outcome } from './outcome.ts'

const text = v.string()

/** What the operation resolved before it began, so that another attempt does the same. */
const operationDetail = v.object({
  name: described(v.optional(checkpointName), 'Name of the checkpoint.'),
  keptAs: described(v.optional(checkpointName), 'The checkpoint that a restore made first.'),
  force: v.optional(v.boolean()),
  reserves: described(
    v.optional(v.object({ vmId, ...machineSize.entries })),
    'Room that nobody else gets while the operation runs.',
  ),
  rescued: described(v.optional(text), 'The work that a delete rescued, and where.'),
  reached: described(
    v.optional(v.picklist(['decided', 'restored', 'forked'])),
    'The last completed step of a delete, restore, fork or promote; it is not repeated.',
  ),
  wakes: described(v.optional(v.boolean()), "The machine's saved memory comes back, and its clock is set then."),
  attempts: described(
    v.optional(v.array(environmentKey)),
    'The attempts that a fork makes, or that go since another one was promoted.',
  ),
  promoted: described(
    v.optional(v.object({ attempt: count, vmId })),
    'The attempt that a promote made the machine of the ticket, and that machine.',
  ),
  former: described(
    v.optional(environmentKey),
    'The key that a promote gave the former machine, which is one of `attempts`.',
  ),
})
export type OperationDetail = v.InferOutput<typeof operationDetail>

export const operation = v.object({
  id: count,
  actionId: described(v.nullable(text), "Id of the action in the bot's queue; null for a command."),
  ticket: environmentKey,
  vmId: v.nullable(vmId),
  kind: v.picklist(actionKinds),
  detail: v.nullable(operationDetail),
  by: requester,
  startedAt: time,
  phases: described(v.array(progress), 'Oldest first.'),
  endedAt: v.nullable(time),
  result: described(v.nullable(v.picklist(['done', 'skipped', 'failed', 'interrupted'])), 'Null while it runs.'),
  outcome: v.nullable(outcome),
})
export type OperationRow = v.InferOutput<typeof operation>

export const runningOperation = v.object({
  ticket: environmentKey,
  kind: text,
  by: requester,
  startedAt: time,
  phase: v.nullable(progress),
  interrupted: described(v.boolean(), 'Its process died. The next command on the ticket, or the runner, recovers it.'),
})
export type RunningOperation = v.InferOutput<typeof runningOperation>
export const waitingAction = v.object({
  ticket: environmentKey,
  kind: text,
  by: requester,
  since: time,
  why: text,
})
export type WaitingAction = v.InferOutput<typeof waitingAction>

export const rescued = v.object({
  name: described(text, 'For `rescued show` and `rescued restore`.'),
  ticket: environmentKey,
  savedAt: time,
  folder: described(text, 'Holds the bundles, and rescued.json with commands that restore the work by hand.'),
  bytes: described(v.nullable(count), 'Size of its bundles; null when rescued.json cannot be read.'),
  repositories: described(v.nullable(v.array(text)), 'Their paths in the deleted machine.'),
})
export type Rescued = v.InferOutput<typeof rescued>

export const poolStanding = v.object({
  pool: described(text, 'The image, or the repository; empty for one of a registry that was restored.'),
  ready: count,
  wanted: described(count, 'How many the settings want ready.'),
  machines: v.array(
    v.object({
      vmId,
      provider: providerName,
      state: described(
        v.picklist(['filling', 'template', 'ready', 'leaving', 'claimed']),
        '`filling`: it is being made. `template`: others are forked from it. `leaving`: it is being deleted.',
      ),
      hold: described(v.picklist(['memory', 'disk']), 'Where its memory is.'),
      since: described(time, 'Of the state.'),
    }),
  ),
  problem: described(
    v.nullable(text),
    'Why no more are made ready, or why a create could not take one, at the last attempt.',
  ),
})
export type PoolStanding = v.InferOutput<typeof poolStanding>
