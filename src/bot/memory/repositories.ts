/** Repositories: the App's installation that reaches them, and their own rules as they were read last. */
import type { Tables } from './tables.ts'

/** `good`: the last content of the file that had no mistake. */
type RepositoryFile = { etag: string | null; good: string | null; problems: string[]; checkedAt: number }
type Row = { etag: string | null; good: string | null; problems: string; checked_at: number }

export const repositories = ({ run, get, all, put }: Tables) => ({
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
