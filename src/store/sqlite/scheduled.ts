/** A merge's delete that waits for its grace time. */
import type { Ticket } from '../../domain.ts'
import type { Sql } from './sql.ts'

/** Drops it, unless it is for an event at `before` (epoch ms) or later. False when there is none to drop. */
export const unschedule = (sql: Sql, ticket: Ticket, before: number): boolean =>
  sql.run(
    `delete from scheduled where ticket = ? and coalesce(iif(json_valid(body), body ->> '$.at', null), 0) < ?`,
    ...[ticket, before],
  ) > 0

/** When it is due, epoch ms; null when there is none for an event before `before`. */
export const scheduledAt = (sql: Sql, ticket: Ticket, before: number | null): number | null =>
  sql.get<{ at: number }>(
    `select at from scheduled
     where ticket = ?1 and (?2 is null or coalesce(iif(json_valid(body), body ->> '$.at', null), 0) < ?2)`,
    ...[ticket, before],
  )?.at ?? null
