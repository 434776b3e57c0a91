/** Our comments and links in Jira. A comment there has no hidden marker: a reply is found by its first line, a note by its text. */
import type { Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import { waitingAbout } from '../../store/messages.ts'
import type { ActionRow, PullRequestLink } from '../../store/port.ts'
import type { Jira } from '../jira/client.ts'
import { remoteLink, waitingLead } from './jira-notes.ts'
import type { OwnCommentSide } from './own-comment.ts'
import { jiraReplyLine } from './reply.ts'
import { adf } from './text.ts'
import { fingerprintOf, type Rendered } from './words.ts'

/** Jira's clock and ours may differ by this much. */
const CLOCK_DIFFERENCE_MS = 5 * 60_000

/** The reply to the commands of a comment. `finished`: none of them goes on. */
export const jiraReply = (
  jira: Jira,
  { ticket, commentId, finished }: { ticket: Ticket; commentId: string; finished: boolean },
): OwnCommentSide<Rendered> => ({
  key: { side: 'jira', kind: 'reply', ticket, about: commentId },
  find: async begunAt => (begunAt === null ? null : jira.findByFirstLine(ticket, jiraReplyLine(commentId))),
  edit: async (id, { blocks }) => {
    const comment = await jira.readComment(ticket, id)
    if (comment === null) return false
    const result = await jira.edit(ticket, id, adf(blocks), comment.audience)
    // Where nothing may be edited, only the end gets another comment.
    return result === 'done' || (result === 'refused' && !finished)
  },
  post: async ({ blocks }, previous) => {
    // With the visibility of the command's comment. A comment that nobody can read any more gets no reply.
    const readable =
      (previous === null ? null : await jira.readComment(ticket, previous)) ??
      (await jira.readComment(ticket, commentId))
    return readable === null ? null : { id: await jira.comment(ticket, adf(blocks), readable.audience) }
  },
})

/** A note is posted once, and stays as it is. */
export const jiraNoteComment = (jira: Jira, ticket: Ticket, about: string, { blocks }: Rendered) => {
  const document = adf(blocks)
  return {
    key: { side: 'jira', kind: 'note', ticket, about },
    find: async begunAt => (begunAt === null ? null : jira.findSame(ticket, document, begunAt - CLOCK_DIFFERENCE_MS)),
    edit: async () => true,
    post: async () => ({ id: await jira.comment(ticket, document) }),
  } satisfies OwnCommentSide<Rendered>
}

/** `over`: the action waits no longer. What people delete stays deleted. */
export const jiraWaiting = (jira: Jira, ticket: Ticket, row: ActionRow, over: boolean) => {
  const about = waitingAbout(row.id)
  return {
    key: { side: 'jira', kind: 'note', ticket, about },
    find: async begunAt => (begunAt === null ? null : jira.findByFirstLine(ticket, waitingLead(row))),
    edit: async (id, { blocks }) => {
      const comment = await jira.readComment(ticket, id)
      if (comment === null) return true
      const result = await jira.edit(ticket, id, adf(blocks), comment.audience)
      return result !== 'refused' || !over
    },
    post: async ({ blocks }) => ({ id: await jira.comment(ticket, adf(blocks)) }),
  } satisfies OwnCommentSide<Rendered>
}

export const linkKey = (ticket: Ticket, { repo, number }: PullRequestRef) =>
  ({ side: 'jira', kind: 'link', ticket, about: `${repo}#${number}` }) as const

/** Jira itself finds the link by its global id. */
export const jiraLink = (jira: Jira, link: PullRequestLink, webUrl: string) => {
  const { ticket } = link
  const shown = remoteLink(link, webUrl)
  const side: OwnCommentSide<{ fingerprint: string }> = {
    key: linkKey(ticket, link),
    find: async () => null,
    edit: async () => false,
    post: async () => {
      await jira.link(ticket, shown)
      return { id: null }
    },
  }
  return { side, text: { fingerprint: fingerprintOf(shown) } }
}
