import type { Ticket } from '../../domain.ts'
import type { Sql } from './sql.ts'

/** At most so many of a ticket's deliveries: each reads the present state. They are looked for among the newest of all. */
const MOST = 3
const LOOKED_AT = 2_000

/**
 * Jira's changes of a ticket since `since` (epoch ms) that were ignored are due again: they were decided while the ticket still
 * seemed to have its machine, which had gone before.
 */
export const decideAgain = (sql: Sql, ticket: Ticket, since: number): void =>
  void sql.run(
    `update delivery set verdict = null, reason = null, settled_at = null, attempt = 0, not_before = 0
     where seq in (
       select seq from delivery where seq > (select max(seq) from delivery) - ${LOOKED_AT} and lane = ? and +source = 'jira' and event = 'jira:issue_updated'
         and verdict = 'ignored' and body is not null and received_at >= ? order by seq desc limit ?)`,
    ...[`jira:${ticket}`, since, MOST],
  )
