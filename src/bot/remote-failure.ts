/** A request to GitHub or Jira that failed, and what that allows. */
import type { FailureError } from '../errors.ts'

/** `pause`: no request can work before somebody acts, for example on refused credentials. `in`: ms to wait, when they are known. */
export type RemoteFailure = FailureError & { allows: 'later' | 'never' | 'pause'; in: number | null }
export const isRemoteFailure = (error: unknown): error is RemoteFailure =>
  error instanceof Error && 'failure' in error && 'allows' in error
/** The same request would fail again: what it names is gone, or closed to us. */
export const isFinal = (error: unknown): boolean => isRemoteFailure(error) && error.allows === 'never'
