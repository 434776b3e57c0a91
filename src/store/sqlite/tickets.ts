/** Tickets as Jira last had them, and the changes that were told. */
import type { StatusCategory } from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import { json, type Tables } from './tables.ts'

type Row = {
  category: StatusCategory | null
  category_at: number | null
  last_new_at: number | null
  ended_at: number | null
  had_pull_request: number
  settled: string | null
  to_new_at: number | null
  to_progress_at: number | null
}
type TicketFound = { category: StatusCategory; assignee: string | null }
export type Tickets = ReturnType<typeof tickets>

export const tickets = ({ run, get, add, put, clock }: Tables) => {
  /** That a time is known which is later changes nothing. */
  const latest = (ticket: Ticket, column: 'last_new_at' | 'to_new_at' | 'to_progress_at' | 'ended_at', at: number) =>
    void run(
      `insert into ticket (ticket, ${column}) values (?1, ?2)
       on conflict (ticket) do update set ${column} = max(coalesce(${column}, 0), ?2)`,
      ticket,
      at,
    )

  return {
    ticket: (ticket: Ticket) => {
      const row = get<Row>('select * from ticket where ticket = ?', ticket)
      const endedAt = row?.ended_at ?? null
      const lastNewAt = row?.last_new_at ?? null
      return {
        category: row?.category ?? null,
        endedSinceNew: endedAt !== null && (lastNewAt === null || lastNewAt <= endedAt),
        hadPullRequest: row?.had_pull_request === 1,
        toNewAt: row?.to_new_at ?? null,
        toProgressAt: row?.to_progress_at ?? null,
        /** Of what is known of its category. */
        categoryAt: row?.category_at ?? null,
        settled: json<TicketFound>(row?.settled),
      }
    },
    /** The ticket was in this category at that time. What is older than what is known changes nothing but `last_new_at`. */
    sawCategory: (ticket: Ticket, category: StatusCategory, at: number): void => {
      run(
        `insert into ticket (ticket, category, category_at) values (?1, ?2, ?3)
         on conflict (ticket) do update set category = ?2, category_at = ?3 where coalesce(category_at, 0) <= ?3`,
        ticket,
        category,
        at,
      )
      if (category === 'new') latest(ticket, 'last_new_at', at)
    },
    /** It was moved there, or assigned while there, at that time. */
    movedTo: (ticket: Ticket, category: 'new' | 'indeterminate', at: number): void =>
      latest(ticket, category === 'new' ? 'to_new_at' : 'to_progress_at', at),
    /** Its machine was deleted or its pull request merged, at that time. */
    ended: (ticket: Ticket, at: number): void => latest(ticket, 'ended_at', at),
    /** An event about it was decided, which found it so. */
    settleTicket: (ticket: Ticket, { category, assignee }: TicketFound): void =>
      put('ticket', { ticket }, { settled: JSON.stringify({ category, assignee }) }),

    /** The delivery that told of this change first; null when none did. */
    toldBy: (change: string): string | null =>
      get<{ delivery: string }>('select delivery from change where id = ?', change)?.delivery ?? null,
    noteChange: (change: string, delivery: string): void => void add('change', { id: change, delivery, at: clock() }),
  }
}
