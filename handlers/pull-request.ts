import { type Requester, ticketIn } from '../src/domain.ts'
import { act, type Handler, ignored } from './handler.ts'

/** What a pull request means for its ticket's machine. What it says now counts, not what the event said. */
export const pullRequest: Handler<'pull-request'> = (event, { environment, now, others }, { projects }) => {
  if (event.fromFork || now?.fromFork === true) return ignored('pull requests from forks do nothing')
  const ticket = ticketIn([now?.branch ?? event.branch, now?.title ?? event.title, now?.body ?? event.body], projects)
  if (ticket === null) return ignored('no ticket in branch, title or body')
  const by: Requester = { via: 'github', who: event.sender }
  const common = { ticket, by, replyTo: null }
  if (event.change !== 'closed') {
    if (event.change === 'reopened' && now?.state === 'open' && environment?.status === 'stopped')
      return act([{ kind: 'start', ...common }])
    return ignored(`it belongs to ${ticket}, and asks for nothing`)
  }
  if (now === null) return ignored('the pull request is gone')
  if (now.state === 'open') return ignored('it is open again')
  if (environment === null) return ignored(`${ticket} has no environment`)
  const [other] = others
  if (other !== undefined) return ignored(`${ticket} has another open pull request, ${other.repo}#${other.number}`)
  if (now.state === 'merged') return act([{ kind: 'delete', force: false, ...common }])
  return environment.status === 'stopped' ? ignored(`${ticket} is stopped already`) : act([{ kind: 'stop', ...common }])
}
