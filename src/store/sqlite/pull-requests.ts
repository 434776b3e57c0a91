import type { Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { KnownPullRequest, PullRequestLink, PullRequestState, Store } from '../port.ts'
import type { Sql } from './sql.ts'

/** `decided` and `decidedAt` are set together. */
type Row = PullRequestLink & { decided: PullRequestState | null; decidedAt: number }
const pullRequestOf = ({ decided, decidedAt, ...link }: Row): KnownPullRequest => ({
  ...link,
  decided: decided === null ? null : { state: decided, at: decidedAt },
})

export const pullRequestDecided = (sql: Sql, { repo, number }: PullRequestRef, state: PullRequestState): void =>
  void sql.run(
    'update pull_request set decided = ?, decided_at = ? where repo = ? and number = ?',
    ...[state, sql.clock(), repo, number],
  )

export const allowCommit = (sql: Sql, { repo, number }: PullRequestRef, commit: string): void =>
  sql.put('allowed_commit', { repo, number }, { commitId: commit })

export const openPullRequests = (sql: Sql): Store['pullRequests'] => ({
  link: async ({ repo, number, ticket, branch, state, closedAt }) =>
    sql.transaction(() => {
      sql.put('pull_request', { repo, number }, { ticket, branch, state, closedAt })
      sql.put('ticket', { ticket }, { hadPullRequest: 1 })
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
    sql.get<{ commitId: string }>('select commit_id from allowed_commit where repo = ? and number = ?', repo, number)
      ?.commitId ?? null,
})
