/** How long machines have been idle, and which were put to sleep for it. A machine that is used has no row. */
import type { Ticket } from '../domain.ts'
import type { IdleReport, SshAddress } from '../schema/environment.ts'
import { type Cell, type Database, type Row, readJson } from './database.ts'

export type Idleness = {
  /** Milliseconds that it was seen idle, in one piece. */
  idleMs: number
  /** The newest operation on it when that began. */
  operation: number
  /** Null: nobody was warned yet. */
  report: IdleReport | null
  /** That of a machine whose memory is saved. */
  ssh: SshAddress | null
}

const COLUMNS = 'idle_ms as idleMs, operation, report, ssh'
const idlenessFrom = ({ idleMs, operation, report, ssh }: Row): Idleness => ({
  idleMs: Number(idleMs),
  operation: Number(operation),
  report: readJson<IdleReport>(report),
  ssh: readJson<SshAddress>(ssh),
})
const cell = (value: unknown): Cell => (value === null ? null : JSON.stringify(value))

export const idlenessQueries = ({ all, first, run }: Database) => ({
  idleness: (ticket: Ticket): Idleness | null => {
    const row = first(`select ${COLUMNS} from idleness where ticket = ?`, ticket)
    return row === undefined ? null : idlenessFrom(row)
  },
  /** Of all tickets. */
  idlenessByTicket: (): Map<Ticket, Idleness> =>
    new Map(all(`select ticket, ${COLUMNS} from idleness`).map(row => [row.ticket as Ticket, idlenessFrom(row)])),
  /** Null: it is used. A machine that does not exist any more has none. */
  setIdleness: (ticket: Ticket, idleness: Idleness | null): void => {
    if (idleness === null) return void run('delete from idleness where ticket = ?', ticket)
    const { idleMs, operation, report, ssh } = idleness
    run(
      `insert or replace into idleness (ticket, idle_ms, operation, report, ssh)
       select ticket, ?, ?, ?, ? from environment where ticket = ?`,
      ...[idleMs, operation, cell(report), cell(ssh), ticket],
    )
  },
})
