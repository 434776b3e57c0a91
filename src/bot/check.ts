/** What a look at a credential or a permission found, for `agent-swarm init`. Nothing is changed by looking. */
import type { Failure } from '../domain.ts'

export type Check = {
  /** What was looked at. */
  of: string
  /** `wrong` keeps something from working; `note` should be known. */
  found: 'right' | 'note' | 'wrong'
  says: string
  remedy: string | null
}

export const right = (of: string, says: string): Check => ({ of, found: 'right', says, remedy: null })
export const note = (of: string, says: string, remedy: string | null = null): Check => ({
  ...{ of, found: 'note', says, remedy },
})
export const wrong = (of: string, says: string, remedy: string | null): Check => ({
  ...{ of, found: 'wrong', says, remedy },
})
export const failed = (of: string, { message, remedy }: Failure, otherwise: string | null = null): Check =>
  wrong(of, message, remedy ?? otherwise)

/** A secret that a sender signs with: shorter ones can be guessed by whoever has one signed delivery. */
const SHORTEST_SECRET = 16
export const checkSecret = (of: string, secret: string): Check =>
  secret.length >= SHORTEST_SECRET && new Set(secret).size > 4
    ? right(of, 'the webhook secret is long enough')
    : wrong(
        of,
        `the webhook secret is easily guessed: it has ${secret.length} characters`,
        'Take a long random one, as from: openssl rand -hex 32',
      )
