import { ticketOfPullRequest } from '../src/branches.ts'
import { commandLines, possibleCommands } from './command-lines.ts'
import { refuseAll, runCommands } from './commands.ts'
import { type Handler, ignored, keyWith } from './handler.ts'
import { mayCommand } from './who-may.ts'

/** Runs the commands of a comment on a pull request, for people who have write access at this moment. */
export const comment: Handler<'comment'> = (
  event,
  { permission, isColleague, lines: read, teams, now, allowed, since, newMachine, attempt = null },
  rules,
) => {
  const possible = possibleCommands(event.body)
  if (possible.length === 0) return ignored('no command in the comment')
  const by = { via: 'github', who: event.author, cause: 'command' } as const
  if (event.unfit !== null) return refuseAll(possible, by, event.unfit)
  const who = { via: 'github', login: event.author, isBot: event.authorIsBot, permission, teams } as const
  const { may, reason } = mayCommand(who, rules)
  // Reading the Markdown costs more than anybody's comment is worth.
  if (!may && !isColleague) return refuseAll(possible, by, reason)
  const lines = read ?? commandLines(event.body)
  if (lines.length === 0) return ignored('no command in the comment')
  if (!may) return { ...refuseAll(lines, by, reason), isShown: true }
  if (now === null) return ignored('the pull request does not exist any more')
  const ticket = ticketOfPullRequest(now, rules)
  return runCommands(lines, {
    who,
    by,
    replyTo: line => ({ ...event.pullRequest, commentId: event.commentId, line }),
    ticket: ticket === null ? null : keyWith(ticket, attempt),
    branch: now.branch,
    fork: now.fromFork ? { head: now.headSha.toLowerCase(), allowed } : null,
    since,
    newMachine,
    rules,
  })
}
