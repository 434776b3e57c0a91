/**
 * Generated inputs. `npm test` takes some of them, `npm run test:long` all. Each has a seed of its own: AGENT_SWARM_TEST_SEED=N
 * goes on with the N-th, after a failure or an interruption.
 */
export type Sample = { seed: number /** A whole number from 0, below `below`. */; next: (below: number) => number }

/** https://en.wikipedia.org/wiki/Xorshift, spread by a multiplication so that neighbouring seeds differ. */
export const numbers = (seed: number) => {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1
  return (below: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

export const isLong = process.env.AGENT_SWARM_TEST_LONG === '1'

/** One of `nth` of these cases, from the seed on; a long run has all of them. */
export const some = <T>(cases: readonly T[], nth: number): T[] => {
  const first = Number(process.env.AGENT_SWARM_TEST_SEED ?? 0)
  return cases.filter((_, index) => isLong || index % nth === first % nth)
}

export function* samples({ all, some }: { all: number; some: number }): Generator<Sample> {
  const first = Number(process.env.AGENT_SWARM_TEST_SEED ?? 0)
  const last = isLong ? all : first + some
  for (let seed = first; seed < last; seed += 1) yield { seed, next: numbers(seed) }
}
