import { fail } from '../../errors.ts'
import { reasonOf } from '../../schema/outcome.ts'
import type { Delivery, DeliveryRow, ReplayResult, SettledDelivery, Store, StoredDelivery, Verdict } from '../port.ts'
import { isDueAt } from './due.ts'
import { applyEffect } from './effects.ts'
import { putMessages } from './outbox.ts'
import { actionsOf, enqueue } from './queue.ts'
import { recordRequests } from './requests.ts'
import { scheduledAt } from './scheduled.ts'
import type { Sql } from './sql.ts'
import { currentTicket } from './tickets.ts'

type Row = Omit<Delivery, 'body'> & {
  seq: number
  body: string | null
  attempt: number
  notBefore: number
  verdict: Verdict | null
  reason: string | null
  settledAt: number | null
  since: number | null
}

/** State in memory: after a restart, deliveries that were in progress are due again. */
type Inbox = {
  sql: Sql
  /** Deliveries that are being decided, with their lanes. */
  inProgress: Map<number, string>
  /** The lane that was served last: the next look begins after it, so that no lane keeps the others waiting. */
  served: string
}

/** True when it is due now: it is new, or had no effect before. */
const acceptDelivery = (sql: Sql, { source, id, event, lane, body, receivedAt }: Delivery): boolean =>
  sql.run(
    `insert into delivery (source, id, event, lane, body, received_at) values (?, ?, ?, ?, ?, ?)
     on conflict (source, id) do update set body = excluded.body, received_at = excluded.received_at, since = null,
       verdict = null, reason = null, settled_at = null, attempt = 0, not_before = 0
     where delivery.verdict <> 'actions'`,
    ...[source, id, event, lane, body, receivedAt],
  ) === 1

const accept = (sql: Sql, deliveries: readonly Delivery[]): number =>
  deliveries.filter(delivery => acceptDelivery(sql, delivery)).length

const acceptScheduled = (sql: Sql, now: number): number => {
  const rows = sql.all<{ at: number } & Delivery>(
    'select source, id, event, lane, body, at from scheduled where at <= ? order by at',
    now,
  )
  sql.run('delete from scheduled where at <= ?', now)
  return accept(
    sql,
    rows.map(({ at, ...delivery }) => ({ ...delivery, receivedAt: at })),
  )
}

/**
 * The oldest undecided delivery of each lane that has none in progress, once around. Two steps in an index for each lane,
 * however long the backlog.
 */
function* heads({ sql, inProgress, served }: Inbox): Generator<Row> {
  const lanes = new Set(inProgress.values())
  const rounds = [
    { after: served, last: null },
    { after: '', last: served },
  ]
  for (const { after, last } of rounds) {
    for (let lane = after; ; ) {
      const next = sql.get<{ lane: string }>(
        'select lane from delivery where verdict is null and lane > ? order by lane limit 1',
        lane,
      )
      if (next === undefined || (last !== null && next.lane > last)) break
      lane = next.lane
      if (lanes.has(lane)) continue
      const row = sql.get<Row>('select * from delivery where verdict is null and lane = ? order by seq limit 1', lane)
      if (row !== undefined) yield row
    }
  }
}

type Sources = readonly Delivery['source'][] | undefined

const takeDue = (inbox: Inbox, limit: number, sources: Sources): StoredDelivery[] => {
  const now = inbox.sql.clock()
  const taken: StoredDelivery[] = []
  for (const row of heads(inbox)) {
    if (taken.length >= limit) break
    const { seq, source, id, event, lane, body, receivedAt, attempt, notBefore, since } = row
    if (sources?.includes(source) === false) continue
    inbox.served = lane
    if (!isDueAt(notBefore, now)) continue
    inbox.inProgress.set(seq, lane)
    taken.push({
      ...{ seq, source, id, event, lane, receivedAt, attempt },
      body: body ?? '',
      dueSince: since ?? receivedAt,
    })
  }
  return taken
}

/** Another delivery may have renamed a ticket since this one was decided: what is queued for the previous key would find nothing. */
const requireCurrentTickets = (sql: Sql, { actions, effects }: Pick<SettledDelivery, 'actions' | 'effects'>): void => {
  const scheduled = effects.flatMap(effect => (effect.kind === 'schedule' ? effect.ticket : []))
  for (const ticket of [...actions.map(({ action }) => action.ticket), ...scheduled]) {
    const current = currentTicket(sql, ticket)
    if (current !== ticket)
      throw fail('busy', `settling a decision about ${ticket}: it is ${current} now; decide it again`)
  }
}

const settleDelivery = (sql: Sql, settled: SettledDelivery): void => {
  const { seq, verdict, reason, actions, messages, requests, effects } = settled
  const isOpen = sql.run(
    `update delivery set verdict = ?1, reason = ?2, settled_at = ?3, body = iif(?1 = 'actions', null, body)
     where seq = ?4 and verdict is null`,
    ...[verdict, reason, sql.clock(), seq],
  )
  if (isOpen === 0) return
  const id = sql.get<{ id: string }>('select id from delivery where seq = ?', seq)?.id ?? null
  for (const effect of effects) applyEffect(sql, effect)
  requireCurrentTickets(sql, settled)
  recordRequests(sql, requests)
  for (const action of actions) enqueue(sql, action)
  putMessages(sql, messages, id)
}

