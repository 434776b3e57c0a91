import type { Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import { jiraUnlinkMessage, unlinkedMessage } from '../messages.ts'
import type { KnownPullRequest, PullRequestLink, PullRequestState, Store } from '../port.ts'
import { putMessages } from './outbox.ts'
import type { Sql } from './sql.ts'

/** `decided` and `decidedAt` are set together. */
type Row = PullRequestLink & { decided: PullRequestState | null; decidedAt: number; ready: number | null }
const pullRequestOf = ({ decided, decidedAt, ready, ...link }: Row): KnownPullRequest => ({
  ...link,
  ready: ready === null ? null : ready === 1,
  decided: decided === null ? null : { state: decided, at: decidedAt },
})

export const pullRequestDecided = (sql: Sql, { repo, number }: PullRequestRef, state: PullRequestState): void =>
  void sql.run(
    'update pull_request set decided = ?, decided_at = ? where repo = ? and number = ?',
    ...[state, sql.clock(), repo, number],
  )

export const pullRequestReady = (sql: Sql, { repo, number }: PullRequestRef, ready: boolean): void =>
  void sql.run('update pull_request set ready = ? where repo = ? and number = ?', Number(ready), repo, number)

export const allowCommit = (sql: Sql, { repo, number }: PullRequestRef, commit: string): void =>
  sql.put('allowed_commit', { repo, number }, { commitId: commit })

/** The status comment for the previous ticket, and the link in Jira, would go on to say what is not so any more. */
const tellUnlinked = (sql: Sql, { repo, number }: PullRequestRef, present: Ticket | null): void => {
  const before = sql.get<{ ticket: Ticket }>(
    'select ticket from pull_request where repo = ? and number = ?',
    repo,
    number,
  )
  if (before === undefined || before.ticket === present) return
  const comment = sql.get(
    `select 1 as n from own_comment where side = 'github' and kind = 'status' and place = ? and number = ? and about = ?`,
    ...[repo, number, before.ticket],
  )
  const jiraLink = sql.get(
    `select 1 as n from own_comment where side = 'jira' and kind = 'link' and place = ? and about = ?`,
    ...[before.ticket, `${repo}#${number}`],
  )
  putMessages(
    sql,
    [
      ...(comment === undefined ? [] : [unlinkedMessage({ repo, number }, before.ticket)]),
      ...(jiraLink === undefined ? [] : [jiraUnlinkMessage({ repo, number }, before.ticket)]),
    ],
    null,
  )
}

export const openPullRequests = (sql: Sql): Store['pullRequests'] => ({
  link: async ({ repo, number, ticket, branch, state, closedAt }) =>
    sql.transaction(() => {
      tellUnlinked(sql, { repo, number }, ticket)
      sql.put('pull_request', { repo, number }, { ticket, branch, state, closedAt })
      sql.put('ticket', { ticket }, { hadPullRequest: 1 })
    }),
  unlink: async ({ repo, number }) =>
    sql.transaction(() => {
      tellUnlinked(sql, { repo, number }, null)
      sql.run('delete from pull_request where repo = ? and number = ?', repo, number)
    }),
  get: async ({ repo, number }) => {
    const row = sql.get<Row>('select * from pull_request where repo = ? and number = ?', repo, number)
    return row === undefined ? null : pullRequestOf(row)
  },
  ofTicket: async ticket =>
    sql.all<Row>('select * from pull_request where ticket = ? order by repo, number', ticket).map(pullRequestOf),
  inRepository: async repo =>
    sql.all<Row>('select * from pull_request where repo = ? order by number', repo).map(pullRequestOf),
  projects: async () =>
    sql.all<{ repo: string; project: string }>(
      `select distinct repo, substr(ticket, 1, instr(ticket, '-') - 1) as project from pull_request order by repo`,
    ),
  ticketsIn: async repo =>
    sql
      .all<{ ticket: Ticket }>('select distinct ticket from pull_request where repo = ? order by ticket', repo)
      .map(row => row.ticket),
  allowedCommit: async ({ repo, number }) =>
    sql.get<{ commitId: string }>('select commit_id from allowed_commit where repo = ? and number = ?', repo, number)
      ?.commitId ?? null,
})
