import { ticketOfPullRequest } from './branches.ts'
import { commandLines } from './command-lines.ts'
import { refuseAll, runCommands } from './commands.ts'
import { type Handler, ignored } from './handler.ts'
import { mayCommand } from './who-may.ts'

/** Runs the commands of a comment on a pull request, for people who have write access at this moment. */
export const comment: Handler<'comment'> = (event, { permission, teams, now, allowed, since }, rules) => {
  const lines = commandLines(event.body)
  if (lines.length === 0) return ignored('no command in the comment')
  const by = { via: 'github', who: event.author, cause: 'command' } as const
  if (event.unfit !== null) return refuseAll(lines, by, event.unfit)
  const who = { via: 'github', login: event.author, isBot: event.authorIsBot, permission, teams } as const
  if (now === null && mayCommand(who, rules).may) return ignored('the pull request does not exist any more')
  return runCommands(lines, {
    who,
    by,
    replyTo: line => ({ ...event.pullRequest, commentId: event.commentId, line }),
    ticket: now === null ? null : ticketOfPullRequest(now, rules),
    branch: now?.branch ?? null,
    fork: now?.fromFork === true ? { head: now.headSha.toLowerCase(), allowed } : null,
    since,
    rules,
  })
}