const deliveryRowOf = (sql: Sql, row: Row): DeliveryRow => {
  const { source, id, event, lane, receivedAt, verdict, reason, attempt, notBefore, settledAt } = row
  return {
    ...{ source, id, event, lane, receivedAt, reason, attempt, settledAt },
    verdict: verdict ?? 'waiting',
    dueAt: verdict === null ? Math.max(notBefore, receivedAt) : null,
    actions: actionsOf(sql, id).map(({ action: { kind, ticket }, state, outcome }) => ({
      ...{ kind, ticket, state },
      result: outcome?.result ?? null,
      reason: reasonOf(outcome),
    })),
  }
}

const MATCHES = `(? in (coalesce(verdict, 'waiting'), source, event, id, source || ':' || id)
  or lane in (select value from json_each(?))
  or exists (select 1 from action where correlation = delivery.id and ticket = upper(?))
  or exists (select 1 from ended_action where correlation = delivery.id and ticket = upper(?)))`
/** A list looks at so many of the newest deliveries. */
const LISTED = 100_000

const listDeliveries = (sql: Sql, filters: Parameters<Store['inbox']['list']>[0], limit: number): DeliveryRow[] =>
  sql
    .all<Row>(
      `select * from delivery where seq > (select max(seq) from delivery) - ${LISTED}
         ${filters.map(() => `and ${MATCHES}`).join('\n')} order by seq desc limit ?`,
      ...filters.flatMap(({ word, lanes }) => [word, JSON.stringify(lanes), word, word]),
      limit,
    )
    .map(row => deliveryRowOf(sql, row))

const SOURCES: readonly Delivery['source'][] = ['github', 'jira', 'clock', 'runner']
/** The newest delivery with this id, which may stand after its source. */
const newestNamed = (sql: Sql, name: string): Row | undefined =>
  SOURCES.flatMap(source => {
    const bare = name.startsWith(`${source}:`) ? [name.slice(source.length + 1)] : []
    return [name, ...bare].map(id => sql.get<Row>('select * from delivery where source = ? and id = ?', source, id))
  })
    .filter(row => row !== undefined)
    .sort((one, other) => other.seq - one.seq)[0]

const replay = ({ sql, inProgress }: Inbox, id: string): ReplayResult => {
  const row = newestNamed(sql, id)
  if (row === undefined) return 'unknown'
  if (row.verdict === 'actions') return 'had-effect'
  if (inProgress.has(row.seq)) return 'in-progress'
  if (row.body === null) return 'no-payload'
  sql.run(
    `update delivery set verdict = null, reason = null, settled_at = null, attempt = 0, not_before = 0, since = ?
     where seq = ?`,
    ...[sql.clock(), row.seq],
  )
  return 'again'
}

const nextDueAt = (inbox: Inbox, sources: Sources): number | null => {
  const now = inbox.sql.clock()
  let next: number | null = null
  for (const { source, notBefore } of heads(inbox)) {
    if (sources?.includes(source) === false) continue
    if (isDueAt(notBefore, now)) return now
    next = Math.min(next ?? notBefore, notBefore)
  }
  return next
}

export const openInbox = (sql: Sql): Store['inbox'] => {
  const inbox: Inbox = { sql, inProgress: new Map(), served: '' }
  return {
    accept: async deliveries => sql.transaction(() => accept(sql, deliveries)),
    acceptScheduled: async now => sql.transaction(() => acceptScheduled(sql, now)),
    nextScheduledAt: async () => sql.get<{ at: number | null }>('select min(at) as at from scheduled')?.at ?? null,
    scheduledAt: async (ticket, before) => scheduledAt(sql, ticket, before ?? null),
    known: async (source, ids) =>
      new Set(
        sql
          .all<{ id: string }>(
            `select id from delivery where source = ? and id in (select value from json_each(?))
               and coalesce(verdict, '') <> 'failed'`,
            ...[source, JSON.stringify(ids)],
          )
          .map(row => row.id),
      ),
    due: async (limit, sources) => takeDue(inbox, limit, sources),
    settle: async settled => {
      sql.transaction(() => {
        for (const item of settled) settleDelivery(sql, item)
      })
      for (const { seq } of settled) inbox.inProgress.delete(seq)
    },
    postpone: async (seq, at, reason) => {
      sql.run(
        'update delivery set attempt = attempt + 1, not_before = ?, reason = ? where seq = ? and verdict is null',
        ...[at, reason, seq],
      )
      inbox.inProgress.delete(seq)
    },
    release: async seq => void inbox.inProgress.delete(seq),
    list: async (filters, limit) => listDeliveries(sql, filters, limit),
    replay: async id => sql.transaction(() => replay(inbox, id)),
    nextDueAt: async sources => nextDueAt(inbox, sources),
  }
}
