/** The queue on node:sqlite: the embedded default. Lease, order and retry are in the SQL, so that they hold whoever asks. */
import { randomBytes } from 'node:crypto'
import type { Progress } from '../../schema/action.ts'
import type { Outcome } from '../../schema/outcome.ts'
import { LEASE_MS } from '../../schema/runner-protocol.ts'
import { type OpenStore, openStore } from '../../sqlite.ts'
import {
  type ActionRow,
  type ActionState,
  MAX_WAIT_MS,
  type Message,
  type Queue,
  type QueuedAction,
  type StoredDelivery,
  type Verdict,
} from '../port.ts'

const migrations = [
  `
  create table delivery (
    seq integer primary key autoincrement,
    source text not null,
    id text not null,
    event text not null,
    lane text not null,
    -- Gone once it has taken effect: what is kept then is that it came, and what it became.
    body text,
    received_at integer not null,
    attempt integer not null default 0,
    not_before integer not null default 0,
    verdict text,
    reason text,
    settled_at integer,
    unique (source, id)
  ) strict;
  create index delivery_lane on delivery (lane, seq) where verdict is null;
  create table action (
    seq integer primary key autoincrement,
    id text unique not null,
    correlation text not null,
    ticket text not null,
    kind text not null,
    payload text not null,
    state text not null default 'pending' check (state in ('pending','active','done','dead','cancelled')),
    attempt integer not null default 0,
    not_before integer not null default 0,
    runner_id text,
    lease_token text,
    lease_until integer,
    progress text,
    outcome text,
    created_at integer not null,
    ended_at integer
  ) strict;
  create index action_head on action (ticket, seq) where state in ('pending','active');
  create table pin (ticket text primary key not null, runner_id text not null) strict, without rowid;
  create table outbox (
    seq integer primary key autoincrement,
    key text not null,
    body text not null,
    attempt integer not null default 0,
    not_before integer not null default 0,
    reason text
  ) strict;
  create index outbox_key on outbox (key, seq);
  `,
  `
  -- When it became due: with its arrival, or with a replay.
  alter table delivery add column since integer;
  create index action_correlation on action (correlation);
  `,
  'alter table outbox add column correlation text',
  // When it was put first: what takes its place is as old as what was not said.
  'alter table outbox add column created_at integer',
]

/** How often an action is tried before it ends as failed. */
const ATTEMPTS = 6
const BACKOFF_MS = { first: 2_000, most: 5 * 60_000 }
/** Milliseconds from one try to the next. */
const backoff = (attempt: number) => Math.min(BACKOFF_MS.first * 2 ** Math.max(0, attempt - 1), BACKOFF_MS.most)

/** Whether what is put off until `at` waits still. */
const waits = (at: number, now: number) => at > now && at <= now + MAX_WAIT_MS
/** The same in SQL. */
const isDue = (column: string, now: string) => `not ${column} between ${now} + 1 and ${now} + ${MAX_WAIT_MS}`

type Row = Record<string, string | number | bigint | null | Uint8Array>
const parsed = <T>(cell: Row[string] | undefined): T | null =>
  typeof cell === 'string' ? (JSON.parse(cell) as T) : null

const actionFrom = (row: Row): ActionRow => ({
  seq: row.seq as number,
  id: row.id as string,
  correlation: row.correlation as string,
  action: JSON.parse(row.payload as string),
  state: row.state as ActionState,
  attempt: row.attempt as number,
  runnerId: row.runner_id as string | null,
  leaseUntil: row.lease_until as number | null,
  progress: parsed<Progress>(row.progress),
  createdAt: row.created_at as number,
  notBefore: row.not_before as number,
  outcome: parsed<Outcome>(row.outcome),
})

/** Why an action did nothing, or failed. */
const becauseOf = (outcome: Outcome): string | null =>
  outcome.result === 'skipped' ? outcome.reason : outcome.result === 'failed' ? outcome.failure.message : null

