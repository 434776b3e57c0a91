/**
 * Earlier versions kept what the bot knows in `memory.db`, beside `bot.db`. It is imported once, in one transaction; then the
 * file is renamed. A row in `meta` shows that the import is done, also when the process died before the file was renamed.
 */
import { existsSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { openDatabase } from '../../sqlite.ts'
import { formerMigrations } from './former-memory.ts'
import { importRequests } from './import-requests.ts'
import { migrations } from './migrations.ts'
import { type Cells, openSql, type Sql } from './sql.ts'
import { translate } from './translate.ts'

const IMPORTED = 'memory.db is imported'

/** Rows that are copied as they are, with the names that the columns have now. */
const COPIED: readonly [table: string, query: string][] = [
  [
    'ticket',
    `select ticket, category, category_at, last_new_at, ended_at, had_pull_request, settled as decided, to_new_at,
       to_progress_at from ticket`,
  ],
  [
    'scheduled',
    `select ticket, at, 'clock' as source, ticket || ':' || at as id, 'later' as event, 'clock:' || ticket as lane,
       event as body from planned`,
  ],
  ['reported_change', 'select id, delivery, at from change'],
  [
    'pull_request',
    `select repo, number, ticket, branch, state, closed_at, settled as decided, settled_at as decided_at
     from pull_request`,
  ],
  ['allowed_commit', 'select repo, number, commit_sha as commit_id from allowed'],
  ['repository_name', 'select id, repo from repository_name'],
  ['installation', 'select repo, installation_id as id from repository'],
  ['repository_file', 'select repo, etag, good, problems, checked_at from repository_file'],
  ['head', 'select repo, ref, sha as commit_id from head'],
  ['cursor', 'select what as name, value from place'],
  [
    'own_comment',
    `select 'github' as side, kind, repo as place, number, about, 0 as begun_at, null as set_at,
       cast(comment_id as text) as id, fingerprint from comment`,
  ],
  [
    'own_comment',
    // Notes that were written before their ids were kept are written all the same.
    `select 'jira' as side, iif(about like 'reply:%', 'reply', 'note') as kind, ticket as place, 0 as number,
       iif(about like 'reply:%', substr(about, 7), about) as about, begun_at, done_at as set_at,
       iif(done_at is null, null, coalesce(comment_id, 'unknown')) as id, fingerprint from jira_comment`,
  ],
  [
    'own_comment',
    `select 'jira' as side, 'link' as kind, ticket as place, 0 as number, repo || '#' || number as about,
       0 as begun_at, null as set_at, null as id, fingerprint from jira_link`,
  ],
  ['environment', 'select ticket, vm_id, runner_id, body, heard_at, missing, gone_at from environment'],
  ['deleted_machine', 'select vm_id, coalesce(gone_at, heard_at) as at from environment where deleted = 1'],
  ['runner', 'select id, host, seen_at, null as offer from runner'],
]

const importAll = (sql: Sql, former: Sql): void => {
  for (const [table, query] of COPIED) for (const row of former.all<Cells>(query)) sql.add(table, { ...row })
  for (const { ticket, body } of sql.all<{ ticket: string; body: string }>('select ticket, body from environment'))
    sql.run('update environment set body = ? where ticket = ?', translate(body), ticket)
  importRequests(sql, former)
}

/** Imports the `memory.db` beside the `bot.db` at `path`, when there is one. */
export const importMemory = (path: string, clock: () => number): void => {
  const memory = join(dirname(path), 'memory.db')
  if (path === ':memory:' || !existsSync(memory)) return
  const database = openDatabase(path, migrations)
  try {
    const sql = openSql(database, clock)
    database.transaction(() => {
      // Another process may have done it while this one waited for the lock.
      if (sql.get('select 1 as n from meta where name = ?', IMPORTED) !== undefined || !existsSync(memory)) return
      const former = openDatabase(memory, formerMigrations)
      try {
        importAll(sql, openSql(former, clock))
      } finally {
        former.db.close()
      }
      sql.add('meta', { name: IMPORTED, value: new Date(clock()).toISOString() })
    })
  } finally {
    database.db.close()
  }
  if (existsSync(memory) && !existsSync(`${memory}.imported`)) renameSync(memory, `${memory}.imported`)
}
