/** How an action ended. */
import * as v from 'valibot'
import { MAX_FORKS } from '../domain.ts'
import { branchName, described, environmentKey, prose } from './basics.ts'
import { environment } from './environment.ts'
import { failure } from './failure.ts'

const environmentAfter = v.nullable(environment)
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
  attempts: described(
    v.optional(
      v.pipe(v.array(v.object({ ticket: environmentKey, branch: v.nullable(branchName) })), v.maxLength(MAX_FORKS)),
    ),
    'After a fork: the attempts that it made, and their branches; null where there is no project.',
  ),
  rescued: described(v.optional(prose(5_000)), 'After a delete: the work that was saved first, and where.'),
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
