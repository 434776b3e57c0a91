/** Failures as data. A thrown failure is an Error with `failure`; anything else that is thrown is an unknown failure. */
import type { Failure, FailureKind } from './schema/failure.ts'

/** What a failure kind allows: `later` is tried again by the queue with back-off, `never` is reported at once. */
const retries = {
  usage: 'never',
  'not-configured': 'never',
  'no-such-environment': 'never',
  'no-such-checkpoint': 'never',
  'no-such-vm': 'never',
  'no-such-image': 'never',
  'already-exists': 'never',
  'already-running': 'never',
  'not-running': 'never',
  'not-ours': 'never',
  busy: 'later',
  capacity: 'never',
  'disk-full': 'never',
  permission: 'never',
  'hypervisor-unreachable': 'later',
  'provider-missing': 'never',
  unsupported: 'never',
  'no-address-yet': 'later',
  'guest-unreachable': 'never',
  'unsaved-work': 'never',
  timeout: 'later',
  cancelled: 'later',
  network: 'later',
  refused: 'never',
  'newer-schema': 'never',
  unknown: 'later',
} satisfies Record<FailureKind, 'later' | 'never'>

export const failureKinds = Object.keys(retries) as FailureKind[]
export const isRetryable = (kind: FailureKind): boolean => retries[kind] === 'later'

export type FailureError = Error & { failure: Failure }

/** An Error to throw: `throw fail('capacity', 'creating DROP-1: it needs 4 GiB, 2 GiB are free', 'Stop another environment.')`. */
export const fail = (kind: FailureKind, message: string, remedy: string | null = null, cause?: unknown): FailureError =>
  Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { failure: { kind, message, remedy } })

export const isFailure = (error: unknown): error is FailureError =>
  error instanceof Error && 'failure' in error && typeof error.failure === 'object'

/** fetch says in its cause alone what went wrong; a cause of several addresses has a code and no words. */
const saidBy = (error: Error): string => {
  const { cause } = error
  const more = cause instanceof Error ? cause.message || ('code' in cause ? String(cause.code) : '') : ''
  return error.message === 'fetch failed' && more !== '' ? `fetch failed: ${more}` : error.message
}

/** What was thrown, as a failure. `doing` says what was being done when something unforeseen went wrong. */
export const failureOf = (error: unknown, doing: string): Failure => {
  if (isFailure(error)) return error.failure
  const said = error instanceof Error ? saidBy(error) : String(error)
  return { kind: 'unknown', message: `${doing}: ${said}`, remedy: null }
}

/** For `.catch()`: lets the named kinds pass as "nothing to do", and throws everything else. */
export const allow =
  (...kinds: FailureKind[]) =>
  (error: unknown): undefined => {
    if (isFailure(error) && kinds.includes(error.failure.kind)) return undefined
    throw error
  }
