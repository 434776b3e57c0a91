import { setImmediate as nextTurn } from 'node:timers/promises'
import { HISTORY_LENGTH, type Store } from '../port.ts'
import { STATE_CHANGES } from './requests.ts'
import type { Sql } from './sql.ts'

/** Rows of one transaction. Between two, other work gets its turn. */
const CHUNK = 500
/** Tickets that have a machine. */
const PRESENT = 'select ticket from environment where gone_at is null'

/** `isStopped`: the store is about to be closed. */
type Purging = { sql: Sql; isStopped: () => boolean }

/** Repeats a statement that changes at most CHUNK rows until it finds no more. */
const inChunks = async ({ sql, isStopped }: Purging, statement: string, ...values: (number | string)[]) => {
  while (!isStopped() && sql.run(statement, ...values, CHUNK) === CHUNK) await nextTurn()
}

/** The oldest payloads beyond so many bytes. */
const purgePayloads = async (purging: Purging, bytes: number): Promise<void> => {
  const newest = purging.sql.get<{ seq: number | null }>(
    `select max(seq) as seq from (
       select seq, sum(octet_length(body)) over (order by seq desc) as total
       from delivery indexed by delivery_payload where verdict is not null and body is not null)
     where total > ?`,
    bytes,
  )?.seq
  if (newest === null || newest === undefined) return
  await inChunks(
    purging,
    `update delivery set body = null where seq in (
       select seq from delivery indexed by delivery_payload
       where verdict is not null and body is not null and seq <= ? limit ?)`,
    newest,
  )
}

const purgeQueue = async (purging: Purging, before: number): Promise<void> => {
  await inChunks(
    purging,
    'delete from delivery where seq in (select seq from delivery where settled_at < ? limit ?)',
    before,
  )
  await inChunks(
    purging,
    'delete from ended_action where seq in (select seq from ended_action where ended_at < ? limit ?)',
    before,
  )
}

/** The newest state change of a ticket counts, however old it is; so does a person's newest. */
const LAST_STATE_CHANGE = `${STATE_CHANGES} and not exists (
  select 1 from request later
  where later.ticket = request.ticket and later.person in (1, request.person) and later.${STATE_CHANGES}
    and (later.at, later.seq) > (request.at, request.seq))`

/** The status comment of a machine shows the newest entries of its history, however old they are. */
const SHOWN = `history = 1 and ticket in (${PRESENT}) and not exists (
  select 1 from request later
  where later.history = 1 and later.ticket = request.ticket
    and (later.ended_at, later.seq) > (request.ended_at, request.seq)
  limit 1 offset ${HISTORY_LENGTH - 1})`

/** Does `work` with the requests of `which` that ended before, in chunks: JSON of their numbers. */
const eachRequest = async (
  { sql, isStopped }: Purging,
  which: 'thread is not null' | 'audit = 0',
  before: number,
  work: (numbers: string) => void,
): Promise<void> => {
  let last = { at: 0, seq: 0 }
  while (!isStopped()) {
    const rows = sql.all<{ at: number; seq: number }>(
      `select ended_at as at, seq from request
       where ${which} and (ended_at, seq) > (?, ?) and ended_at < ? order by ended_at, seq limit ?`,
      ...[last.at, last.seq, before, CHUNK],
    )
    const newest = rows.at(-1)
    if (newest === undefined) return
    sql.transaction(() => work(JSON.stringify(rows.map(({ seq }) => seq))))
    last = newest
    await nextTurn()
  }
}

const purgeRequests = async (purging: Purging, before: number): Promise<void> => {
  const { sql } = purging
  const THESE = 'seq in (select value from json_each(?))'
  await eachRequest(purging, 'thread is not null', before, numbers => {
    sql.run(
      `delete from own_comment where side = 'github' and kind = 'reply' and (place, number, about) in (
         select comment ->> '$.repo', comment ->> '$.number', cast(comment ->> '$.commentId' as text)
         from request where ${THESE})`,
      numbers,
    )
    // The audit log keeps its line, without the answer.
    sql.run(
      `update request set thread = null, line = null, comment = null, answer = null, outcome = null, history = 0
       where ${THESE} and (${SHOWN}) is not true`,
      numbers,
    )
  })
  await eachRequest(purging, 'audit = 0', before, numbers => {
    sql.run(
      `delete from request where ${THESE} and (${LAST_STATE_CHANGE}) is not true and (${SHOWN}) is not true`,
      numbers,
    )
    // Of the last state change, only who asked for what, and when, still counts.
    sql.run(
      `update request set outcome = null, answer = null where ${THESE} and outcome is not null and (${SHOWN}) is not true`,
      numbers,
    )
  })
}

const purgeKnowledge = async (purging: Purging, before: number): Promise<void> => {
  const keyed = (table: string, key: string, at: string) =>
    inChunks(
      purging,
      `delete from ${table} where ${key} in (select ${key} from ${table} where ${at} < ? limit ?)`,
      before,
    )
  await keyed('reported_change', 'id', 'at')
  await keyed('deleted_machine', 'vm_id', 'at')
  await keyed('environment', 'ticket', 'gone_at')
  await keyed('held', 'seq', 'held_at')
  await inChunks(
    purging,
    `delete from own_comment where (side, kind, place, number, about) in (
       select side, kind, place, number, about from own_comment indexed by own_comment_set
       where set_at < ? and (side = 'github' and kind = 'note'
         or side = 'jira' and kind in ('reply','note') and id is not null and place not in (${PRESENT}))
       limit ?)`,
    before,
  )
  purging.sql.run(
    `delete from runner where seen_at < ? and id not in (
       select runner_id from environment where gone_at is null and runner_id is not null)`,
    before,
  )
}

export const purge = async (
  sql: Sql,
  { queueBefore, knowledgeBefore, payloadBytes }: Parameters<Store['purge']>[0],
  isStopped: () => boolean,
): Promise<void> => {
  const purging = { sql, isStopped }
  await purgePayloads(purging, payloadBytes)
  await purgeQueue(purging, queueBefore)
  if (!isStopped()) await purgeRequests(purging, knowledgeBefore)
  if (!isStopped()) await purgeKnowledge(purging, knowledgeBefore)
}
