/** What the runners have. One that is gone stays, with when and how, until the ticket has another. */
import type { Ticket } from '../../domain.ts'
import type { Environment } from '../../schema/environment.ts'
import type { Tables } from './tables.ts'
import type { Tickets } from './tickets.ts'

export type Mirrored = {
  environment: Environment
  runnerId: string | null
  heardAt: number
  /** When it was found to be gone; null while it is there. */
  goneAt: number | null
}
export type Environments = ReturnType<typeof environments>

/** A runner's clock and ours may differ by so much. */
const CLOCKS_DIFFER_MS = 60_000

type Row = {
  vm_id: string
  runner_id: string | null
  body: string
  heard_at: number
  gone_at: number | null
  deleted: number
}
const mirroredFrom = (row: Row): Mirrored => ({
  environment: JSON.parse(row.body),
  runnerId: row.runner_id,
  heardAt: row.heard_at,
  goneAt: row.gone_at,
})
/** All that a reader would see differently: not when it was looked at. */
const seen = (environment: Environment) => JSON.stringify({ ...environment, observedAt: null })

export const environments = ({ run, get, all, clock }: Tables, { ended }: Pick<Tickets, 'ended'>) => {
  const rowOf = (ticket: Ticket) => get<Row>('select * from environment where ticket = ?', ticket)
  const mirrored = (ticket: Ticket): Mirrored | null => {
    const row = rowOf(ticket)
    return row === undefined ? null : mirroredFrom(row)
  }

  return {
    mirrored,
    /** Tickets that have a machine, as last told. */
    withMachine: (): Ticket[] =>
      all<{ ticket: Ticket }>('select ticket from environment where gone_at is null order by ticket').map(
        row => row.ticket,
      ),
    /** The ticket's environment as last told; null when there is none. */
    environment: (ticket: Ticket): Environment | null => {
      const known = mirrored(ticket)
      return known === null || known.goneAt !== null ? null : known.environment
    },
    /** Takes over what a runner says of one environment. True when a reader would see a difference. */
    learn: (environment: Environment, runnerId: string | null): boolean => {
      const { ticket, vmId } = environment
      const row = rowOf(ticket)
      // A heartbeat that was on its way while the machine was deleted: names of machines are never used again.
      if (row !== undefined && row.deleted === 1 && row.vm_id === vmId) return false
      const there = row === undefined || row.gone_at !== null ? null : mirroredFrom(row).environment
      // What was seen at a time that is still to come was seen by a clock that may have been put right since.
      const older =
        there !== null &&
        there.vmId === vmId &&
        environment.observedAt < there.observedAt &&
        Date.parse(there.observedAt) <= clock() + CLOCKS_DIFFER_MS
      run(
        `insert into environment (ticket, vm_id, runner_id, body, heard_at) values (?, ?, ?, ?, ?)
         on conflict (ticket) do update set vm_id = excluded.vm_id, runner_id = coalesce(excluded.runner_id, runner_id),
           body = excluded.body, heard_at = excluded.heard_at, missing = 0, gone_at = null, deleted = 0`,
        ticket,
        vmId,
        runnerId,
        JSON.stringify(older ? there : environment),
        clock(),
      )
      return !older && (there === null || seen(there) !== seen(environment))
    },
    /**
     * The ticket has no environment. `deleted`: an action removed it, and was asked for then (epoch ms). True when that is
     * news.
     */
    learnGone: (ticket: Ticket, deleted: { askedAt: number } | null): boolean => {
      const news =
        run(
          'update environment set gone_at = ?, deleted = ? where ticket = ? and gone_at is null',
          clock(),
          Number(deleted !== null),
          ticket,
        ) === 1
      if (news || deleted !== null) ended(ticket, deleted?.askedAt ?? clock())
      return news
    },
  }
}
