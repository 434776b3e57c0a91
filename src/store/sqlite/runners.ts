import type { Ticket } from '../../domain.ts'
import type { Action, ActionKind } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { HeartbeatRequest, ManualOperation, Offer } from '../../schema/runner-protocol.ts'
import { statusMessage } from '../messages.ts'
import { RUNNER_AWAY_MS, type Store } from '../port.ts'
import { environmentGone, knownEnvironment, recordEnvironment } from './environments.ts'
import { putMessages } from './outbox.ts'
import { recordRequest } from './requests.ts'
import { json, type Sql } from './sql.ts'
import { withCurrentTicket } from './tickets.ts'

type Row = { id: string; host: string; seenAt: number; offer: string | null }

const isConnected = (sql: Sql, seenAt: number): boolean => sql.clock() - seenAt <= RUNNER_AWAY_MS

/** The host of the connected other runner that has the ticket's machine; null when there is none. */
const holderOf = (sql: Sql, ticket: Ticket, runnerId: string): string | null => {
  const known = knownEnvironment(sql, ticket)
  if (known === null || known.goneAt !== null || known.runnerId === runnerId) return null
  const other = sql.get<Row>('select * from runner where id = ?', known.runnerId)
  return other !== undefined && isConnected(sql, other.seenAt) ? other.host : null
}

/** The action that a state change stands for; null for other kinds. */
export const bareAction = ({
  kind,
  ticket,
  by,
  at,
}: Pick<ManualOperation, 'ticket' | 'by' | 'at'> & { kind: ActionKind }): Action | null => {
  const common = { ticket, by, at, replyTo: null }
  if (kind === 'create' || kind === 'start' || kind === 'stop' || kind === 'restart') return { kind, ...common }
  if (kind === 'delete') return { kind, ...common, force: false }
  return kind === 'restore' ? { kind, ...common, name: null } : null
}

/** Tickets whose scheduled delivery the operation cancels: it is about an event before the operation. */
const recordManualOperation = (sql: Sql, operation: ManualOperation, runnerId: string): Ticket[] => {
  const { id, ticket, kind, by } = operation
  // A clock that is ahead would make every later event look old.
  const at = Math.min(Date.parse(operation.at), sql.clock())
  if (Number.isNaN(at)) return []
  const isNew = recordRequest(sql, {
    ...{ id: `cli:${runnerId}:${id}`, at, by, person: true, place: 'cli', command: null, ticket, what: kind },
    ...{ action: bareAction(operation), verdict: 'allowed', reason: null, answer: null, ok: null },
  })
  if (!isNew) return []
  sql.run('update request set ended_at = at, ok = 1 where id = ?', `cli:${runnerId}:${id}`)
  const cancelled = sql.run(
    `delete from scheduled where ticket = ? and iif(json_valid(body), body ->> '$.at', null) < ?`,
    ...[ticket, at],
  )
  return cancelled > 0 ? [ticket] : []
}

/** A ticket stays with the runner that has its machine; one whose machine is gone and that has nothing queued is free. */
const updatePins = (sql: Sql, tickets: readonly Ticket[], runnerId: string): void => {
  for (const ticket of tickets)
    sql.run(
      `insert into pin (ticket, runner_id) values (?, ?)
       on conflict (ticket) do update set runner_id = excluded.runner_id where runner_id <> excluded.runner_id`,
      ...[ticket, runnerId],
    )
  sql.run(
    `delete from pin where runner_id = ? and ticket not in (select value from json_each(?))
       and not exists (
         select 1 from action indexed by action_head where action.ticket = pin.ticket and state in ('pending','active'))`,
    ...[runnerId, JSON.stringify(tickets)],
  )
}

/** Tickets whose environment this runner had, and that its heartbeat shows differently: gone, or back after an absence. */
const compareWithHeartbeat = (
  sql: Sql,
  reported: ReadonlySet<Ticket>,
  runnerId: string,
  wasAway: boolean,
): Ticket[] => {
  const present = sql.all<{ ticket: Ticket; missing: number }>(
    'select ticket, missing from environment where runner_id = ? and gone_at is null',
    runnerId,
  )
  return present.flatMap(({ ticket, missing }) => {
    // Its status comment said that the runner was away.
    if (reported.has(ticket)) return wasAway ? [ticket] : []
    if (missing === 1) return environmentGone(sql, ticket) ? [ticket] : []
    // This heartbeat may have been written before the machine was created; the next one is not.
    sql.run('update environment set missing = 1 where ticket = ?', ticket)
    return []
  })
}

const recordHeartbeat = (sql: Sql, heartbeat: HeartbeatRequest) => {
  const { runnerId, host, offer } = heartbeat
  const environments = heartbeat.environments.map(item => withCurrentTicket(sql, item))
  const operations = heartbeat.manualOperations.map(item => withCurrentTicket(sql, item))
  const holders = new Map(
    [...environments, ...operations].map(({ ticket }) => [ticket, holderOf(sql, ticket, runnerId)]),
  )
  const isOwn = ({ ticket }: { ticket: Ticket }) => holders.get(ticket) === null
  // The machine of a former key that was not moved, beside one that was made under the present key since.
  const isLeftBehind = (environment: Environment, index: number) =>
    heartbeat.environments[index]?.ticket !== environment.ticket &&
    heartbeat.environments.some(other => other.ticket === environment.ticket)
  const own = environments.filter((environment, index) => isOwn(environment) && !isLeftBehind(environment, index))
  const tickets = new Set(own.map(environment => environment.ticket))

  const cancelled = operations.filter(isOwn).flatMap(operation => recordManualOperation(sql, operation, runnerId))
  const seenAt = sql.get<Row>('select * from runner where id = ?', runnerId)?.seenAt ?? 0
  const wasAway = !isConnected(sql, seenAt)
  sql.put('runner', { id: runnerId }, { host, offer: JSON.stringify(offer), seenAt: sql.clock() })
  updatePins(sql, [...tickets], runnerId)
  const differing = own.filter(environment => recordEnvironment(sql, environment, runnerId)).map(({ ticket }) => ticket)
  const changed = [...new Set([...cancelled, ...differing, ...compareWithHeartbeat(sql, tickets, runnerId, wasAway)])]
  putMessages(sql, changed.map(statusMessage), null)
  return {
    changed,
    heldElsewhere: environments.flatMap((environment, index) => {
      const holder = holders.get(environment.ticket) ?? (isLeftBehind(environment, index) ? host : null)
      const reported = heartbeat.environments[index]?.ticket ?? environment.ticket
      return holder === null ? [] : [{ ticket: reported, vmId: environment.vmId, host: holder }]
    }),
  }
}

export const openRunners = (sql: Sql): Store['runners'] => ({
  heartbeat: async heartbeat => sql.transaction(() => recordHeartbeat(sql, heartbeat)),
  list: async () =>
    sql.all<Row>('select * from runner order by seen_at desc, id').map(({ id, host, seenAt, offer }) => ({
      ...{ id, host, seenAt },
      connected: isConnected(sql, seenAt),
      offer: json<Offer>(offer),
    })),
  environment: async ticket => knownEnvironment(sql, ticket),
  withMachine: async () =>
    sql
      .all<{ ticket: Ticket }>('select ticket from environment where gone_at is null order by ticket')
      .map(row => row.ticket),
})
