import type { Message, OutboxRow, Store } from '../port.ts'
import { isDue } from './due.ts'
import type { Sql } from './sql.ts'

type Row = Omit<OutboxRow, 'body'> & { body: string }

/** `correlation`: the delivery that caused them. */
export const putMessages = (sql: Sql, messages: readonly Message[], correlation: string | null): void => {
  for (const { key, body } of messages) {
    const text = JSON.stringify(body)
    const replaced = sql.run(
      `update outbox set body = ?, version = version + 1, correlation = coalesce(?, correlation), attempt = 0,
         not_before = 0, reason = null
       where key = ?`,
      ...[text, correlation, key],
    )
    if (replaced === 0)
      sql.run(
        'insert into outbox (body, correlation, key, created_at) values (?, ?, ?, ?)',
        ...[text, correlation, key, sql.clock()],
      )
  }
}

export const openOutbox = (sql: Sql): Store['outbox'] => ({
  put: async messages => sql.transaction(() => putMessages(sql, messages, null)),
  has: async key => sql.get('select 1 as n from outbox where key = ?', key) !== undefined,
  due: async (limit, after = 0) =>
    sql
      .all<Row>(
        `select seq, key, body, version, attempt, correlation from outbox where seq > ?1 and ${isDue('not_before', '?2')} order by seq limit ?3`,
        ...[after, sql.clock(), limit],
      )
      .map(row => ({ ...row, body: JSON.parse(row.body) })),
  ack: async ({ seq, version }) => void sql.run('delete from outbox where seq = ? and version = ?', seq, version),
  postpone: async (seq, at, reason) =>
    void sql.run('update outbox set attempt = attempt + 1, not_before = ?, reason = ? where seq = ?', at, reason, seq),
  drop: async seq => void sql.run('delete from outbox where seq = ?', seq),
  nextDueAt: async () =>
    sql.get<{ at: number | null }>(
      `select min(iif(${isDue('not_before', '?1')}, ?1, not_before)) as at from outbox`,
      sql.clock(),
    )?.at ?? null,
})
