/** How an action ended. */
import * as v from 'valibot'
import { MAX_ATTEMPTS, MAX_FORKS } from '../domain.ts'
import { branchName, described, environmentKey, prose, vmId } from './basics.ts'
import { environment, sshAddress } from './environment.ts'
import { failure } from './failure.ts'

const environmentAfter = v.nullable(environment)
const madeAttempt = v.object({
  ticket: environmentKey,
  vmId,
  status: environment.entries.status,
  branch: described(v.nullable(branchName), 'Null without a project.'),
  ssh: v.nullable(sshAddress),
})
export type MadeAttempt = v.InferOutput<typeof madeAttempt>
const deletedMachine = v.object({ ticket: described(environmentKey, 'The key that it had before.'), vmId })
export const doneOutcome = v.object({
  result: v.literal('done'),
  summary: described(prose(5_000), 'What was done, as a sentence without a full stop.'),
  environment: environmentAfter,
  // JSON can say `1e999`, which is no number when it is written again.
  seconds: described(v.pipe(v.number(), v.minValue(0), v.maxValue(1e9)), 'How long it took.'),
  log: described(v.optional(prose(20_000)), 'The last lines of the logs that were asked for: outside text.'),
  pauseMs: described(
    v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1e9))),
    'After a checkpoint of a running machine: the milliseconds for which it stood still; absent when unknown.',
  ),
  rescued: described(
    v.optional(prose(5_000)),
    'After a delete: the work that was saved first, and where. After a promote: whose work, too.',
  ),
  attempts: described(
    v.optional(v.pipe(v.array(madeAttempt), v.maxLength(MAX_FORKS))),
    'After a fork: the attempts that it made.',
  ),
  deleted: described(
    v.optional(v.pipe(v.array(deletedMachine), v.maxLength(MAX_ATTEMPTS))),
    'After a promote: the machines that it deleted. The former machine has the key of the ticket.',
  ),
  noAgent: described(
    v.optional(prose(1_000)),
    'After a create: why no agent starts, where whoever asked for it did not say.',
  ),
})
export const skippedOutcome = v.object({
  result: v.literal('skipped'),
  reason: described(prose(5_000), 'Why there was nothing to do.'),
  environment: environmentAfter,
})
export const failedOutcome = v.object({ result: v.literal('failed'), failure, environment: environmentAfter })
export const outcome = v.variant('result', [doneOutcome, skippedOutcome, failedOutcome])
export type Outcome = v.InferOutput<typeof outcome>

/** Why an action did nothing, or failed. */
export const reasonOf = (outcome: Outcome | null): string | null => {
  if (outcome?.result === 'skipped') return outcome.reason
  return outcome?.result === 'failed' ? outcome.failure.message : null
}
