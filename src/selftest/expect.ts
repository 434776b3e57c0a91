/** What a promise compares. Each throws an Error that says what was compared, what was expected, and what there is. */
import { isDeepStrictEqual } from 'node:util'
import { isFailure } from '../errors.ts'

/** Characters of a value in a message. */
const MOST = 300
const shown = (value: unknown): string => (JSON.stringify(value) ?? String(value)).slice(0, MOST)

/** `what`: for example `its status after a stop`. */
export const expectEqual = (what: string, actual: unknown, expected: unknown): void => {
  if (!isDeepStrictEqual(actual, expected))
    throw new Error(`${what}: expected ${shown(expected)}, got ${shown(actual)}`)
}

/** The members of `expected`; others may be there. */
export const expectMembers = <T extends object>(what: string, actual: T | undefined, expected: Partial<T>): void => {
  if (actual === undefined) throw new Error(`${what}: expected ${shown(expected)}, got nothing`)
  const names = Object.keys(expected) as (keyof T)[]
  expectEqual(what, Object.fromEntries(names.map(name => [name, actual[name]])), expected)
}

export const expectMore = (what: string, actual: number | null | undefined, than: number): void => {
  if (typeof actual !== 'number' || !(actual > than))
    throw new Error(`${what}: expected more than ${than}, got ${shown(actual)}`)
}

/** The work must fail with this kind. For any other error, the text is its own message. */
export const expectFailure = async (what: string, work: () => unknown, kind: string): Promise<void> => {
  try {
    await work()
  } catch (error) {
    const actual = isFailure(error) ? error.failure.kind : `an unexpected error: ${error}`
    if (actual === kind) return
    throw new Error(`${what}: expected the failure ${kind}, got ${actual}`, { cause: error })
  }
  throw new Error(`${what}: expected the failure ${kind}, got no failure`)
}
