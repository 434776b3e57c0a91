/**
 * Whose a machine is: its ticket's assignee, as far as an event told, or else who asked for it on GitHub or in Jira. Machines of the
 * command line are nobody's.
 */
import type { Ticket } from '../../domain.ts'
import type { Sql } from './sql.ts'

const ownerOf = (by: string): string =>
  `coalesce('jira:' || (t.decided ->> '$.assignee'),
     case when ${by} ->> '$.via' in ('jira', 'github') then (${by} ->> '$.via') || ':' || (${by} ->> '$.who') end)`

const OF_ENVIRONMENTS = `
  select e.ticket, ${ownerOf(`(e.body -> '$.createdBy')`)} as owner
  from environment e indexed by environment_runner left join ticket t on t.ticket = e.ticket where e.gone_at is null`
/** Creates that are not reported yet. */
const OF_CREATES = `
  select a.ticket, ${ownerOf(`(a.payload -> '$.by')`)} as owner
  from action a left join ticket t on t.ticket = a.ticket
  where a.state = 'active' and a.kind = 'create'
    and not exists (select 1 from environment e where e.ticket = a.ticket and e.gone_at is null)`
const OWNED = `${OF_ENVIRONMENTS} union all ${OF_CREATES}`

/** The pending creates whose owner has `most` machines, as `seq`. */
export const beyondLimit = (sql: Sql, most: number): number[] =>
  sql
    .all<{ seq: number }>(
      `select a.seq from action a left join ticket t on t.ticket = a.ticket
       where a.state = 'pending' and a.machine is not null and ${ownerOf(`(a.payload -> '$.by')`)} in (
         select owner from (${OWNED}) where owner is not null group by owner having count(*) >= ?)`,
      most,
    )
    .map(({ seq }) => seq)

/** The tickets of the machines that the owner of this create has. */
export const machinesOfOwner = (sql: Sql, seq: number): Ticket[] =>
  sql
    .all<{ ticket: Ticket }>(
      `select ticket from (${OWNED}) where owner = (
         select ${ownerOf(`(a.payload -> '$.by')`)} from action a left join ticket t on t.ticket = a.ticket where a.seq = ?)
       order by ticket`,
      seq,
    )
    .map(({ ticket }) => ticket)
