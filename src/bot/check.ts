/** What a look at a credential or a permission found, for `agent-swarm init`. Nothing is changed by looking. */
import type { Failure } from '../schema/failure.ts'

export type Check = {
  /** What was looked at. */
  of: string
  /** `error` keeps something from working; `warning` should be known. */
  found: 'ok' | 'warning' | 'error'
  says: string
  remedy: string | null
}

export const ok = (of: string, says: string): Check => ({ of, found: 'ok', says, remedy: null })
export const warning = (of: string, says: string, remedy: string | null = null): Check => ({
  ...{ of, found: 'warning', says, remedy },
})
export const problem = (of: string, says: string, remedy: string | null): Check => ({
  ...{ of, found: 'error', says, remedy },
})
export const failed = (of: string, { message, remedy }: Failure, otherwise: string | null = null): Check =>
  problem(of, message, remedy ?? otherwise)

/** A secret that a sender signs with: shorter ones can be guessed by whoever has one signed delivery. */
const SHORTEST_SECRET = 16
export const checkSecret = (of: string, secret: string): Check =>
  secret.length >= SHORTEST_SECRET && new Set(secret).size > 4
    ? ok(of, 'the webhook secret is long enough')
    : problem(
        of,
        `the webhook secret is easily guessed: it has ${secret.length} characters`,
        'Take a long random one, as from: openssl rand -hex 32',
      )
