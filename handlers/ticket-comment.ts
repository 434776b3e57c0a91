import { refuseAll, runCommands } from './commands.ts'
import { type Handler, ignored, UNFIT_EDITED, UNFIT_OWN } from './handler.ts'
import { jiraCommandLines } from './jira-lines.ts'

/** Runs the commands of a comment on a ticket, for the ticket's assignee at this moment and for the listed accounts. */
export const ticketComment: Handler<'ticket-comment'> = (
  event,
  { now, isOwnComment, assignee, since, newMachine },
  rules,
) => {
  if (jiraCommandLines(event.body).length === 0) return ignored('no command in the comment')
  if (now === null) return ignored('the comment does not exist any more')
  // The present document counts, not the text that the event made of it.
  const lines = jiraCommandLines(now.body)
  if (lines.length === 0) return ignored('no command in the comment')
  const { ticket, commentId } = event
  const by = { ...now.author, cause: 'command' as const }
  if (isOwnComment) return refuseAll(lines, by, UNFIT_OWN)
  if (event.change === 'edited' || now.edited) return refuseAll(lines, by, UNFIT_EDITED)
  return runCommands(lines, {
    who: {
      via: 'jira',
      account: by.who,
      isBot: now.authorIsApp,
      isAssignee: by.who !== null && by.who === assignee,
    },
    by,
    replyTo: line => ({ ticket, commentId, line }),
    ticket,
    branch: null,
    fork: null,
    since,
    newMachine,
    rules,
  })
}