/** `path` may be `:memory:`. `clock` gives epoch milliseconds. */
export const openQueue = (path: string, clock: () => number, open: OpenStore = openStore): Queue => {
  const { db, transaction } = open(path, migrations)
  // A longer log between checkpoints: a flood writes each delivery once, and not at once again.
  db.exec('pragma wal_autocheckpoint = 8000')

  /** Deliveries that are being decided now. In memory: after a restart they are due again. */
  const inHand = new Set<number>()

  const sql = {
    // What had no effect is decided anew when it is sent again; what waits or had one stays as it is.
    accept: db.prepare(`insert into delivery (source, id, event, lane, body, received_at) values (?, ?, ?, ?, ?, ?)
      on conflict (source, id) do update set body = excluded.body, received_at = excluded.received_at, since = null, verdict = null,
        reason = null, settled_at = null, attempt = 0, not_before = 0
      where delivery.verdict <> 'actions'`),
    taken: db.prepare(`select 1 from delivery where source = ? and id = ? and coalesce(verdict, '') <> 'failed'`),
    // The next lane after a given one, and the oldest delivery of a lane: two steps in an index, however long the backlog.
    lane: db.prepare('select lane from delivery where verdict is null and lane > ? order by lane limit 1'),
    head: db.prepare('select * from delivery where verdict is null and lane = ? order by seq limit 1'),
    settle: db.prepare(
      `update delivery set verdict = ?1, reason = ?2, settled_at = ?3, body = iif(?1 = 'actions', null, body)
      where seq = ?4 and verdict is null`,
    ),
    idOf: db.prepare('select id from delivery where seq = ?'),
    known: db.prepare(`select * from delivery where id = ?1 or source || ':' || id = ?1 order by seq desc limit 1`),
    replay: db.prepare(
      `update delivery set verdict = null, reason = null, settled_at = null, attempt = 0, not_before = 0, since = ?
      where seq = ? and coalesce(verdict, '') <> 'actions' and body is not null`,
    ),
    postpone: db.prepare(
      'update delivery set attempt = attempt + 1, not_before = ?, reason = ? where seq = ? and verdict is null',
    ),
    enqueue: db.prepare(
      `insert into action (id, correlation, ticket, kind, payload, created_at) values (?, ?, ?, ?, ?, ?) on conflict (id) do nothing`,
    ),
    claim:
      db.prepare(`update action set state = 'active', attempt = attempt + 1, runner_id = :runner, lease_token = :token,
        lease_until = :until, progress = null
      where seq = (
        select a.seq from action a left join pin p on p.ticket = a.ticket
        where a.state = 'pending' and ${isDue('a.not_before', ':now')} and (p.runner_id is null or p.runner_id = :runner)
          and not exists (select 1 from action b where b.ticket = a.ticket and b.seq < a.seq and b.state in ('pending','active'))
        order by a.seq limit 1)
      returning *`),
    pin: db.prepare(
      'insert into pin (ticket, runner_id) values (?, ?) on conflict (ticket) do update set runner_id = excluded.runner_id',
    ),
    pinned: db.prepare('select runner_id from pin where ticket = ?'),
    unpin: db.prepare('delete from pin where ticket = ?'),
    renew: db.prepare(
      `update action set lease_until = ?, progress = coalesce(?, progress) where id = ? and state = 'active' and lease_token = ?`,
    ),
    end: db.prepare(`update action set state = ?, outcome = ?, ended_at = ?, lease_token = null, lease_until = null
      where id = ? and state = 'active' and lease_token = ?`),
    retry:
      db.prepare(`update action set state = 'pending', not_before = ?, progress = null, lease_token = null, lease_until = null
      where id = ? and state = 'active' and lease_token = ?`),
    cancel: db.prepare(`update action set state = 'cancelled', ended_at = ? where id = ? and state = 'pending'`),
    expired: db.prepare(
      `select * from action where state = 'active' and not lease_until between ?1 + 1 and ?1 + ${LEASE_MS}`,
    ),
    release: db.prepare(
      `update action set state = 'pending', lease_token = null, lease_until = null, progress = null where seq = ?`,
    ),
    bury: db.prepare(
      `update action set state = 'dead', outcome = ?, ended_at = ?, lease_token = null, lease_until = null where seq = ?`,
    ),
    get: db.prepare('select * from action where id = ?'),
    madeOf: db.prepare('select * from action where correlation = ? order by seq'),
    putOver: db.prepare(
      'update outbox set body = ?, correlation = coalesce(?, correlation), attempt = 0, not_before = 0, reason = null where key = ?',
    ),
    put: db.prepare('insert into outbox (body, correlation, key, created_at) values (?, ?, ?, ?)'),
    take: db.prepare(`select * from outbox where seq > ?1 and ${isDue('not_before', '?2')} order by seq limit ?3`),
    ack: db.prepare('delete from outbox where seq = ?'),
    later: db.prepare('update outbox set attempt = attempt + 1, not_before = ?, reason = ? where seq = ?'),
  }

  /** The lane that was looked at last: the next look begins after it, so that no lane keeps the others waiting. */
  let served = ''
  /** The oldest delivery of each lane, once around. */
  function* heads(): Generator<Row> {
    const from = served
    let lane = from
    for (let around = false; ; ) {
      const next = sql.lane.get(lane) as { lane: string } | undefined
      if (next === undefined || (around && next.lane > from)) {
        if (around) return
        around = true
        lane = ''
        // A lane may have no name: nothing is greater than the end, and everything than the beginning.
        if (from === '') return
        continue
      }
      lane = next.lane
      yield sql.head.get(lane) as Row
    }
  }

  const enqueue = ({ id, correlation, action }: QueuedAction): boolean =>
    sql.enqueue.run(id, correlation, action.ticket, action.kind, JSON.stringify(action), clock()).changes === 1
  const put = (messages: readonly Message[], correlation: string | null) => {
    for (const { key, body } of messages) {
      const text = JSON.stringify(body)
      if (sql.putOver.run(text, correlation, key).changes === 0) sql.put.run(text, correlation, key, clock())
    }
  }
  const correlationOf = (id: string) => (sql.get.get(id)?.correlation as string | undefined) ?? null
  const number = (text: string, ...values: (string | number)[]): number | null => {
    const row = db.prepare(text).get(...values) as { n: number | null } | undefined
    return row?.n ?? null
  }

  return {
    accept: deliveries =>
      transaction(() => {
        let added = 0
        for (const one of deliveries) {
          added += Number(sql.accept.run(one.source, one.id, one.event, one.lane, one.body, one.receivedAt).changes)
        }
        return added
      }),
    taken: ({ source, id }) => sql.taken.get(source, id) !== undefined,
    due: limit => {
      const now = clock()
      const found: StoredDelivery[] = []
      for (const row of heads()) {
        if (found.length >= limit) break
        served = row.lane as string
        const seq = row.seq as number
        if (inHand.has(seq) || waits(row.not_before as number, now)) continue
        inHand.add(seq)
        found.push({
          seq,
          source: row.source as StoredDelivery['source'],
          id: row.id as string,
          event: row.event as string,
          lane: row.lane as string,
          body: row.body as string,
          receivedAt: row.received_at as number,
          attempt: row.attempt as number,
          since: (row.since ?? row.received_at) as number,
        })
      }
      return found
    },
    settle: settlements => {
      transaction(() => {
        for (const { seq, verdict, actions, messages } of settlements) {
          for (const one of actions) enqueue(one)
          put(messages, (sql.idOf.get(seq)?.id as string | undefined) ?? null)
          sql.settle.run(verdict.verdict, verdict.reason, clock(), seq)
        }
      })
      for (const { seq } of settlements) inHand.delete(seq)
    },
    postpone: (seq, at, reason) => {
      sql.postpone.run(at, reason, seq)
      inHand.delete(seq)
    },
    release: seq => void inHand.delete(seq),
    deliveries: ({ words, limit, lanesOf = () => [] }) => {
      const isIt = `and (? in (coalesce(verdict, 'waiting'), source, event, id, source || ':' || id)
        or lane in (select value from json_each(?))
        or exists (select 1 from action where correlation = delivery.id and ticket = upper(?)))`
      const rows = db
        .prepare(`select * from delivery where true ${words.map(() => isIt).join(' ')} order by seq desc limit ?`)
        .all(...words.flatMap(word => [word, JSON.stringify(lanesOf(word)), word]), limit) as Row[]
      return rows.map(row => ({
        source: row.source as StoredDelivery['source'],
        id: row.id as string,
        event: row.event as string,
        lane: row.lane as string,
        receivedAt: row.received_at as number,
        verdict: (row.verdict as Verdict['verdict'] | null) ?? 'waiting',
        reason: row.reason as string | null,
        attempt: row.attempt as number,
        dueAt: row.verdict === null ? Math.max(row.not_before as number, row.received_at as number) : null,
        settledAt: row.settled_at as number | null,
        actions: (sql.madeOf.all(row.id as string) as Row[]).map(actionFrom).map(({ action, state, outcome }) => ({
          kind: action.kind,
          ticket: action.ticket,
          state,
          result: outcome?.result ?? null,
          because: outcome === null ? null : becauseOf(outcome),
        })),
      }))
    },
    replay: id => {
      const row = sql.known.get(id) as Row | undefined
      if (row === undefined) return 'unknown'
      const seq = row.seq as number
      if (row.verdict === 'actions') return 'took effect'
      if (inHand.has(seq)) return 'in hand'
      return sql.replay.run(clock(), seq).changes === 1 ? 'again' : 'forgotten'
    },

    enqueue: action => (enqueue(action) ? 'added' : 'duplicate'),
    claim: ({ runnerId }) =>
      transaction(() => {
        const token = randomBytes(16).toString('hex')
        const now = clock()
        const row = sql.claim.get({ runner: runnerId, token, until: now + LEASE_MS, now }) as Row | undefined
        if (row === undefined) return null
        if (row.kind === 'create') sql.pin.run(row.ticket as string, runnerId)
        const { seq, id, correlation, action, attempt } = actionFrom(row)
        return { seq, id, correlation, action, attempt, token, leaseMs: LEASE_MS }
      }),
    renew: (id, token, progress) =>
      sql.renew.run(clock() + LEASE_MS, progress === null ? null : JSON.stringify(progress), id, token).changes === 1
        ? 'ok'
        : 'lost',
    complete: (id, token, outcome, messages = () => []) =>
      transaction(() => {
        if (sql.end.run('done', JSON.stringify(outcome), clock(), id, token).changes !== 1) return 'lost'
        put(messages(), correlationOf(id))
        return 'ok'
      }),
    fail: (id, token, failure, { retry, environment, messages = () => [] }) =>
      transaction(() => {
        const row = sql.get.get(id) as Row | undefined
        const attempt = Number(row?.attempt ?? 0)
        if (retry && attempt < ATTEMPTS) {
          return sql.retry.run(clock() + backoff(attempt), id, token).changes === 1 ? 'retry' : 'lost'
        }
        const outcome: Outcome = { result: 'failed', failure, environment }
        if (sql.end.run('dead', JSON.stringify(outcome), clock(), id, token).changes !== 1) return 'lost'
        put(messages(), correlationOf(id))
        return 'dead'
      }),
    cancel: id => (sql.cancel.run(clock(), id).changes === 1 ? 'cancelled' : 'too-late'),
    reap: lost =>
      transaction(() => {
        const rows = (sql.expired.all(clock()) as Row[]).map(actionFrom)
        for (const row of rows) {
          if (row.attempt < ATTEMPTS) {
            sql.release.run(row.seq)
            continue
          }
          const outcome: Outcome = {
            result: 'failed',
            failure: {
              kind: 'unknown',
              message: `${row.action.kind} of ${row.action.ticket}: the runner was lost while doing it, ${ATTEMPTS} times`,
              remedy: 'Look at the log of the runner, then ask again.',
            },
            environment: null,
          }
          sql.bury.run(JSON.stringify(outcome), clock(), row.seq)
          put(lost(row, outcome), row.correlation)
        }
        return rows.length
      }),
    pinnedTo: ticket => (sql.pinned.get(ticket) as { runner_id: string } | undefined)?.runner_id ?? null,
    pin: (ticket, runnerId) => void sql.pin.run(ticket, runnerId),
    unpin: ticket => void sql.unpin.run(ticket),
    pinsOf: runnerId =>
      (db.prepare('select ticket from pin where runner_id = ?').all(runnerId) as { ticket: string }[]).map(
        row => row.ticket,
      ),
    get: id => {
      const row = sql.get.get(id) as Row | undefined
      return row === undefined ? null : actionFrom(row)
    },
    list: ({ ticket, state } = {}) =>
      (
        db
          .prepare('select * from action where (?1 is null or ticket = ?1) and (?2 is null or state = ?2) order by seq')
          .all(ticket ?? null, state ?? null) as Row[]
      ).map(actionFrom),
    nextDelivery: () => {
      let next: number | null = null
      for (const row of heads()) {
        const at = row.not_before as number
        if (!inHand.has(row.seq as number) && (next === null || at < next)) next = at
        if (next === 0) break
      }
      return next
    },
    nextMessage: () => number('select min(not_before) as n from outbox'),
    probe: () => db.exec('begin immediate; rollback'),

    outbox: {
      put: messages => transaction(() => put(messages, null)),
      take: (limit, after = 0) =>
        (sql.take.all(after, clock(), limit) as Row[]).map(row => ({
          seq: row.seq as number,
          message: { key: row.key as string, body: JSON.parse(row.body as string) },
          attempt: row.attempt as number,
          body: row.body as string,
          correlation: row.correlation as string | null,
        })),
      // What was replaced while it was being published is published again.
      ack: ({ seq, body }) => void db.prepare('delete from outbox where seq = ? and body = ?').run(seq, body),
      later: (seq, at, reason) => void sql.later.run(at, reason, seq),
      drop: (seq, _reason) => void sql.ack.run(seq),
    },
    purge: (before, payloadBytes) =>
      transaction(() => {
        db.prepare('delete from delivery where settled_at < ?').run(before)
        db.prepare(
          `update delivery set body = null where seq in (
            select seq from (
              select seq, sum(octet_length(body)) over (order by seq desc) as total
              from delivery where verdict is not null and body is not null)
            where total > ?)`,
        ).run(payloadBytes)
        db.prepare('delete from action where ended_at < ?').run(before)
      }),
    counts: () => ({
      inbox: number('select count(*) as n from delivery where verdict is null') ?? 0,
      pending: number(`select count(*) as n from action where state = 'pending'`) ?? 0,
      active: number(`select count(*) as n from action where state = 'active'`) ?? 0,
      dead: number(`select count(*) as n from action where state = 'dead'`) ?? 0,
      outbox: number('select count(*) as n from outbox') ?? 0,
      oldestDeliveryAt: number('select min(received_at) as n from delivery where verdict is null'),
      oldestMessageAt: number('select min(created_at) as n from outbox'),
      oldestPendingAt: number(`select min(created_at) as n from action where state = 'pending'`),
    }),
    close: () => db.close(),
  }
}
