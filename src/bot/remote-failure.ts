/** A request to GitHub or Jira that failed, and what that allows. */
import type { FailureError } from '../errors.ts'

/**
 * `pause`: no request can work before somebody acts, for example on refused credentials. `for-a-day`: it is refused, and what
 * refuses it may pass, for example a permission that is being changed. `in`: ms to wait, when they are known.
 */
export type RemoteFailure = FailureError & { allows: 'later' | 'for-a-day' | 'never' | 'pause'; in: number | null }
export const isRemoteFailure = (error: unknown): error is RemoteFailure =>
  error instanceof Error && 'failure' in error && 'allows' in error
/** The same request would fail again now: what it names is gone, or closed to us. What is read in rounds is read again anyway. */
export const isRefused = (error: unknown): boolean =>
  isRemoteFailure(error) && (error.allows === 'never' || error.allows === 'for-a-day')
/** The same request would fail again, whatever happens meanwhile. */
export const isFinal = (error: unknown): boolean => isRemoteFailure(error) && error.allows === 'never'
