/** The commands of comments, on GitHub and in Jira, each with what came of it. */
import type { Action, CommentRef, ReplyTo } from '../../schema/action.ts'
import type { Outcome } from '../../schema/outcome.ts'
import { json, type Tables } from './tables.ts'

/** A command of a comment. `outcome` and `said` are null while it is not done. */
export type HeardCommand = {
  comment: CommentRef
  line: number
  at: number
  actionId: string | null
  action: Action | null
  said: { text: string; help: boolean } | null
  outcome: Outcome | null
  ok: boolean | null
  endedAt: number | null
}

type Row = {
  comment: string
  line: number
  at: number
  action_id: string | null
  action: string | null
  said: string | null
  outcome: string | null
  ok: number | null
  ended_at: number | null
}
const commandFrom = (row: Row): HeardCommand => ({
  comment: JSON.parse(row.comment),
  line: row.line,
  at: row.at,
  actionId: row.action_id,
  action: json<Action>(row.action),
  said: json<HeardCommand['said']>(row.said),
  outcome: json<Outcome>(row.outcome),
  ok: row.ok === null ? null : row.ok === 1,
  endedAt: row.ended_at,
})

/** Names the comment that commands stand in. */
export const threadOf = (comment: CommentRef): string =>
  'repo' in comment ? `github:${comment.repo}:${comment.commentId}` : `jira:${comment.ticket}:${comment.commentId}`
const commentOf = (to: CommentRef): CommentRef =>
  'repo' in to
    ? { repo: to.repo, number: to.number, commentId: to.commentId }
    : { ticket: to.ticket, commentId: to.commentId }

export const commands = ({ run, all, add, clock }: Tables) => ({
  heardCommand: (
    to: ReplyTo,
    what: { actionId: string; action: Action } | { text: string; help: boolean; ok: boolean },
  ): void =>
    void add('command', {
      thread: threadOf(to),
      line: to.line,
      comment: JSON.stringify(commentOf(to)),
      at: clock(),
      ...('actionId' in what
        ? { action_id: what.actionId, action: JSON.stringify(what.action) }
        : {
            said: JSON.stringify({ text: what.text, help: what.help }),
            ok: Number(what.ok),
            ended_at: clock(),
          }),
    }),
  endCommand: (actionId: string, outcome: Outcome): void =>
    void run(
      'update command set outcome = ?, ok = ?, ended_at = ? where action_id = ?',
      JSON.stringify(outcome),
      Number(outcome.result !== 'failed'),
      clock(),
      actionId,
    ),
  /** The commands of one comment, in their order. */
  commandsOf: (comment: CommentRef): HeardCommand[] =>
    all<Row>('select * from command where thread = ? order by line', threadOf(comment)).map(commandFrom),
  /** Comments with a command that was heard before then and is not done, newest first, at most `limit`. */
  waitingComments: (before: number, limit: number): CommentRef[] =>
    all<{ comment: string }>(
      'select comment, max(at) as heard from command where ok is null and at <= ? group by comment order by heard desc limit ?',
      before,
      limit,
    ).map(row => JSON.parse(row.comment)),
})
