/** A failure as data. What a kind allows (retry, report) stands in errors.ts. */
import * as v from 'valibot'
import { described, prose } from './basics.ts'

const failureKind = v.picklist([
  'usage',
  'not-configured',
  'no-such-environment',
  'no-such-checkpoint',
  'no-such-vm',
  'no-such-image',
  'already-exists',
  'already-running',
  'not-running',
  'not-ours',
  'busy',
  'capacity',
  'disk-full',
  'permission',
  'hypervisor-unreachable',
  'provider-missing',
  'unsupported',
  'no-address-yet',
  'guest-unreachable',
  'unsaved-work',
  'timeout',
  'cancelled',
  'network',
  'refused',
  'newer-schema',
  'unknown',
])
export type FailureKind = v.InferOutput<typeof failureKind>

/** It never holds a secret. */
export const failure = v.pipe(
  v.object({
    // A newer runner may know more kinds: its outcome must not be lost for that.
    kind: v.fallback(failureKind, 'unknown'),
    message: described(prose(20_000), 'What was being done, and what went wrong.'),
    remedy: described(v.nullable(prose(5_000)), 'What to do next.'),
  }),
  v.title('failure'),
)
export type Failure = v.InferOutput<typeof failure>
