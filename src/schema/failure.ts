/** A failure as data. Its kinds, and what each allows, are in domain.ts. */
import * as v from 'valibot'
import { type FailureKind, failureKinds } from '../domain.ts'
import { described, machineSize, prose } from './basics.ts'

/** It never holds a secret. */
export const failure = v.pipe(
  v.object({
    // A newer runner may know more kinds: its outcome must not be lost for that.
    kind: v.fallback(v.picklist(Object.keys(failureKinds) as FailureKind[]), 'unknown'),
    message: described(prose(20_000), 'What was being done, and what went wrong.'),
    remedy: described(v.nullable(prose(5_000)), 'What to do next.'),
    needs: described(v.optional(machineSize), 'Room that is missing now, and that the same action may wait for.'),
  }),
  v.title('failure'),
)
export type Failure = v.InferOutput<typeof failure>
