import { type Action, type Requester, ticketIn } from '../src/domain.ts'
import { commandLines, MOST_COMMANDS } from './command-lines.ts'
import { act, type Handler, ignored, type Reply, refused } from './handler.ts'
import { help, meaningOf } from './slash-commands.ts'

/** Whether anything in a comment is for us. Decided before a single question is asked of GitHub. */
export const hasCommand = (body: string): boolean => /\/swarm/i.test(body) && commandLines(body).length > 0

/** Commands in a comment on a pull request, in their order, for people who may write at this moment. */
export const comment: Handler<'comment'> = (event, { permission, now }, { projects }) => {
  const lines = commandLines(event.body)
  if (lines.length === 0) return ignored('no command in the comment')
  // Nobody is answered who may not ask: an answer to anybody would be a way to make us talk.
  if (event.authorIsBot) return refused('a bot gives no commands')
  if (permission !== 'admin' && permission !== 'write') return refused(`${event.author} has no write access`)
  if (now === null) return ignored('the pull request is gone')

  const replyTo = (line: number) => ({ ...event.pullRequest, commentId: event.commentId, line })
  const ticket = ticketIn([now.branch, now.title, now.body], projects)
  const by: Requester = { via: 'github', who: event.author }
  const actions: Action[] = []
  const replies: Reply[] = []
  for (const [line, { words }] of lines.slice(0, MOST_COMMANDS).entries()) {
    const to = replyTo(line)
    const isHelp = words.length === 0 || words[0]?.toLowerCase() === 'help'
    if (isHelp) replies.push({ to, text: help(), ok: true })
    else if (ticket === null) {
      const keys = projects.map(key => `\`${key}-123\``).join(' or ')
      replies.push({
        to,
        text: `This pull request names no ticket. Put its key (${keys}) into the branch name, the title or the description.`,
        ok: false,
      })
    } else if (now.fromFork) {
      replies.push({ to, text: 'This pull request comes from a fork, and those do nothing here.', ok: false })
    } else {
      const meaning = meaningOf(words, { ticket, by, replyTo: to })
      if ('action' in meaning) actions.push(meaning.action)
      else replies.push({ to, text: meaning.reply, ok: meaning.ok })
    }
  }
  if (lines.length > MOST_COMMANDS) {
    replies.push({
      to: replyTo(MOST_COMMANDS),
      text: `One comment gives at most ${MOST_COMMANDS} commands; the ${lines.length - MOST_COMMANDS} after that were left out.`,
      ok: false,
    })
  }
  return act(actions, replies)
}
