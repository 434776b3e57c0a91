/** The store on node:sqlite, in one file. Lease, order and retry are in the SQL, so that they hold whoever asks. */
import { settleRestored } from '../../backups.ts'
import { compact } from '../../compact.ts'
import { isLocked } from '../../damage.ts'
import { type OpenDatabase, openDatabase } from '../../sqlite.ts'
import type { Counts, Store, StoreLimits } from '../port.ts'
import { openComments } from './comments.ts'
import { openCursors } from './cursors.ts'
import { holdQueued, openHeld } from './held.ts'
import { importMemory } from './import-memory.ts'
import { openInbox } from './inbox.ts'
import { migrations } from './migrations.ts'
import { openOutbox } from './outbox.ts'
import { patient } from './patience.ts'
import { openPullRequests } from './pull-requests.ts'
import { purge } from './purge.ts'
import { openQueue } from './queue.ts'
import { openRepositories } from './repositories.ts'
import { openRequests } from './requests.ts'
import { openRunnerTokens } from './runner-tokens.ts'
import { openRunners } from './runners.ts'
import { openSql, type Sql } from './sql.ts'
import { openTickets } from './tickets.ts'

const counts = (sql: Sql): Counts => {
  const number = (text: string) => sql.get<{ n: number | null }>(text)?.n ?? null
  return {
    inbox: number('select count(*) as n from delivery where verdict is null') ?? 0,
    pending: number(`select count(*) as n from action where state = 'pending'`) ?? 0,
    active: number(`select count(*) as n from action where state = 'active'`) ?? 0,
    outbox: number('select count(*) as n from outbox') ?? 0,
    oldestDeliveryAt: number('select min(received_at) as n from delivery where verdict is null'),
    oldestPendingAt: number(`select min(created_at) as n from action where state = 'pending'`),
    oldestMessageAt: number('select min(created_at) as n from outbox'),
  }
}

/** A row is written, at most once in this time. Milliseconds. */
const PROBE_MS = 1_000

const openProbe = (sql: Sql): Store['probe'] => {
  let last = { at: Number.NEGATIVE_INFINITY, problem: null as unknown }
  return async () => {
    if (performance.now() - last.at >= PROBE_MS) {
      try {
        sql.put('meta', { name: 'probe' }, { value: String(sql.clock()) })
        last = { at: performance.now(), problem: null }
      } catch (error) {
        // Another process's lock says nothing about the disk.
        if (isLocked(error)) throw error
        last = { at: performance.now(), problem: error }
      }
    }
    if (last.problem !== null) throw last.problem
  }
}

/** `path` may be `:memory:`. `clock` gives epoch milliseconds. */
export const openStore = (
  path: string,
  clock: () => number,
  open: OpenDatabase = openDatabase,
  limits: StoreLimits = {},
): Store => {
  importMemory(path, clock)
  const database = open(path, migrations)
  const { db } = database
  // A longer log between checkpoints: a flood writes each delivery once, and not at once again.
  db.exec('pragma wal_autocheckpoint = 8000')
  const sql = openSql(database, clock)
  settleRestored(database, madeAt => holdQueued(sql, madeAt))
  // From here on, calls wait where the event loop goes on.
  db.exec('pragma busy_timeout = 0')
  const store: Store = {
    inbox: openInbox(sql),
    queue: openQueue(sql, limits),
    outbox: openOutbox(sql),
    held: openHeld(sql),
    requests: openRequests(sql),
    tickets: openTickets(sql),
    pullRequests: openPullRequests(sql),
    repositories: openRepositories(sql),
    cursors: openCursors(sql),
    comments: openComments(sql),
    runners: openRunners(sql),
    runnerTokens: openRunnerTokens(sql),
    counts: async () => counts(sql),
    purge: async (limits, isStopped = () => false) => {
      await purge(sql, limits, isStopped)
      if (!isStopped()) await compact(db, isStopped)
    },
    probe: openProbe(sql),
    close: async () => db.close(),
  }
  return patient(store, path, () => db.exec('begin immediate; rollback'))
}
