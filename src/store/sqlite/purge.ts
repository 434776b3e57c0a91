import { HISTORY_LENGTH, type Store } from '../port.ts'
import { STATE_CHANGES } from './requests.ts'
import type { Sql } from './sql.ts'

/** Tickets that have a machine. */
const PRESENT = 'select ticket from environment where gone_at is null'

const purgeQueue = (sql: Sql, before: number, payloadBytes: number): void => {
  sql.run('delete from delivery where settled_at < ?', before)
  sql.run(
    `update delivery set body = null where seq in (
       select seq from (
         select seq, sum(octet_length(body)) over (order by seq desc) as total
         from delivery where verdict is not null and body is not null)
       where total > ?)`,
    payloadBytes,
  )
  sql.run('delete from action where ended_at < ?', before)
}

/** The newest state change of a ticket counts, however old it is; so does a person's newest. */
const LAST_STATE_CHANGE = `${STATE_CHANGES} and not exists (
  select 1 from request later
  where later.ticket = request.ticket and later.person >= request.person and later.${STATE_CHANGES}
    and (later.at, later.seq) > (request.at, request.seq))`

/** The status comment of a machine shows the newest entries of its history, however old they are. */
const SHOWN = `history = 1 and ticket in (${PRESENT}) and not exists (
  select 1 from request later
  where later.history = 1 and later.ticket = request.ticket
    and (later.ended_at, later.seq) > (request.ended_at, request.seq)
  limit 1 offset ${HISTORY_LENGTH - 1})`

const purgeRequests = (sql: Sql, before: number): void => {
  sql.run(
    `delete from own_comment where side = 'github' and kind = 'reply' and (place, about) in (
       select comment ->> '$.repo', cast(comment ->> '$.commentId' as text)
       from request where thread is not null and ended_at < ?)`,
    before,
  )
  // The audit log keeps its line, without the answer.
  sql.run(
    `update request set thread = null, line = null, comment = null, answer = null, outcome = null, history = 0
     where ended_at < ? and thread is not null and (${SHOWN}) is not true`,
    before,
  )
  sql.run(
    `delete from request where ended_at < ? and audit = 0 and (${LAST_STATE_CHANGE}) is not true
       and (${SHOWN}) is not true`,
    before,
  )
}

export const purge = (sql: Sql, limits: Parameters<Store['purge']>[0]): void => {
  const { queueBefore, knowledgeBefore: before, payloadBytes } = limits
  purgeQueue(sql, queueBefore, payloadBytes)
  purgeRequests(sql, before)
  sql.run('delete from reported_change where at < ?', before)
  sql.run('delete from deleted_machine where at < ?', before)
  sql.run('delete from held where held_at < ?', before)
  sql.run(
    `delete from own_comment where side = 'jira' and kind in ('reply','note') and id is not null and set_at < ?
       and place not in (${PRESENT})`,
    before,
  )
  sql.run(`delete from own_comment where side = 'github' and kind = 'note' and set_at < ?`, before)
  sql.run(
    `delete from runner where seen_at < ? and id not in (
       select runner_id from environment where gone_at is null and runner_id is not null)`,
    before,
  )
}
