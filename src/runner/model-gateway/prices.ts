/**
 * List prices of Claude in US dollars per million tokens: docs.anthropic.com/en/docs/about-claude/pricing, and the same table in
 * Claude Code 2.1.197. A cache read costs 0.1 of the input, a write 1.25, one for an hour 2. A model that no row names counts at
 * the highest price: a bound may hold too early, never too late.
 */
import type { Usage } from './usage.ts'

const PRICES: readonly [model: RegExp, input: number, output: number][] = [
  [/haiku/, 1, 5],
  [/sonnet/, 3, 15],
  [/opus-4-[5-9]/, 5, 25],
]
const HIGHEST = [15, 75] as const
/** Claude Opus in fast mode. */
const FAST = [30, 150] as const
/** From here on, models with a window of a million tokens cost more for input, and for output. */
const LONG_INPUT = 200_000
const LONG_FACTORS = [2, 1.5] as const

export const costOf = ({ model, input, output, cacheRead, cacheWrite, cacheWriteHour, fast }: Usage): number => {
  const row = PRICES.find(([pattern]) => pattern.test(model ?? ''))
  const [perInput, perOutput] = fast ? FAST : row === undefined ? HIGHEST : [row[1], row[2]]
  const isLong = input + cacheRead + cacheWrite > LONG_INPUT
  const [inputFactor, outputFactor] = isLong ? LONG_FACTORS : [1, 1]
  const hour = Math.min(cacheWriteHour, cacheWrite)
  const inputs = input + cacheRead * 0.1 + (cacheWrite - hour) * 1.25 + hour * 2
  return (inputs * perInput * inputFactor + output * perOutput * outputFactor) / 1_000_000
}
