/** Our own comments on GitHub. */
import type { PullRequestRef } from '../../schema/action.ts'
import type { Tables } from './tables.ts'

/** `about`: the ticket of a status comment, the comment that a reply answers. */
export type OwnComment = { kind: 'status' | 'reply'; about: string } & PullRequestRef

export const githubComments = ({ run, get, put }: Tables) => ({
  isOwnComment: (repo: string, commentId: number): boolean =>
    get('select 1 as n from comment where repo = ? and comment_id = ?', repo, commentId) !== undefined,
  comment: ({ kind, repo, number, about }: OwnComment): { id: number; fingerprint: string } | null => {
    const row = get<{ comment_id: number; fingerprint: string }>(
      'select * from comment where kind = ? and repo = ? and number = ? and about = ?',
      ...[kind, repo, number, about],
    )
    return row === undefined ? null : { id: row.comment_id, fingerprint: row.fingerprint }
  },
  setComment: ({ kind, repo, number, about }: OwnComment, id: number, fingerprint: string): void =>
    put('comment', { kind, repo, number, about }, { comment_id: id, fingerprint }),
  forgetComment: ({ kind, repo, number, about }: OwnComment): void =>
    void run(
      'delete from comment where kind = ? and repo = ? and number = ? and about = ?',
      ...[kind, repo, number, about],
    ),
})
