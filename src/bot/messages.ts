/** What the bot has to say outside, each with the key by which a newer one replaces it. */
import type { ReplyTo, Ticket } from '../domain.ts'
import type { Message } from '../queue/queue.ts'

type Comment = Pick<ReplyTo, 'repo' | 'number' | 'commentId'>

export const reactionMessage = (
  { repo, commentId }: Pick<Comment, 'repo' | 'commentId'>,
  content: 'eyes' | 'rocket' | 'confused',
): Message => ({
  key: `reaction:${repo}:${commentId}:${content === 'eyes' ? 'heard' : 'done'}`,
  body: { kind: 'reaction', repo, commentId, content },
})
/** What the reply says is looked up when it is published, so that it is true then. */
export const replyMessage = ({ repo, number, commentId }: Comment): Message => ({
  key: `reply:${repo}:${commentId}`,
  body: { kind: 'reply', repo, number, commentId },
})
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
