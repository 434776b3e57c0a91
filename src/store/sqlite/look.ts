/**
 * What the store holds, for `doctor` and `support-bundle`: read without a migration and without a change, also while a bot runs.
 * No text that somebody wrote is in it: neither bodies nor payloads.
 */
import type { DatabaseSync } from 'node:sqlite'
import { openToRead } from '../../damage.ts'
import { migrations } from './migrations.ts'

/** Rows of each kind, the newest of what has ended, the oldest of what waits. */
const MOST = 200

/** A person waits for it. */
const BUSY_MS = 5_000

type Cells = Readonly<Record<string, string | number | null>>
/** Times are epoch ms. */
export type StoreLook = {
  waitingDeliveries: number
  pendingActions: number
  activeActions: number
  waitingMessages: number
  held: number
  /** When the newest delivery of each source arrived. */
  newest: Readonly<Record<string, number>>
  /** Deliveries that could not be decided for good. */
  failedDeliveries: { count: number; newestAt: number | null }
  /** Deliveries whose decision failed and is tried again, and the reason of the oldest. */
  stuckDeliveries: { count: number; reason: string | null }
  deliveries: Cells[]
  actions: Cells[]
  endedActions: Cells[]
  messages: Cells[]
  runners: Cells[]
}

const read = (db: DatabaseSync): StoreLook => {
  const rows = (sql: string, ...values: number[]): Cells[] => db.prepare(sql).all(...values) as Cells[]
  const number = (sql: string) => Number(Object.values(rows(sql)[0] ?? {})[0] ?? 0)
  const failed = rows(`select count(*) as n, max(received_at) as at from delivery where verdict = 'failed'`)[0]
  // Of the row with the least seq: https://www.sqlite.org/lang_select.html#bareagg
  const stuck = rows(
    'select count(*) as n, min(seq) as seq, reason from delivery where verdict is null and attempt > 0',
  )[0]
  return {
    waitingDeliveries: number('select count(*) from delivery where verdict is null'),
    pendingActions: number(`select count(*) from action where state = 'pending'`),
    activeActions: number(`select count(*) from action where state = 'active'`),
    waitingMessages: number('select count(*) from outbox'),
    held: number('select count(*) from held'),
    newest: Object.fromEntries(
      rows('select source, max(received_at) as at from delivery group by source').map(({ source, at }) => [source, at]),
    ),
    failedDeliveries: { count: Number(failed?.n ?? 0), newestAt: (failed?.at ?? null) as number | null },
    stuckDeliveries: { count: Number(stuck?.n ?? 0), reason: (stuck?.reason ?? null) as string | null },
    deliveries: rows(
      `select source, event, verdict, reason, attempt, received_at as receivedAt, not_before as dueAt, settled_at as settledAt
       from delivery order by seq desc limit ?`,
      MOST,
    ),
    actions: rows(
      `select ticket, kind, state, attempt, runner_id as runnerId, created_at as createdAt, not_before as notBefore,
         lease_until as leaseUntil from action where state in ('pending','active') order by seq limit ?`,
      MOST,
    ),
    endedActions: rows(
      `select ticket, kind, state, attempt, runner_id as runnerId, created_at as createdAt, ended_at as endedAt,
         outcome ->> '$.result' as result, outcome ->> '$.failure.kind' as failure,
         coalesce(outcome ->> '$.failure.message', outcome ->> '$.reason') as message
       from ended_action order by seq desc limit ?`,
      MOST,
    ),
    messages: rows(
      `select body ->> '$.kind' as kind, lane, urgency, attempt, created_at as createdAt, not_before as dueAt, reason
       from outbox order by seq limit ?`,
      MOST,
    ),
    runners: rows('select id, host, seen_at as seenAt from runner order by seen_at desc limit ?', MOST),
  }
}

/** Null: the file is of another version of agent-swarm, and its tables may differ. */
export const lookAtStore = (path: string): StoreLook | null => {
  const db = openToRead(path, BUSY_MS)
  try {
    return db.prepare('pragma user_version').get()?.user_version === migrations.length ? read(db) : null
  } finally {
    db.close()
  }
}
