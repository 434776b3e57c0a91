/** Why a message could not be published, and what that allows. */
import { failureOf } from '../../errors.ts'
import { githubFailure, isGitHubFailure } from '../github/client.ts'
import { isJiraFailure } from '../jira/request.ts'

export type Trouble = {
  /** `pause`: the side refuses our credentials. `paced`: it was written a moment ago, and is written again later. */
  allows: 'later' | 'never' | 'pause' | 'paced'
  /** Milliseconds to wait, when that is known. */
  in: number | null
  reason: string
  remedy: string | null
}

const withTrouble = (trouble: Omit<Trouble, 'remedy'>): Error & { trouble: Trouble } =>
  Object.assign(new Error(trouble.reason), { trouble: { ...trouble, remedy: null } })
/** To throw: the message can never be published. */
export const unpublishable = (reason: string) => withTrouble({ allows: 'never', in: null, reason })
/** To throw: too soon after the last edit. */
export const tooSoon = (waitMs: number) =>
  withTrouble({ allows: 'paced', in: waitMs, reason: 'it was written just now' })

/** `now` is epoch ms. */
export const troubleOf = (error: unknown, now: number): Trouble => {
  if (error instanceof Error && 'trouble' in error) return error.trouble as Trouble
  if (isJiraFailure(error)) {
    const { status, retryAfter, failure } = error
    const isFinal = status !== null && status < 500 && status !== 429
    return {
      allows: status === 401 ? 'pause' : isFinal ? 'never' : 'later',
      in: retryAfter,
      reason: failure.message,
      remedy: failure.remedy,
    }
  }
  const failure = githubFailure(error, 'publishing', now)
  if (!isGitHubFailure(failure))
    return { allows: 'later', in: null, reason: failureOf(error, 'publishing').message, remedy: null }
  return {
    allows: failure.allows,
    in: failure.in,
    reason: failure.failure.message,
    remedy: failure.failure.remedy,
  }
}
