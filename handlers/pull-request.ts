import { isBranchOfBot, isBranchServed, ticketOfPullRequest } from '../src/branches.ts'
import type { Ticket } from '../src/domain.ts'
import type { Cause } from '../src/schema/action.ts'
import {
  type ActionBase,
  act,
  type Decision,
  type Facts,
  type Handler,
  ignored,
  OF_A_BOT,
  overridden,
  type PullRequestEvent,
  type PullRequestNow,
  type Rules,
  stop,
} from './handler.ts'

/** A pull request that has ended stops or deletes its ticket's machine; the present state counts, not the event's. */
export const pullRequest: Handler<'pull-request'> = (event, facts, rules) => {
  const { now } = facts
  if (event.fromFork || now?.fromFork === true) return ignored('pull requests from forks have no effect')
  const { branch } = now ?? event
  if (isBranchOfBot(branch)) return ignored(OF_A_BOT)
  if (!isBranchServed(branch, rules)) return ignored('the branch is not served here')
  const ticket = ticketOfPullRequest(now ?? event, rules)
  if (ticket === null) return ignored('no ticket in the branch or the title')
  if (now === null) return ignored('the pull request does not exist any more')
  const by = { via: 'github', who: event.sender, cause: causes[now.state] } as const
  const base: ActionBase = { ticket, by, replyTo: null }
  return now.state === 'open' ? whileOpen(event, facts, base) : whenEnded(event, facts, base, rules, now.state)
}

/** By the state that the pull request is in now: an open one acts only when it was reopened. */
const causes = {
  open: 'pull request reopened',
  closed: 'pull request closed',
  merged: 'merge',
} as const satisfies Record<PullRequestNow['state'], Cause>

const nothingToDo = (ticket: Ticket) => ignored(`linked to ${ticket}; nothing to do`)
const isEnd = ({ change }: PullRequestEvent) => change === 'closed' || change === 'grace over'

const whileOpen = (
  event: PullRequestEvent,
  { environment, stoppedByClose, laterRequest }: Facts['pull-request'],
  base: ActionBase,
): Decision => {
  if (isEnd(event)) return ignored('the pull request is open again')
  // A branch that is renamed closes its pull request, and another one is opened: the work goes on there.
  if (event.change === 'edited' || environment?.status !== 'stopped' || !stoppedByClose) return nothingToDo(base.ticket)
  return laterRequest !== null ? overridden(laterRequest) : act([{ kind: 'start', ...base }])
}

const whenEnded = (
  event: PullRequestEvent,
  { environment, stateDecided, others, laterRequest, ticketRestarted }: Facts['pull-request'],
  base: ActionBase,
  rules: Rules,
  state: 'closed' | 'merged',
): Decision => {
  const { ticket } = base
  // Any event may be the first to show the end; the end takes effect once.
  if (!isEnd(event) && stateDecided) return nothingToDo(ticket)
  if (environment === null) return ignored(`${ticket} has no machine`)
  const [other] = others
  if (other !== undefined) return ignored(`${ticket} has another open pull request, ${other.repo}#${other.number}`)
  if (laterRequest !== null) return overridden(laterRequest)
  if (ticketRestarted) return ignored(`${ticket} was moved in progress after that`)
  const ending = rules[state]
  if (ending === 'stop') return stop(base, environment)
  if (ending === 'nothing') return ignored(`the pull request is ${state}; the rules require no action`)
  const { graceMinutes: minutes } = rules
  return state === 'merged' && minutes > 0 && event.change !== 'grace over'
    ? {
        verdict: 'later',
        ticket,
        minutes,
        event: { ...event, change: 'grace over' },
        reason: `${ticket} will be deleted in ${minutes} ${minutes === 1 ? 'minute' : 'minutes'}, unless somebody starts it`,
      }
    : act([{ kind: 'delete', force: false, ...base }])
}
