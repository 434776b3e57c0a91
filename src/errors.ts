/** Failures as data. A thrown failure is an Error with the member `failure`; anything else that is thrown is an unknown failure. */
import {
  CHECKPOINT_NAME,
  ENVIRONMENT_KEY,
  type FailureKind,
  failureKinds,
  IMAGE_NAME,
  PROVIDER_NAME,
  TICKET,
  VM_ID,
} from './domain.ts'
import type { Failure } from './schema/failure.ts'

export const isRetryable = (kind: FailureKind): boolean => failureKinds[kind] === 'later'

export type FailureError = Error & { failure: Failure }

/** An Error to throw: `throw fail('capacity', 'creating DROP-1: it needs 4 GiB, 2 GiB are free', 'Stop another environment.')`. */
export const fail = (kind: FailureKind, message: string, remedy: string | null = null, cause?: unknown): FailureError =>
  Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { failure: { kind, message, remedy } })

export const isFailure = (error: unknown): error is FailureError =>
  error instanceof Error && 'failure' in error && typeof error.failure === 'object'

/** fetch gives the reason only as its cause; a cause with several addresses has a code and an empty message. */
const messageOf = (error: Error): string => {
  const { cause } = error
  const reason = cause instanceof Error ? cause.message || ('code' in cause ? String(cause.code) : '') : ''
  return error.message === 'fetch failed' && reason !== '' ? `fetch failed: ${reason}` : error.message
}

/**
 * Anything thrown, as a failure. `doing` says what was being done, for an error that is not a failure. What an AbortSignal ended is
 * `cancelled`; the TimeoutError of `AbortSignal.timeout` is not.
 */
export const failureOf = (error: unknown, doing: string): Failure => {
  if (isFailure(error)) return error.failure
  if (error instanceof Error && error.name === 'AbortError')
    return { kind: 'cancelled', message: `${doing}: cancelled`, remedy: null }
  const message = error instanceof Error ? messageOf(error) : String(error)
  return { kind: 'unknown', message: `${doing}: ${message}`, remedy: null }
}

/** For `.catch()`: turns the named kinds into undefined, and throws everything else. */
export const allow =
  (...kinds: FailureKind[]) =>
  (error: unknown): undefined => {
    if (isFailure(error) && kinds.includes(error.failure.kind)) return undefined
    throw error
  }

const NAMES = {
  ticket: TICKET,
  environment: ENVIRONMENT_KEY,
  machine: VM_ID,
  checkpoint: CHECKPOINT_NAME,
  image: IMAGE_NAME,
  provider: PROVIDER_NAME,
}
/**
 * The text, which must be a name of this kind. The last check before a name becomes a lock, a row or part of a path, wherever it
 * came from.
 */
export const checkName = (kind: keyof typeof NAMES, text: string): string => {
  if (NAMES[kind].test(text)) return text
  throw fail(
    'usage',
    `${JSON.stringify(text.slice(0, 100))} is not the name of ${kind === 'environment' ? 'an' : 'a'} ${kind}`,
  )
}
/**
 * For `.catch()`: undefined when `holds` says now that the command's aim is reached, or that its object does not exist.
 * Throws everything else. A list tells that in every language; an error message does not.
 */
export const unless =
  (holds: () => Promise<boolean>) =>
  async (error: unknown): Promise<undefined> => {
    if (!(await holds())) throw error
  }

/** Turns a tool's text into a failure. `doing` says what was being done. */
export type Explain = (doing: string, text: string) => FailureError

/** Words of a row: fixed, or made of what its pattern matched. */
type Words = string | ((match: RegExpMatchArray) => string)

/**
 * What a tool's messages mean, one table for each tool. The first pattern that matches gives the kind, the remedy and, with
 * `message`, plain words in place of the tool's own. Text that nothing matches is `unknown`.
 */
export const explainBy =
  (rows: readonly (readonly [pattern: RegExp, kind: FailureKind, remedy?: Words | null, message?: Words])[]): Explain =>
  (doing, text) => {
    for (const [pattern, kind, remedy = null, message = text] of rows) {
      const match = text.match(pattern)
      if (match === null) continue
      const say = (words: Words) => (typeof words === 'string' ? words : words(match))
      return fail(kind, `${doing}: ${say(message)}`, remedy === null ? null : say(remedy))
    }
    return fail('unknown', `${doing}: ${text}`)
  }
