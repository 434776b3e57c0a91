/** Messages for the outbox, each with the key by which a newer one replaces it. */
import type { Announcement, WhyNoMachine } from '../../handlers/handler.ts'
import { type EnvironmentKey, type Ticket, ticketOf } from '../domain.ts'
import { type CommentRef, type PullRequestRef, threadOf } from '../schema/action.ts'
import type { JiraNote, Message } from './port.ts'

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
export const replyMessage = (comment: CommentRef): Message => ({
  key: `reply:${threadOf(comment)}`,
  body: {
    kind: 'reply',
    comment:
      'repo' in comment
        ? { repo: comment.repo, number: comment.number, commentId: comment.commentId }
        : { ticket: comment.ticket, commentId: comment.commentId },
  },
})
export const outdatedReplyMessage = ({ repo, number, commentId }: PullRequestRef & { commentId: number }): Message => ({
  key: `outdated:${repo}:${commentId}`,
  body: { kind: 'outdated-reply', repo, number, commentId },
})
/** It shows the ticket and its attempts together. */
export const statusMessage = (key: EnvironmentKey): Message => ({
  key: `status:${ticketOf(key)}`,
  body: { kind: 'status', ticket: ticketOf(key) },
})
/** `about` names what it reports, so that it is reported once. In Jira, an attempt is its ticket's. */
export const jiraNoteMessage = (key: EnvironmentKey, about: string, note: JiraNote): Message => ({
  key: `jira:${about}`,
  body: { kind: 'jira-note', ticket: ticketOf(key), about, note },
})
/** Names the comment about it. */
export const waitingAbout = (action: string): string => `waiting:${action}`
export const jiraWaitingMessage = (key: EnvironmentKey, action: string): Message => ({
  key: `jira-waiting:${action}`,
  body: { kind: 'jira-waiting', ticket: ticketOf(key), action },
})
/** Once for each reason. */
export const noMachineMessage = (ticket: Ticket, why: WhyNoMachine): Message =>
  jiraNoteMessage(ticket, `no-machine:${ticket}:${why}`, { kind: 'no-machine', why })
export const jiraLinkMessage = ({ repo, number }: PullRequestRef, ticket: Ticket): Message => ({
  key: `jira-link:${repo}:${number}`,
  body: { kind: 'jira-link', ticket, pullRequest: { repo, number } },
})
export const jiraUnlinkMessage = ({ repo, number }: PullRequestRef, ticket: Ticket): Message => ({
  key: `jira-unlink:${repo}:${number}:${ticket}`,
  body: { kind: 'jira-unlink', ticket, pullRequest: { repo, number } },
})
export const unlinkedMessage = ({ repo, number }: PullRequestRef, ticket: Ticket): Message => ({
  key: `unlinked:${repo}:${number}:${ticket}`,
  body: { kind: 'unlinked', ticket, pullRequest: { repo, number } },
})
/** Of a branch there is one at a time. */
export const pullRequestKey = (repo: string, branch: string): string => `pull-request:${repo}:${branch}`
const announcementKey = (announcement: Announcement): string => {
  switch (announcement.kind) {
    case 'agent-ended':
      return `agent-ended:${announcement.run.run}`
    case 'open-pull-request':
      return pullRequestKey(announcement.repo, announcement.branch)
    case 'move-ticket':
      // A later move takes the place of an earlier one.
      return `move-ticket:${announcement.ticket}`
    case 'rounds-over':
      return `rounds-over:${announcement.pullRequest.repo}:${announcement.pullRequest.number}`
  }
}
export const announcementMessage = (announcement: Announcement): Message => ({
  key: announcementKey(announcement),
  body: announcement,
})
