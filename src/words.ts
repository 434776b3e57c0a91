/** Numbers, times and prices for people, in texts of commands, checks, logs and comments. */
import { attemptOf, type EnvironmentKey, ticketOf } from './domain.ts'
import type { MachinePrice } from './schema/machine.ts'

/** `1 delivery`, `2 deliveries`. */
export const counted = (count: number, noun: string, plural = `${noun}s`): string =>
  `${count} ${count === 1 ? noun : plural}`

/** `A`, `A and B`, `A, B and C`. */
export const listed = (names: readonly string[]): string =>
  names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`

/** The command that makes another machine in the place of one that is gone. A create makes no attempts. */
export const makeAgain = (key: EnvironmentKey): string =>
  attemptOf(key) === null ? `agent-swarm create ${key}` : `agent-swarm fork ${ticketOf(key)}`

/** `10 s`, `5 min`, `2 h`, `3 d`: the time from `from` until `to`, epoch ms. */
export const timeBetween = (from: number, to: number): string => {
  const seconds = Math.max(0, Math.round((to - from) / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} d`
}
/** `0.0832 US dollars an hour while it runs (aws pricing, 2026-11-28)`; `price unknown`. */
export const priceText = ({ usdPerHour, isUpperBound, at, source }: MachinePrice): string =>
  usdPerHour === null
    ? 'price unknown'
    : `${isUpperBound ? 'at most ' : ''}${usdPerHour} US dollars an hour while it runs (${source}, ${at})`
export const ago = (at: number, now: number): string => `${timeBetween(at, now)} ago`
