/** Why a message could not be published, and what that allows. */
import { fail } from '../../errors.ts'
import { githubFailure } from '../github/client.ts'
import { isRemoteFailure, type RemoteFailure } from '../remote-failure.ts'

/** `isPaced`: it was written a moment ago, and is written again later. */
export type Trouble = RemoteFailure & { isPaced?: true }

/** To throw: the message can never be published. */
export const unpublishable = (reason: string): Trouble =>
  Object.assign(fail('refused', reason), { allows: 'never', in: null } as const)
/** To throw: too soon after the last edit. */
export const tooSoon = (waitMs: number): Trouble =>
  Object.assign(fail('busy', 'it was written just now'), { allows: 'later', in: waitMs, isPaced: true } as const)

/** `now` is epoch ms. */
export const troubleOf = (error: unknown, now: number): Trouble => {
  const failure = githubFailure(error, 'publishing', now)
  return isRemoteFailure(failure) ? failure : Object.assign(failure, { allows: 'later', in: null } as const)
}
