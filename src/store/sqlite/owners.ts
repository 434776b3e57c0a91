/**
 * Whose a machine is: its ticket's assignee, as far as an event told, or else who asked for it on GitHub or in Jira. Machines of the
 * command line are nobody's.
 */
import type { Ticket } from '../../domain.ts'
import type { Sql } from './sql.ts'

const ownerOf = (by: string): string =>
  `coalesce('jira:' || (t.decided ->> '$.assignee'),
     case when ${by} ->> '$.via' in ('jira', 'github') then (${by} ->> '$.via') || ':' || (${by} ->> '$.who') end)`

/** The ticket of an environment's key. */
const ticketIn = (key: string): string => `substr(${key}, 1, instr(${key} || '~', '~') - 1)`

const OF_ENVIRONMENTS = `
  select e.ticket, ${ownerOf(`(e.body -> '$.createdBy')`)} as owner, 1 as machines
  from environment e indexed by environment_runner left join ticket t on t.ticket = ${ticketIn('e.ticket')}
  where e.gone_at is null`
/** Creates that are not reported yet. */
const OF_CREATES = `
  select a.ticket, ${ownerOf(`(a.payload -> '$.by')`)} as owner, 1 as machines
  from action a left join ticket t on t.ticket = ${ticketIn('a.ticket')}
  where a.state = 'active' and a.kind = 'create'
    and not exists (select 1 from environment e where e.ticket = a.ticket and e.gone_at is null)`
/** Attempts that are not reported yet. While a fork makes its own, its ticket has no others that are being made. */
const OF_FORKS = `
  select a.ticket, ${ownerOf(`(a.payload -> '$.by')`)} as owner, max(0, (a.payload ->> '$.count') - (
    select count(*) from environment e where ${ticketIn('e.ticket')} = ${ticketIn('a.ticket')} and e.ticket like '%~%'
      and e.gone_at is null and (e.body ->> '$.status') = 'creating')) as machines
  from action a left join ticket t on t.ticket = ${ticketIn('a.ticket')}
  where a.state = 'active' and a.kind = 'fork'`
const OWNED = `${OF_ENVIRONMENTS} union all ${OF_CREATES} union all ${OF_FORKS}`

/** The pending creates and forks with which their owner would have more than `most` machines, as `seq`. */
export const beyondLimit = (sql: Sql, most: number): number[] =>
  sql
    .all<{ seq: number }>(
      `with held as materialized (
         select owner, sum(machines) as machines from (${OWNED}) where owner is not null group by owner),
       wanted as (
         select a.seq, ${ownerOf(`(a.payload -> '$.by')`)} as owner, iif(a.kind = 'fork', a.payload ->> '$.count', 1) as machines
         from action a left join ticket t on t.ticket = ${ticketIn('a.ticket')}
         where a.state = 'pending' and (a.machine is not null or a.kind = 'fork'))
       select wanted.seq from wanted left join held using (owner)
       where owner is not null and wanted.machines + coalesce(held.machines, 0) > ?`,
      most,
    )
    .map(({ seq }) => seq)

/** The tickets of the machines that the owner of this create or fork has. */
export const machinesOfOwner = (sql: Sql, seq: number): Ticket[] =>
  sql
    .all<{ ticket: Ticket }>(
      `select distinct ticket from (${OWNED}) where owner = (
         select ${ownerOf(`(a.payload -> '$.by')`)} from action a
         left join ticket t on t.ticket = ${ticketIn('a.ticket')} where a.seq = ?)
       order by ticket`,
      seq,
    )
    .map(({ ticket }) => ticket)
