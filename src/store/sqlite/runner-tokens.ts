/** The tokens of runners, each as its SHA-256 alone, and which runner a token stands for. */
import { randomUUID } from 'node:crypto'
import type { Store, TokenHolder } from '../port.ts'
import { isForgotten } from './forget-runner.ts'
import type { Sql } from './sql.ts'

/** `name` is empty for the token of AGENT_SWARM_RUNNER_TOKEN. `instance`: the installation that showed it first. */
type Row = { name: string; hash: string; runnerId: string; instance: string | null }
type Listed = { name: string | null; id: string; host: string | null; seenAt: number | null }

const SHARED = ''

/** The token of one runner, shown by `instance`: it belongs to the first one that shows it. */
const holderOf = (sql: Sql, row: Row, instance: string | null): TokenHolder => {
  const { name, runnerId } = row
  if (instance !== null && row.instance === null)
    sql.run('update runner_token set instance = ? where name = ?', instance, name)
  else if (instance !== null && row.instance !== instance) return { who: 'another', runnerId }
  return { who: 'runner', runnerId }
}

/** The shared token belongs to the first id that shows it. An id with a token of its own cannot be claimed with the shared one. */
const sharedHolder = (sql: Sql, hash: string, instance: string | null): TokenHolder => {
  const row = sql.get<Row>('select * from runner_token where name = ?', SHARED)
  if (row?.hash === hash) return holderOf(sql, row, instance)
  if (instance === null || isForgotten(sql, instance)) return { who: 'unknown' }
  const owner = sql.get<Row>(
    'select * from runner_token where ?1 in (runner_id, instance) and name <> ?2',
    instance,
    SHARED,
  )
  if (owner !== undefined) return { who: 'another', runnerId: owner.runnerId }
  // The operator changed the shared token: whoever had the former one has none.
  sql.put('runner_token', { name: SHARED }, { hash, runnerId: instance, instance, createdAt: sql.clock() })
  return { who: 'runner', runnerId: instance }
}

export const openRunnerTokens = (sql: Sql): Store['runnerTokens'] => ({
  add: async ({ name, hash, as }) =>
    sql.transaction(() => {
      const holder = sql.get<Row>('select * from runner_token where runner_id = ? and name <> ?', as, SHARED)
      if (sql.get('select 1 as n from runner_token where name = ?', name) !== undefined)
        return { problem: 'name-taken' }
      if (holder !== undefined) return { problem: 'has-token', name: holder.name }
      if (as !== null && sql.get('select 1 as n from runner where id = ?', as) === undefined)
        return { problem: 'unknown-runner' }
      const runnerId = as ?? randomUUID()
      sql.add('runner_token', { name, hash, runnerId, instance: null, createdAt: sql.clock() })
      return { runnerId }
    }),
  revoke: async name =>
    sql.transaction(() => {
      const row = sql.get<Row>('select * from runner_token where name = ? and name <> ?', name, SHARED)
      sql.run('delete from runner_token where name = ? and name <> ?', name, SHARED)
      return row?.runnerId ?? null
    }),
  list: async () =>
    sql
      .all<Listed>(
        `select t.name, coalesce(t.runner_id, r.id) as id, r.host, r.seen_at
         from runner r full join runner_token t on t.runner_id = r.id order by t.name is null, t.name, id`,
      )
      .map(({ name, id, host, seenAt }) => ({
        ...{ id, host, seenAt },
        name: name === SHARED ? null : name,
        token: name === null ? 'none' : name === SHARED ? 'shared' : 'own',
      })),
  isKnown: async runnerId => sql.get('select 1 as n from runner where id = ?', runnerId) !== undefined,
  hasOwn: async () => sql.get('select 1 as n from runner_token where name <> ?', SHARED) !== undefined,
  identify: async (hash, { instance, isShared }) => {
    const row = sql.get<Row>('select * from runner_token where hash = ? and name <> ?', hash, SHARED)
    if (row !== undefined) return holderOf(sql, row, instance)
    return isShared ? sharedHolder(sql, hash, instance) : { who: 'unknown' }
  },
})
