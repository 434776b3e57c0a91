/** A Jira issue got a new key: everything that is known of its ticket goes along. */
import { type EnvironmentKey, type Ticket, withTicket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { type CommentRef, threadOf } from '../../schema/action.ts'
import { replyMessage, statusMessage } from '../messages.ts'
import type { MessageBody } from '../port.ts'
import type { Sql } from './sql.ts'

/** JSON whose tickets have the new key. */
const renamed = (text: string, from: Ticket, to: Ticket): string =>
  JSON.stringify(JSON.parse(text, (name, value) => (name === 'ticket' && value === from ? to : value)))

/** Columns of JSON that names the ticket, in rows that have it in the column `ticket`. */
const TABLES: readonly { table: string; key: string; columns: readonly string[] }[] = [
  { table: 'action', key: 'seq', columns: ['payload'] },
  { table: 'ended_action', key: 'seq', columns: ['payload', 'outcome'] },
  { table: 'request', key: 'seq', columns: ['action', 'outcome'] },
  { table: 'environment', key: 'ticket', columns: ['body'] },
]

const renameRows = (sql: Sql, from: Ticket, to: Ticket): void => {
  for (const { table, key, columns } of TABLES) {
    const rows = sql.all<Record<string, string | null>>(
      `select ${key} as key, ${columns.join(', ')} from ${table} where ticket = ?`,
      from,
    )
    for (const row of rows) {
      const cells = columns.map(column => row[column] ?? null)
      sql.run(
        `update ${table} set ${columns.map(column => `${column} = ?`).join(', ')}, ticket = ? where ${key} = ?`,
        ...cells.map(cell => cell && renamed(cell, from, to)),
        ...[to, row.key ?? null],
      )
    }
  }
}

/** The range of the names of threads in the ticket's comments: from the first, to below the second. */
const threadsOf = (ticket: Ticket): [string, string] => [
  threadOf({ ticket, commentId: '' }),
  threadOf({ ticket, commentId: '' }).replace(/:$/, ';'),
]
/** Commands in comments of the ticket, which may be about another one. */
const renameThreads = (sql: Sql, from: Ticket, to: Ticket): void => {
  const rows = sql.all<{ seq: number; comment: string }>(
    'select seq, comment from request where thread >= ? and thread < ?',
    ...threadsOf(from),
  )
  for (const { seq, comment } of rows) {
    const moved = JSON.parse(renamed(comment, from, to)) as CommentRef
    sql.run(
      'update or ignore request set thread = ?, comment = ? where seq = ?',
      threadOf(moved),
      JSON.stringify(moved),
      seq,
    )
  }
}

/** The key of a message holds the ticket of a status comment, and of a reply in Jira. */
const renameMessages = (sql: Sql, from: Ticket, to: Ticket): void => {
  const rows = sql.all<{ seq: number; key: string; body: string }>(
    `select seq, key, body from outbox where ?1 in (body ->> '$.ticket', body ->> '$.comment.ticket')`,
    from,
  )
  for (const row of rows) {
    const text = renamed(row.body, from, to)
    const body = JSON.parse(text) as MessageBody
    const key =
      body.kind === 'status' ? statusMessage(to).key : body.kind === 'reply' ? replyMessage(body.comment).key : row.key
    if (key !== row.key) sql.run('delete from outbox where key = ?', key)
    sql.run('update outbox set key = ?, body = ?, version = version + 1 where seq = ?', key, text, row.seq)
  }
}

/** Merges what is known of both keys: the latest of each time, and the newer category. */
const mergeTickets = (sql: Sql, from: Ticket, to: Ticket): void => {
  const later = (column: string) => `nullif(max(coalesce(${column}, 0), coalesce(excluded.${column}, 0)), 0)`
  const newer = 'coalesce(excluded.category_at, 0) > coalesce(category_at, 0)'
  sql.run(
    `insert into ticket (ticket, category, category_at, last_new_at, ended_at, had_pull_request, decided, to_new_at, to_progress_at)
       select ?2, category, category_at, last_new_at, ended_at, had_pull_request, decided, to_new_at, to_progress_at
       from ticket where ticket = ?1
     on conflict (ticket) do update set
       category = iif(${newer}, excluded.category, category), category_at = ${later('category_at')},
       last_new_at = ${later('last_new_at')}, ended_at = ${later('ended_at')},
       had_pull_request = max(had_pull_request, excluded.had_pull_request), decided = coalesce(decided, excluded.decided),
       to_new_at = ${later('to_new_at')}, to_progress_at = ${later('to_progress_at')}`,
    ...[from, to],
  )
  sql.run('delete from ticket where ticket = ?', from)
}

/** The ticket has a machine, or an action that may make one. */
const isInUse = (sql: Sql, ticket: Ticket): boolean =>
  sql.get(
    `select 1 as n from environment where ticket = ?1 and gone_at is null
     union all select 1 from action where ticket = ?1 and state = 'active'`,
    ticket,
  ) !== undefined

/** Makes way in tables with one row a ticket: what a machine in use has stays, and what is left of none goes. */
const makeWay = (sql: Sql, from: Ticket, to: Ticket): void => {
  if (!isInUse(sql, to)) {
    sql.run(
      'delete from environment where ticket = ? and exists (select 1 from environment where ticket = ?)',
      to,
      from,
    )
    return
  }
  if (isInUse(sql, from))
    throw fail('busy', `renaming ${from} to ${to}: both have a machine or an action in progress; decide it again`)
  for (const table of ['environment', 'pin', 'scheduled']) sql.run(`delete from ${table} where ticket = ?`, from)
}

/** Attempts go along with their ticket, with what is queued for them. Their runner tells when a number was taken. */
const renameAttempts = (sql: Sql, from: Ticket, to: Ticket): void => {
  const range = "ticket > ?1 || '~' and ticket < ?1 || '~:'"
  const keys = sql.all<{ ticket: EnvironmentKey }>(
    `select ticket from environment where ${range} union select ticket from action where ${range}
     union select ticket from pin where ${range}`,
    from,
  )
  for (const { ticket: key } of keys) {
    const now = withTicket(key, to)
    sql.run('delete from environment where ticket = ?', now)
    renameRows(sql, key, now)
    sql.run('update or replace pin set ticket = ? where ticket = ?', now, key)
  }
}

export const renameTicket = (sql: Sql, from: Ticket, to: Ticket): void => {
  if (from === to) return
  makeWay(sql, from, to)
  const move = (table: string, column: string, which = 'true') =>
    sql.run(`update or replace ${table} set ${column} = ? where ${column} = ? and ${which}`, to, from)
  renameRows(sql, from, to)
  renameAttempts(sql, from, to)
  renameThreads(sql, from, to)
  renameMessages(sql, from, to)
  mergeTickets(sql, from, to)
  move('pin', 'ticket')
  move('pull_request', 'ticket')
  move('scheduled', 'ticket')
  move('own_comment', 'place', `side = 'jira' and kind in ('status','reply','note','link')`)
  move('own_comment', 'about', `side = 'github' and kind = 'status'`)
  // An issue may move on, or back.
  move('ticket_alias', 'ticket')
  sql.run('delete from ticket_alias where alias = ?', to)
  sql.put('ticket_alias', { alias: from }, { ticket: to })
}
