/** Repositories: the App's installation that reaches them, and their own rules as they were read last. */
import type { Tables } from './tables.ts'

/** `good`: the last content of the file that had no mistake. */
type RepositoryFile = { etag: string | null; good: string | null; problems: string[]; checkedAt: number }
type Row = { etag: string | null; good: string | null; problems: string; checked_at: number }

/** What belongs to a repository under its name. A reply stays with the name that its command was given under, and GitHub leads on. */
const OF_A_REPOSITORY = [
  ...['pull_request', 'jira_link', 'allowed', 'head', 'repository', 'repository_file'].map(table => [table, 'true']),
  ['comment', `kind = 'status'`],
] as const
const PLACES = ['github:', 'github-app:']

export const repositories = ({ run, get, all, put, together }: Tables) => ({
  isNamed: (id: number, repo: string): boolean =>
    get('select 1 as n from repository_name where id = ? and repo = ?', id, repo) !== undefined,
  /**
   * GitHub's number of a repository, and how it is called now: under another name, what is known of it goes there; what is known of one that had this
   * name before is forgotten.
   */
  nameRepository: (id: number, repo: string): void => {
    const before = get<{ repo: string }>('select repo from repository_name where id = ?', id)?.repo
    if (before === repo) return
    together(() => {
      if (get('select 1 as n from repository_name where repo = ?', repo) !== undefined) {
        for (const [table, which] of OF_A_REPOSITORY) run(`delete from ${table} where repo = ? and ${which}`, repo)
        for (const place of PLACES) run('delete from place where what = ?', place + repo)
        run('delete from repository_name where repo = ?', repo)
      }
      if (before !== undefined) {
        for (const [table, which] of OF_A_REPOSITORY)
          run(`update or replace ${table} set repo = ? where repo = ? and ${which}`, repo, before)
        for (const place of PLACES)
          run('update or replace place set what = ? where what = ?', place + repo, place + before)
      }
      put('repository_name', { id }, { repo })
    })
  },

  setInstallation: (repo: string, id: number): void =>
    void run(
      `insert into repository (repo, installation_id) values (?, ?)
       on conflict (repo) do update set installation_id = excluded.installation_id
       where installation_id is not excluded.installation_id`,
      repo,
      id,
    ),
  installationOf: (repo: string): number | null =>
    get<{ id: number }>('select installation_id as id from repository where repo = ?', repo)?.id ?? null,

  repositoryFile: (repo: string): RepositoryFile | null => {
    const row = get<Row>('select * from repository_file where repo = ?', repo)
    if (row === undefined) return null
    const { etag, good, problems, checked_at } = row
    return { etag, good, problems: JSON.parse(problems), checkedAt: checked_at }
  },
  /** All that are known, by name. */
  repositoryFiles: () =>
    all<{ repo: string; good: string | null }>('select repo, good from repository_file order by repo'),
  setRepositoryFile: (repo: string, { etag, good, problems, checkedAt }: RepositoryFile): void =>
    put('repository_file', { repo }, { etag, good, problems: JSON.stringify(problems), checked_at: checkedAt }),
})
