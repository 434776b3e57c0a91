/** Tries the promises one after the other, and says of each whether it is kept. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Provider } from '../../providers/provider.ts'
import { failureOf } from '../errors.ts'
import type { Bench, BenchTools } from './bench.ts'
import type { ProviderPromise } from './promises.ts'

/** `why`: of a promise that is broken or was left out. */
export type PromiseResult = {
  name: string
  result: 'ok' | 'failed' | 'left-out'
  milliseconds: number
  why: string | null
}

export type OnPromise = { begin(name: string): void; end(result: PromiseResult): void }

/** From the abort until work that goes on is left behind: outside commands end within seconds. */
const GRACE_MS = 15_000

/** Each method fails once `signal` is aborted: a promise ends there, and nothing of it runs beside the cleaning up. */
const until = <T extends object>(signal: AbortSignal, members: T): T =>
  Object.fromEntries(
    Object.entries(members).map(([name, member]) => [
      name,
      typeof member !== 'function'
        ? member
        : async (...values: unknown[]) => {
            signal.throwIfAborted()
            return member(...values)
          },
    ]),
  ) as T

export const endingWith = (
  signal: AbortSignal,
  { provider, otherHome, newMachine, ...tools }: BenchTools,
): BenchTools => {
  const { ready, script } = until<Pick<BenchTools, 'ready' | 'script'>>(signal, tools)
  const both = { provider: until<Provider>(signal, provider), otherHome: until<Provider>(signal, otherHome) }
  return { ...tools, ...both, ready, script, newMachine }
}

export type Limits = { signal: AbortSignal; deadlineMs: number; abort: (reason: Error) => void }

/** Ctrl-C gives no failure as its reason. */
const endedBy = ({ reason }: AbortSignal): string =>
  reason instanceof Error && reason.name !== 'AbortError' ? reason.message : 'cancelled'

/** Null when it is kept; otherwise why it is not. After the deadline, everything is aborted. */
const attempt = async (
  promise: ProviderPromise,
  bench: Bench,
  { signal, deadlineMs, abort }: Limits,
): Promise<string | null> => {
  const settled = new AbortController()
  const wait = (milliseconds: number) => delay(milliseconds, undefined, { signal: settled.signal }).catch(() => {})
  const aborted = new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true, signal: settled.signal })
  })
  const work = promise.run(bench).then(
    () => null,
    error => {
      const { message, remedy } = failureOf(error, promise.name)
      const text = error instanceof Error && !('failure' in error) ? error.message : message
      return [text, remedy].filter(part => part !== null).join('\n')
    },
  )
  const late = wait(deadlineMs).then(() => {
    if (!settled.signal.aborted) abort(new Error(`it did not end within ${Math.round(deadlineMs / 60_000)} min`))
  })
  const why = await Promise.race([
    work,
    Promise.race([aborted, late])
      .then(() => wait(GRACE_MS))
      .then(() => 'it does not end'),
  ])
  settled.abort()
  return signal.aborted && why !== null ? `${endedBy(signal)}: ${why}` : why
}

/** `signal` ends it: the promise that is being tried fails, and the rest is left out. */
export const runPromises = async (
  promises: readonly ProviderPromise[],
  bench: Bench,
  { begin, end }: OnPromise,
  limits: Limits,
): Promise<PromiseResult[]> => {
  const results: PromiseResult[] = []
  /** Why all that follows is left out. */
  let over: string | null = null
  for (const promise of promises) {
    const { name, needs, isBasis = false } = promise
    const lacks = needs !== undefined && bench.provider[needs] === undefined
    const leftOut = over ?? (lacks ? `${bench.provider.name} has no ${needs}` : null)
    const start = performance.now()
    begin(name)
    const why = leftOut ?? (await attempt(promise, bench, limits))
    const milliseconds = Math.round(performance.now() - start)
    const result = leftOut !== null ? 'left-out' : why === null ? 'ok' : 'failed'
    const ended = { name, result, milliseconds, why } as const
    results.push(ended)
    end(ended)
    if (limits.signal.aborted) over ??= 'the selftest was ended before'
    else if (result === 'failed' && isBasis) over ??= `without this there is nothing to try: ${name}`
  }
  return results
}
