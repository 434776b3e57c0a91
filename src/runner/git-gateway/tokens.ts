/** Tokens for a repository: asked for when they are needed, held in memory for minutes. */
import type { Clock } from '../../clock.ts'

export type GitToken = {
  token: string
  username: string
  /** Epoch milliseconds; null when it does not expire. */
  expiresAt: number | null
  /** Where the repository is, for the host of the bot may know it alone. */
  remoteUrl: string
  /** The projects that the repository serves. Missing: whoever gives the token does not say. */
  projects?: readonly string[] | undefined
}
type Need = { repo: string; ticket: string; need: 'read' | 'write' }

/**
 * Null: there is none to be had, and what is public can be read; `token` null: the same, and this is where the repository is. Throws
 * when this ticket may not have one.
 */
export type TokenSource = { tokenFor(need: Need): Promise<(Omit<GitToken, 'token'> & { token: string | null }) | null> }

const KEPT_MS = 5 * 60_000
const BEFORE_EXPIRY_MS = 60_000

/** `forget`: tickets were deleted, a remote refused a token, or the bot does not accept this runner any more. */
export type Tokens = TokenSource & { forget(which: (ticket: string) => boolean): void }

export const openTokens = (source: TokenSource, clock: Clock): Tokens => {
  const kept = new Map<string, { ticket: string; until: number; token: Awaited<ReturnType<TokenSource['tokenFor']>> }>()
  /** Counts what was forgotten: an answer that was under way meanwhile is not kept. */
  let forgotten = 0
  return {
    tokenFor: async need => {
      const name = JSON.stringify([need.ticket, need.repo, need.need])
      const now = clock()
      for (const [key, { until }] of kept) if (until <= now || until > now + KEPT_MS) kept.delete(key)
      const known = kept.get(name)
      if (known !== undefined) return known.token
      const before = forgotten
      const token = await source.tokenFor(need)
      const expiry = token?.expiresAt == null ? Number.POSITIVE_INFINITY : token.expiresAt - BEFORE_EXPIRY_MS
      const until = Math.min(clock() + KEPT_MS, expiry)
      if (before === forgotten && until > clock()) kept.set(name, { ticket: need.ticket, until, token })
      return token
    },
    forget: which => {
      forgotten += 1
      for (const [key, one] of kept) if (which(one.ticket)) kept.delete(key)
    },
  }
}
