import type { RepositoryFile, Store } from '../port.ts'
import type { Sql } from './sql.ts'

type FileRow = Omit<RepositoryFile, 'problems'> & { problems: string }

/** Prefixes of the cursors that belong to one repository. */
const CURSORS = ['github:', 'github-app:']

/**
 * Tables that hold what is known of a repository, by its name. A reply stays with the name under which its command was given:
 * GitHub redirects from it.
 */
const OF_A_REPOSITORY = [
  ...['pull_request', 'allowed_commit', 'head', 'installation', 'repository_file'].map(table => [
    table,
    'repo',
    'true',
  ]),
  ['own_comment', 'place', `side = 'github' and kind = 'status'`],
] as const

const dropKnowledge = (sql: Sql, repo: string): void => {
  for (const [table, column, which] of OF_A_REPOSITORY)
    sql.run(`delete from ${table} where ${column} = ? and ${which}`, repo)
  for (const prefix of CURSORS) sql.run('delete from cursor where name = ?', prefix + repo)
  sql.run("delete from own_comment where kind = 'link' and about >= ?1 || '#' and about < ?1 || '$'", repo)
  sql.run('delete from repository_name where repo = ?', repo)
  sql.run('delete from repository_former where repo = ?', repo)
}

const moveKnowledge = (sql: Sql, from: string, to: string): void => {
  for (const [table, column, which] of OF_A_REPOSITORY)
    sql.run(`update or replace ${table} set ${column} = ? where ${column} = ? and ${which}`, to, from)
  for (const prefix of CURSORS)
    sql.run('update or replace cursor set name = ? where name = ?', prefix + to, prefix + from)
  sql.run(
    `update or replace own_comment set about = ?2 || substr(about, length(?1) + 1)
     where kind = 'link' and about >= ?1 || '#' and about < ?1 || '$'`,
    ...[from, to],
  )
}

const rename = (sql: Sql, id: number, repo: string): void => {
  const before = sql.get<{ repo: string }>('select repo from repository_name where id = ?', id)?.repo
  if (before === repo) return
  if (sql.get('select 1 as n from repository_name where repo = ?', repo) !== undefined) dropKnowledge(sql, repo)
  // A name that was given away says nothing about the repository that had it.
  sql.run('delete from repository_former where former = ?', repo)
  if (before !== undefined) {
    moveKnowledge(sql, before, repo)
    sql.run('update repository_former set repo = ? where repo = ?', repo, before)
    sql.put('repository_former', { former: before }, { repo })
  }
  sql.put('repository_name', { id }, { repo })
}

export const openRepositories = (sql: Sql): Store['repositories'] => ({
  nameOf: async id => sql.get<{ repo: string }>('select repo from repository_name where id = ?', id)?.repo ?? null,
  namesOf: async repo => {
    const present = sql.get<{ repo: string }>('select repo from repository_former where former = ?', repo)?.repo ?? repo
    const former = sql.all<{ former: string }>('select former from repository_former where repo = ?', present)
    // Under another owner, other people decide what happens there.
    const owner = (name: string) => name.split('/')[0]?.toLowerCase()
    const others = [present, ...former.map(row => row.former)].filter(name => name !== repo)
    return [repo, ...others.filter(name => owner(name) === owner(repo))]
  },
  presentName: async repo =>
    sql.get<{ repo: string }>(
      `select coalesce(
         (select repo from repository_name where repo = ?1 collate nocase),
         (select repo from repository_former where former = ?1 collate nocase)) as repo`,
      repo,
    )?.repo ?? repo,
  rename: async (id, repo) => sql.transaction(() => rename(sql, id, repo)),
  setInstallation: async (repo, id) =>
    void sql.run(
      // Each delivery names it, nearly always the same.
      `insert into installation (repo, id) values (?, ?)
       on conflict (repo) do update set id = excluded.id where id <> excluded.id`,
      ...[repo, id],
    ),
  installation: async repo => sql.get<{ id: number }>('select id from installation where repo = ?', repo)?.id ?? null,
  file: async repo => {
    const row = sql.get<FileRow>('select etag, good, problems, checked_at from repository_file where repo = ?', repo)
    return row === undefined ? null : { ...row, problems: JSON.parse(row.problems) }
  },
  files: async () =>
    sql.all<{ repo: string; good: string | null }>('select repo, good from repository_file order by repo'),
  setFile: async (repo, file) =>
    sql.put('repository_file', { repo }, { ...file, problems: JSON.stringify(file.problems) }),
  watched: async () =>
    sql
      .all<{ repo: string }>(
        `select distinct substr(name, instr(name, ':') + 1) as repo from cursor
         where name like 'github:%/%' or name like 'github-app:%/%' order by repo`,
      )
      .map(row => row.repo),
  heads: async repo =>
    new Map(
      sql
        .all<{ ref: string; commitId: string }>('select ref, commit_id from head where repo = ?', repo)
        .map(row => [row.ref, row.commitId]),
    ),
  setHead: async (repo, ref, commit) => sql.put('head', { repo, ref }, { commitId: commit }),
})
