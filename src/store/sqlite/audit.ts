/** The audit log: who asked for what, whether that was allowed, and why. */
import type { Ticket } from '../../domain.ts'
import type { Tables } from './tables.ts'

/** A command that somebody gave: where, what came of it, and why. `at` is epoch ms; `ticket` null where nothing says which. */
export type AuditLine = {
  at: number
  who: string
  place: string
  ticket: Ticket | null
  what: string
  verdict: 'allowed' | 'refused'
  reason: string
}

/** How many lines of each verdict are kept: strangers push out none but strangers. */
const KEPT = 5_000

export const audit = ({ run, all, add }: Tables) => ({
  /** `id` names the line: the same one again is none. True when it is new. */
  noteAudit: (id: string, { at, who, place, ticket, what, verdict, reason }: AuditLine): boolean => {
    const isNew = add('audit', { id, at, who, place, ticket, what, verdict, reason })
    if (isNew)
      run(
        `delete from audit where seq <= (select seq from audit where verdict = ?1 order by seq desc limit 1 offset ?2)
           and verdict = ?1`,
        verdict,
        KEPT,
      )
    return isNew
  },
  /** Newest first, at most `limit`; `ticket` null: of all. */
  audit: (ticket: Ticket | null, limit: number): AuditLine[] =>
    all<AuditLine>(
      `select at, who, place, ticket, what, verdict, reason from audit where ?1 is null or ticket = ?1
       order by seq desc limit ?2`,
      ticket,
      limit,
    ),
})
