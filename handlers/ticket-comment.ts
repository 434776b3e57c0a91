import type { Requester } from '../src/schema/action.ts'
import { refuseAll, runCommands } from './commands.ts'
import { type Handler, ignored } from './handler.ts'
import { jiraCommandLines } from './jira-lines.ts'

/** Commands in a comment on a ticket, for its assignee at this moment and for accounts that are listed. */
export const ticketComment: Handler<'ticket-comment'> = (event, { now, isOwnComment, assignee, since }, rules) => {
  if (jiraCommandLines(event.body).length === 0) return ignored('no command in the comment')
  if (now === null) return ignored('the comment is gone')
  // What it is now counts: its document, and not the text that was made of it on the way.
  const lines = jiraCommandLines(now.body)
  if (lines.length === 0) return ignored('no command in the comment')
  const { ticket, commentId } = event
  const by: Requester = { via: 'jira', who: now.author }
  if (isOwnComment) return refuseAll(lines, by, 'a comment of ours gives no commands')
  if (event.change === 'edited' || now.edited) return refuseAll(lines, by, 'an edited comment gives no commands')
  return runCommands(lines, {
    who: {
      via: 'jira',
      account: now.author,
      isBot: now.authorIsApp,
      isAssignee: now.author !== null && now.author === assignee,
    },
    by,
    replyTo: line => ({ ticket, commentId, line }),
    ticket,
    branch: null,
    fork: null,
    since,
    rules,
  })
}
