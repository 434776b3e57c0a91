/** Commands and actions that wait for another one on the same ticket. */
import type { Ticket } from '../domain.ts'
import type { ActionKind, Requester } from '../schema/action.ts'
import { type Database, readRequester } from './database.ts'

export type WaitingRow = { pid: number; ticket: Ticket; kind: ActionKind; by: Requester; since: string }

export const waitingQueries = ({ all, run }: Database) => ({
  /** Returns the row's id. */
  beginWaiting: ({ pid, ticket, kind, by, since }: WaitingRow): number =>
    run(
      'insert into waiting (pid, ticket, kind, asked_by, since) values (?, ?, ?, ?, ?)',
      ...[pid, ticket, kind, JSON.stringify(by), since],
    ),
  endWaiting: (id: number) => void run('delete from waiting where id = ?', id),
  /** Oldest first, those of dead processes too. */
  waiting: (): (WaitingRow & { id: number })[] =>
    all<WaitingRow & { id: number; by: string }>(
      'select id, pid, ticket, kind, asked_by as "by", since from waiting order by id',
    ).map(row => ({ ...row, by: readRequester(row.by) })),
})
