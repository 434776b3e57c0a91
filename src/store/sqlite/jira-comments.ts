/** Our own comments in Jira, begun before they are sent, so that a crash in between is seen; and its links to pull requests. */
import type { Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { Tables } from './tables.ts'

type Row = { begun_at: number; done_at: number | null; comment_id: string | null; fingerprint: string | null }

export const jiraComments = ({ run, get, add, put, clock }: Tables) => {
  const rowOf = (about: string) => get<Row>('select * from jira_comment where about = ?', about)

  return {
    /** `begunAt` null: never tried. `done`: it is there. */
    jiraComment: (about: string): { begunAt: number | null; done: boolean } => {
      const row = rowOf(about)
      return { begunAt: row?.begun_at ?? null, done: row !== undefined && row.done_at !== null }
    },
    beginJiraComment: (about: string, ticket: Ticket): void =>
      void add('jira_comment', { about, ticket, begun_at: clock() }),
    endJiraComment: (about: string, id: string): void =>
      void run('update jira_comment set done_at = ?, comment_id = ? where about = ?', clock(), id, about),
    isOwnJiraComment: (id: string): boolean =>
      get('select 1 as n from jira_comment where comment_id = ?', id) !== undefined,

    /** Our answer to a comment in Jira. */
    jiraAnswer: (about: string): { id: string | null; fingerprint: string | null } | null => {
      const row = rowOf(about)
      return row === undefined ? null : { id: row.comment_id, fingerprint: row.fingerprint }
    },
    setJiraAnswer: (about: string, id: string | null, fingerprint: string | null): void =>
      void run(
        'update jira_comment set comment_id = ?, fingerprint = ?, done_at = ? where about = ?',
        id,
        fingerprint,
        id === null ? null : clock(),
        about,
      ),

    /** The fingerprint of what a link says; null when there is none. */
    jiraLink: ({ repo, number }: PullRequestRef, ticket: Ticket): string | null =>
      get<{ fingerprint: string }>(
        'select * from jira_link where repo = ? and number = ? and ticket = ?',
        ...[repo, number, ticket],
      )?.fingerprint ?? null,
    setJiraLink: ({ repo, number }: PullRequestRef, ticket: Ticket, fingerprint: string): void =>
      put('jira_link', { repo, number, ticket }, { fingerprint }),
  }
}
