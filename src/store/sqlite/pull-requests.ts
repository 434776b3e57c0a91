import type { Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { KnownPullRequest, PullRequestState, Store } from '../port.ts'
import type { Sql } from './sql.ts'

/** `decided` and `decided_at` are set together. */
type Row = {
  repo: string
  number: number
  ticket: Ticket
  branch: string
  state: PullRequestState
  closed_at: number | null
  decided: PullRequestState | null
  decided_at: number
}
const pullRequestOf = (row: Row): KnownPullRequest => {
  const { repo, number, ticket, branch, state, closed_at: closedAt, decided, decided_at: at } = row
  return {
    ...{ repo, number, ticket, branch, state, closedAt },
    decided: decided === null ? null : { state: decided, at },
  }
}

export const pullRequestDecided = (sql: Sql, { repo, number }: PullRequestRef, state: PullRequestState): void =>
  void sql.run(
    'update pull_request set decided = ?, decided_at = ? where repo = ? and number = ?',
    ...[state, sql.clock(), repo, number],
  )

export const allowCommit = (sql: Sql, { repo, number }: PullRequestRef, commit: string): void =>
  sql.put('allowed_commit', { repo, number }, { commit_id: commit })

export const openPullRequests = (sql: Sql): Store['pullRequests'] => ({
  link: async ({ repo, number, ticket, branch, state, closedAt }) =>
    sql.transaction(() => {
      sql.put('pull_request', { repo, number }, { ticket, branch, state, closed_at: closedAt })
      sql.put('ticket', { ticket }, { had_pull_request: 1 })
    }),
  unlink: async ({ repo, number }) =>
    void sql.run('delete from pull_request where repo = ? and number = ?', repo, number),
  get: async ({ repo, number }) => {
    const row = sql.get<Row>('select * from pull_request where repo = ? and number = ?', repo, number)
    return row === undefined ? null : pullRequestOf(row)
  },
  ofTicket: async ticket =>
    sql.all<Row>('select * from pull_request where ticket = ? order by repo, number', ticket).map(pullRequestOf),
  ticketsIn: async repo =>
    sql
      .all<{ ticket: Ticket }>('select distinct ticket from pull_request where repo = ? order by ticket', repo)
      .map(row => row.ticket),
  allowedCommit: async ({ repo, number }) =>
    sql.get<{ commit_id: string }>('select commit_id from allowed_commit where repo = ? and number = ?', repo, number)
      ?.commit_id ?? null,
})
