import { type EnvironmentKey, type Ticket, ticketOf, withTicket } from '../../domain.ts'
import type { KnownTicket, Store, TicketState } from '../port.ts'
import { json, type Sql } from './sql.ts'

type Row = Pick<KnownTicket, 'category' | 'categoryAt' | 'toNewAt' | 'toProgressAt'> & {
  lastNewAt: number | null
  endedAt: number | null
  hadPullRequest: number
  decided: string | null
}

/** Sets a time of the ticket, unless a later one is known. */
const setLatest = (
  sql: Sql,
  ticket: Ticket,
  column: 'last_new_at' | 'to_new_at' | 'to_progress_at' | 'ended_at',
  at: number,
): void =>
  void sql.run(
    `insert into ticket (ticket, ${column}) values (?1, ?2)
     on conflict (ticket) do update set ${column} = max(coalesce(${column}, 0), ?2)`,
    ticket,
    at,
  )

/** Its machine was deleted, or its pull request merged. */
export const ticketEnded = (sql: Sql, ticket: Ticket, at: number): void => setLatest(sql, ticket, 'ended_at', at)

export const ticketDecided = (sql: Sql, ticket: Ticket, state: TicketState): void =>
  sql.put('ticket', { ticket }, { decided: JSON.stringify(state) })

/** The key that an environment has now: attempts move with their ticket. */
export const currentTicket = (sql: Sql, key: EnvironmentKey): EnvironmentKey => {
  const moved = sql.get<{ ticket: Ticket }>('select ticket from ticket_alias where alias = ?', ticketOf(key))
  return moved === undefined ? key : withTicket(key, moved.ticket)
}

/** For what a runner reports: one that has not moved the machine of a renamed ticket yet uses its former key. */
export const withCurrentTicket = <T extends { ticket: EnvironmentKey }>(sql: Sql, item: T): T => ({
  ...item,
  ticket: currentTicket(sql, item.ticket),
})

export const openTickets = (sql: Sql): Store['tickets'] => ({
  get: async ticket => {
    const row = sql.get<Row>('select * from ticket where ticket = ?', ticket)
    const endedAt = row?.endedAt ?? null
    const lastNewAt = row?.lastNewAt ?? null
    return {
      category: row?.category ?? null,
      categoryAt: row?.categoryAt ?? null,
      endedSinceNew: endedAt !== null && (lastNewAt === null || lastNewAt < endedAt),
      hadPullRequest: row?.hadPullRequest === 1,
      toNewAt: row?.toNewAt ?? null,
      toProgressAt: row?.toProgressAt ?? null,
      decided: json<TicketState>(row?.decided),
    }
  },
  current: async ticket => currentTicket(sql, ticket),
  sawCategory: async (ticket, category, at) =>
    sql.transaction(() => {
      sql.run(
        `insert into ticket (ticket, category, category_at) values (?1, ?2, ?3)
         on conflict (ticket) do update set category = ?2, category_at = ?3 where coalesce(category_at, 0) <= ?3`,
        ...[ticket, category, at],
      )
      if (category === 'new') setLatest(sql, ticket, 'last_new_at', at)
    }),
  movedTo: async (ticket, category, at) =>
    setLatest(sql, ticket, category === 'new' ? 'to_new_at' : 'to_progress_at', at),
  ended: async (ticket, at) => ticketEnded(sql, ticket, at),
  reportedBy: async change =>
    sql.get<{ delivery: string }>('select delivery from reported_change where id = ?', change)?.delivery ?? null,
})
