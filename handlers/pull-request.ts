import type { Requester } from '../src/schema/action.ts'
import { isBranchServed, ticketOfPullRequest } from './branches.ts'
import { act, type Decision, type Handler, ignored, overridden } from './handler.ts'

/** What a pull request means for its ticket's machine. What it says now counts, not what the event said. */
export const pullRequest: Handler<'pull-request'> = (
  event,
  { environment, now, stateDecided, others, ticketRestarted, laterRequest },
  rules,
) => {
  if (event.fromFork || now?.fromFork === true) return ignored('pull requests from forks do nothing')
  const ticket = ticketOfPullRequest(now ?? event, rules)
  if (!isBranchServed((now ?? event).branch, rules)) return ignored('the branch does not count here')
  if (ticket === null) return ignored('no ticket in branch, title or body')
  const by: Requester = { via: 'github', who: event.sender }
  const common = { ticket, by, replyTo: null }
  const ends = event.change === 'closed' || event.change === 'grace over'
  if (now === null) return ignored('the pull request is gone')
  if (now.state === 'open') {
    if (ends) return ignored('it is open again')
    if (event.change === 'reopened' && environment?.status === 'stopped')
      return laterRequest !== null ? overridden(laterRequest) : act([{ kind: 'start', ...common }])
    return ignored(`it belongs to ${ticket}, and asks for nothing`)
  }
  // Whatever was told, it has ended: what follows from that follows once.
  if (!ends && stateDecided) return ignored(`it belongs to ${ticket}, and asks for nothing`)
  if (environment === null) return ignored(`${ticket} has no environment`)
  const [other] = others
  if (other !== undefined) return ignored(`${ticket} has another open pull request, ${other.repo}#${other.number}`)
  if (laterRequest !== null) return overridden(laterRequest)
  if (ticketRestarted) return ignored(`${ticket} was begun anew after that`)
  const remove = (): Decision =>
    now.state === 'merged' && rules.graceMinutes > 0 && event.change !== 'grace over'
      ? {
          verdict: 'later',
          ticket,
          minutes: rules.graceMinutes,
          event: { ...event, change: 'grace over' },
          reason: `${ticket} will be deleted in ${rules.graceMinutes} ${rules.graceMinutes === 1 ? 'minute' : 'minutes'}, unless somebody starts it`,
        }
      : act([{ kind: 'delete', force: false, ...common }])
  const endings = {
    delete: remove,
    stop: () =>
      environment.status === 'stopped' ? ignored(`${ticket} is stopped already`) : act([{ kind: 'stop', ...common }]),
    nothing: () => ignored(`it is ${now.state}, and nothing follows from that here`),
  }
  return endings[rules[now.state]]()
}
