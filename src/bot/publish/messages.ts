/** What the bot has to say outside, each with the key by which a newer one replaces it. */
import type { Ticket } from '../../domain.ts'
import type { CommentRef, PullRequestRef } from '../../schema/action.ts'
import type { Message } from '../../store/port.ts'

/** A reaction to a comment; Jira has none. */
export const reactionMessages = (comment: CommentRef, content: 'eyes' | 'rocket' | 'confused'): Message[] =>
  'repo' in comment
    ? [
        {
          key: `reaction:${comment.repo}:${comment.commentId}:${content === 'eyes' ? 'heard' : 'done'}`,
          body: { kind: 'reaction', repo: comment.repo, commentId: comment.commentId, content },
        },
      ]
    : []
/** What the reply says is looked up when it is published, so that it is true then. */
export const replyMessage = (comment: CommentRef): Message =>
  'repo' in comment
    ? {
        key: `reply:${comment.repo}:${comment.commentId}`,
        body: { kind: 'reply', repo: comment.repo, number: comment.number, commentId: comment.commentId },
      }
    : {
        key: `reply:${comment.ticket}:${comment.commentId}`,
        body: { kind: 'jira-reply', ticket: comment.ticket, commentId: comment.commentId },
      }
/** So is the status comment. */
export const statusMessage = (ticket: Ticket): Message => ({
  key: `status:${ticket}`,
  body: { kind: 'status', ticket },
})
/** `about` names what it tells, so that it is told once. */
export const jiraMessage = (ticket: Ticket, about: string, text: string): Message => ({
  key: `jira:${about}`,
  body: { kind: 'jira', ticket, about, text },
})
/** The link from the ticket to its pull request, as that is when it is published. */
export const jiraLinkMessage = ({ repo, number }: PullRequestRef, ticket: Ticket): Message => ({
  key: `jira-link:${repo}:${number}`,
  body: { kind: 'jira-link', ticket, repo, number },
})
