/** How far each poll has come, and where the branches of tickets were. */
import { json, type Tables } from './tables.ts'

export const places = ({ get, all, put }: Tables) => ({
  place: <T>(what: string): T | null =>
    json<T>(get<{ value: string }>('select value from place where what = ?', what)?.value),
  setPlace: (what: string, value: unknown): void => put('place', { what }, { value: JSON.stringify(value) }),
  /** The repositories that were looked at, by name. */
  watched: (): string[] =>
    all<{ repo: string }>(
      `select distinct substr(what, instr(what, ':') + 1) as repo from place
       where what like 'github:%/%' or what like 'github-app:%/%' order by repo`,
    ).map(row => row.repo),
  heads: (repo: string): Map<string, string> =>
    new Map(
      all<{ ref: string; sha: string }>('select ref, sha from head where repo = ?', repo).map(row => [
        row.ref,
        row.sha,
      ]),
    ),
  setHead: (repo: string, ref: string, sha: string): void => put('head', { repo, ref }, { sha }),
})
