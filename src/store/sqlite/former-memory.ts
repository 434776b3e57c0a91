/** `memory.db`, which earlier versions had beside `bot.db`: any version of it gets the columns that the import reads. */
import type { DatabaseSync } from 'node:sqlite'
import type { Migration } from '../../sqlite.ts'

const VERSIONS = 9

const COLUMNS: Readonly<Record<string, string>> = {
  ticket: 'ticket, category, category_at, last_new_at, ended_at, had_pull_request, settled, to_new_at, to_progress_at',
  planned: 'ticket, event, at',
  change: 'id, delivery, at',
  pull_request: 'repo, number, ticket, branch, state, settled, settled_at, closed_at',
  allowed: 'repo, number, commit_sha',
  repository_name: 'id, repo',
  repository: 'repo, installation_id',
  repository_file: 'repo, etag, good, problems, checked_at',
  head: 'repo, ref, sha',
  place: 'what, value',
  comment: 'kind, repo, number, about, comment_id, fingerprint',
  jira_comment: 'about, ticket, begun_at, done_at, comment_id, fingerprint',
  jira_link: 'repo, number, ticket, fingerprint',
  environment: 'ticket, vm_id, runner_id, body, heard_at, missing, gone_at, deleted',
  runner: 'id, host, seen_at',
  asked: 'action_id, ticket, kind, asked_by, at, person',
  command: 'thread, line, comment, at, action_id, action, said, outcome, ok, ended_at',
  operation: 'seq, ticket, body',
  audit: 'seq, id, at, who, what, place, reason, verdict, ticket',
}

/** Commands of the first versions were all on GitHub, and their answer was plain text. */
const TRANSLATE_COMMANDS = `
  create table command_after as
    select 'github:' || repo || ':' || comment_id as thread, line,
      json_object('repo', repo, 'number', number, 'commentId', comment_id) as comment, at, action_id, action,
      iif(said is null, null, json_object('text', said, 'help', json('false'))) as said, outcome, ok
    from command;
  drop table command;
  alter table command_after rename to command`

const complete = (db: DatabaseSync): void => {
  const columnsOf = (table: string) =>
    db
      .prepare('select name from pragma_table_info(?)')
      .all(table)
      .map(({ name }) => name)
  if (columnsOf('command').includes('repo')) db.exec(TRANSLATE_COMMANDS)
  // The first versions kept only the last operation of a ticket, which the import leaves out.
  if (!columnsOf('operation').includes('seq')) db.exec('drop table if exists operation')
  for (const [table, columns] of Object.entries(COLUMNS)) {
    db.exec(`create table if not exists ${table} (${columns})`)
    const present = columnsOf(table)
    for (const column of columns.split(', '))
      if (!present.includes(column)) db.exec(`alter table ${table} add column ${column} any`)
  }
}

/** The last version completes whatever an earlier one left. */
export const formerMigrations: readonly Migration[] = [...new Array<string>(VERSIONS - 1).fill(''), complete]
