/**
 * A backup that took the store's place. What was queued in it may be done long ago, so it is held: listed, and carried out one by
 * one when an operator says so.
 */
import type { Action } from '../../schema/action.ts'
import type { HeldRow, MessageBody, Store } from '../port.ts'
import { putMessages } from './outbox.ts'
import { enqueue } from './queue.ts'
import { endRequest } from './requests.ts'
import { json, type Sql } from './sql.ts'
import { currentTicket } from './tickets.ts'

const RESTORED = 'restored from a backup'

/** `madeAt`: when the backup was made, epoch ms. Part of the transaction that makes the store an ordinary one again. */
export const holdQueued = (sql: Sql, madeAt: number): void => {
  const now = sql.clock()
  const queued = `state in ('pending','active')`
  for (const { id } of sql.all<{ id: string }>(`select id from action where ${queued}`)) endRequest(sql, id, null)
  sql.run(
    `insert into held (kind, name, correlation, body, created_at, held_at)
     select 'action', id, correlation, payload, created_at, ? from action where ${queued} order by seq`,
    now,
  )
  sql.run(`delete from action where ${queued}`)
  sql.run(
    `insert into held (kind, name, correlation, body, created_at, held_at)
     select 'message', key, correlation, body, created_at, ? from outbox order by seq`,
    now,
  )
  sql.run('delete from outbox')
  // Polls of repositories begin anew: what they would find since then is over.
  sql.run(`delete from cursor where name glob 'github:*/*'`)
  sql.put('meta', { name: RESTORED }, { value: JSON.stringify({ madeAt, at: now }) })
}

type Row = Omit<HeldRow, 'action' | 'message'> & {
  seq: number
  kind: 'action' | 'message'
  name: string
  correlation: string | null
  body: string
}
const heldFrom = ({ seq, kind, body, createdAt }: Row): HeldRow => ({
  id: `held:${seq}`,
  ...(kind === 'action'
    ? { action: JSON.parse(body) as Action, message: null }
    : { action: null, message: JSON.parse(body) as MessageBody }),
  createdAt,
})

/** Queues it as it was, under its ticket's present key. */
const queueAgain = (sql: Sql, { kind, name, correlation, body }: Row): 'again' | 'had-effect' => {
  if (kind === 'message') {
    putMessages(sql, [{ key: name, body: JSON.parse(body) }], correlation)
    return 'again'
  }
  const action: Action = JSON.parse(body)
  const present = { ...action, ticket: currentTicket(sql, action.ticket) }
  if (!enqueue(sql, { id: name, correlation: correlation ?? name, action: present })) return 'had-effect'
  sql.run('update request set ended_at = null, ok = null, outcome = null where id = ?', name)
  return 'again'
}

export const openHeld = (sql: Sql): Store['held'] => ({
  restoredAt: async () =>
    json<{ at: number }>(sql.get<{ value: string }>('select value from meta where name = ?', RESTORED)?.value)?.at ??
    null,
  list: async limit => sql.all<Row>('select * from held order by seq limit ?', limit).map(heldFrom),
  replay: async id =>
    sql.transaction(() => {
      const row = sql.get<Row>(`select * from held where 'held:' || seq = ?`, id)
      if (row === undefined) return 'unknown'
      sql.run('delete from held where seq = ?', row.seq)
      return queueAgain(sql, row)
    }),
})
