/** What the runner knows of a machine's project: where it is, how setup and start ended, what was pushed, and the last note. */
import type { EnvironmentKey, Ticket } from '../domain.ts'
import type { ProjectSpec } from '../schema/action.ts'
import type { Environment, Project, Push } from '../schema/environment.ts'
import { type Cell, type Database, type Row, readJson } from './database.ts'

/**
 * `summary`: of the ticket, for the name of a branch; outside text. `save`: patterns of ignored files that count as work. `prepared`: a
 * create got as far as its setup, or had none to do; until then an agent finds nothing to work in.
 */
export type ProjectRow = Project & Pick<ProjectSpec, 'summary'> & { save: string[]; prepared: boolean }

/** Commits of one push that are remembered as the machine's own. */
const MAX_PUSHED_COMMITS = 10_000
/** Pushes of one ticket that are kept. */
const MAX_PUSHES = 20

const COLUMNS = 'ticket, repo, branch, summary, path, ports, save, setup, start, problem, prepared'
const projectFrom = (row: Row): ProjectRow => ({
  repo: row.repo as string,
  branch: row.branch as string | null,
  summary: row.summary as string | null,
  path: row.path as string,
  ports: readJson<number[]>(row.ports) ?? [],
  save: readJson<string[]>(row.save) ?? [],
  setup: readJson<Project['setup']>(row.setup),
  start: readJson<Project['start']>(row.start),
  problem: row.problem as string | null,
  prepared: row.prepared === 1,
})
const pushFrom = ({ repo, branch, commit, byAgent, at }: Row) =>
  ({ repo, branch, commit, byAgent: byAgent === 1, at }) as Push
const PUSHES = `select ticket, repo, branch, commit_id as "commit", by_agent as byAgent, at from push`

export const projectQueries = ({ all, first, run, transaction }: Database) => ({
  project: (ticket: Ticket): ProjectRow | null => {
    const row = first(`select ${COLUMNS} from project where ticket = ?`, ticket)
    return row === undefined ? null : projectFrom(row)
  },
  /** Writes all of it. The ticket has an environment. */
  setProject: (ticket: Ticket, project: ProjectRow): void => {
    const { repo, branch, summary, path, ports, save, setup, start, problem, prepared } = project
    const json = (value: unknown): Cell => (value === null ? null : JSON.stringify(value))
    run(
      `insert or replace into project (${COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      ...[ticket, repo, branch, summary, path, json(ports), json(save), json(setup), json(start), problem],
      prepared ? 1 : 0,
    )
  },
  /** What an attempt has of its source: the project, on a branch of its own, the note, and the commits that count as its own. */
  copyWork: (from: EnvironmentKey, to: EnvironmentKey, branch: string | null): void =>
    transaction(() => {
      run(
        `insert or replace into project (${COLUMNS})
         select ?, repo, ?, summary, path, ports, save, setup, start, problem, prepared from project where ticket = ?`,
        ...[to, branch, from],
      )
      run('insert or replace into note (ticket, text, at) select ?, text, at from note where ticket = ?', to, from)
      run(
        `insert or ignore into pushed_commit (ticket, repo, commit_id)
         select ?, repo, commit_id from pushed_commit where ticket = ?`,
        ...[to, from],
      )
    }),
  /** Of the tickets that have one, or of this ticket alone, in a constant number of queries. */
  projectsByTicket: (ticket?: Ticket): Map<Ticket, Pick<Environment, 'project' | 'pushes' | 'note'>> => {
    const found = new Map<Ticket, Pick<Environment, 'project' | 'pushes' | 'note'>>()
    const add = (ticket: Cell | undefined, part: Pick<Environment, 'project' | 'pushes' | 'note'>) =>
      found.set(ticket as Ticket, { ...found.get(ticket as Ticket), ...part })
    const [where, values] = ticket === undefined ? ['', []] : ['where ticket = ?', [ticket]]
    for (const row of all(`select ${COLUMNS} from project ${where}`, ...values)) {
      const { summary: _, save: _save, prepared: _prepared, ...project } = projectFrom(row)
      add(row.ticket, { project })
    }
    for (const [pushed, rows] of Map.groupBy(all(`${PUSHES} ${where} order by id`, ...values), row => row.ticket))
      add(pushed, { pushes: rows.map(pushFrom) })
    for (const { ticket: noted, text, at } of all(`select ticket, text, at from note ${where}`, ...values))
      add(noted, { note: { text: text as string, at: at as string } })
    return found
  },

  /** A push that was let through, with the commits that it brought: `commits` are then the machine's own. */
  recordPush: (ticket: Ticket, push: Push, commits: readonly string[]): void =>
    transaction(() => {
      const { repo, branch, commit, byAgent, at } = push
      run(
        'insert into push (ticket, repo, branch, commit_id, by_agent, at) values (?, ?, ?, ?, ?, ?)',
        ...[ticket, repo, branch, commit, byAgent ? 1 : 0, at],
      )
      run(
        'delete from push where ticket = ? and id not in (select id from push where ticket = ? order by id desc limit ?)',
        ...[ticket, ticket, MAX_PUSHES],
      )
      for (const id of commits.slice(0, MAX_PUSHED_COMMITS))
        run('insert or ignore into pushed_commit (ticket, repo, commit_id) values (?, ?, ?)', ticket, repo, id)
    }),
  /** Oldest first. */
  pushes: (ticket: Ticket): Push[] => all(`${PUSHES} where ticket = ? order by id`, ticket).map(pushFrom),
  /** Whether this machine pushed all of these commits itself. */
  pushedAll: (ticket: Ticket, repo: string, commits: readonly string[]): boolean =>
    commits.every(
      id =>
        first('select 1 from pushed_commit where ticket = ? and repo = ? and commit_id = ?', ticket, repo, id) !==
        undefined,
    ),

  setNote: (ticket: Ticket, note: NonNullable<Environment['note']>): void =>
    void run('insert or replace into note (ticket, text, at) values (?, ?, ?)', ticket, note.text, note.at),
  note: (ticket: Ticket): NonNullable<Environment['note']> | null =>
    first<NonNullable<Environment['note']>>('select text, at from note where ticket = ?', ticket) ?? null,
})
