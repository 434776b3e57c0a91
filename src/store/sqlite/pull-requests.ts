/** Which pull requests belong to a ticket, and how they are. */
import type { Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { Tables } from './tables.ts'

export type PullRequestLink = PullRequestRef & {
  ticket: Ticket
  branch: string
  state: 'open' | 'closed' | 'merged'
  /** Epoch ms; null while it is open. */
  closedAt: number | null
}
type State = PullRequestLink['state']
/** `settled`: the state that the last decided event found, and when; null when none was decided. */
export type KnownPullRequest = PullRequestLink & { settled: { state: State; at: number } | null }

/** `settled` and `settled_at` are set together. */
type Row = {
  repo: string
  number: number
  ticket: Ticket
  branch: string
  state: State
  closed_at: number | null
  settled: State | null
  settled_at: number
}
const linkFrom = ({ repo, number, ticket, branch, state, closed_at, settled, settled_at }: Row): KnownPullRequest => ({
  ...{ repo, number, ticket, branch, state },
  closedAt: closed_at,
  settled: settled === null ? null : { state: settled, at: settled_at },
})

export const pullRequests = ({ run, get, all, put, clock }: Tables) => ({
  link: ({ repo, number, ticket, branch, state, closedAt }: PullRequestLink): void => {
    put('pull_request', { repo, number }, { ticket, branch, state, closed_at: closedAt })
    put('ticket', { ticket }, { had_pull_request: 1 })
  },
  unlink: ({ repo, number }: PullRequestRef): void =>
    void run('delete from pull_request where repo = ? and number = ?', repo, number),
  /** An event about it was decided, which found it in this state. */
  settlePullRequest: ({ repo, number }: PullRequestRef, state: State): void =>
    void run(
      'update pull_request set settled = ?, settled_at = ? where repo = ? and number = ?',
      state,
      clock(),
      repo,
      number,
    ),
  linkOf: ({ repo, number }: PullRequestRef): KnownPullRequest | null => {
    const row = get<Row>('select * from pull_request where repo = ? and number = ?', repo, number)
    return row === undefined ? null : linkFrom(row)
  },
  pullRequestsOf: (ticket: Ticket): KnownPullRequest[] =>
    all<Row>('select * from pull_request where ticket = ? order by repo, number', ticket).map(linkFrom),
  /** Tickets with a pull request in it. */
  ticketsOf: (repo: string): Ticket[] =>
    all<{ ticket: Ticket }>('select distinct ticket from pull_request where repo = ?', repo).map(row => row.ticket),

  /** The commit of a fork's pull request on which commands may act. */
  allow: ({ repo, number }: PullRequestRef, commit: string): void =>
    put('allowed', { repo, number }, { commit_sha: commit }),
  allowed: ({ repo, number }: PullRequestRef): string | null =>
    get<{ sha: string }>('select commit_sha as sha from allowed where repo = ? and number = ?', repo, number)?.sha ??
    null,
})
