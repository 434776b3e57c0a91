/** What was last done to a ticket, or refused. */
import type { Ticket } from '../../domain.ts'
import type { Requester } from '../../schema/action.ts'
import type { Tables } from './tables.ts'

/** `said`: why it failed or was refused, or what a delete saved first. `seconds`: how long it took. */
export type Operation = {
  what: string
  by: Requester
  at: number
  result: 'done' | 'failed' | 'refused'
  said: string | null
  seconds: number | null
}

/** How many of a ticket's are kept. */
const KEPT = 5

export const operations = ({ run, all }: Tables) => ({
  noteOperation: (ticket: Ticket, operation: Operation): void => {
    run('insert into operation (ticket, body) values (?, ?)', ticket, JSON.stringify(operation))
    run(
      `delete from operation where ticket = ?1
         and seq not in (select seq from operation where ticket = ?1 order by seq desc limit ?2)`,
      ticket,
      KEPT,
    )
  },
  /** Newest first. */
  operations: (ticket: Ticket): Operation[] =>
    all<{ body: string }>('select body from operation where ticket = ? order by seq desc', ticket).map(row =>
      JSON.parse(row.body),
    ),
})
