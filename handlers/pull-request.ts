import { isBranchOfBot, isBranchServed, ticketOfPullRequest } from '../src/branches.ts'
import { attemptOf, type Ticket, ticketOf } from '../src/domain.ts'
import type { Action, Cause } from '../src/schema/action.ts'
import {
  type ActionBase,
  type Announcement,
  act,
  type Decision,
  deleteAll,
  type Facts,
  type Handler,
  ignored,
  keyWith,
  machinesOf,
  OF_A_BOT,
  overridden,
  type PullRequestEvent,
  type PullRequestNow,
  type Rules,
  stopAll,
} from './handler.ts'

/** A pull request that has ended stops or deletes its ticket's machine and attempts; the present state counts, not the event's. */
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
  const base: ActionBase = { ticket: keyWith(ticket, facts.environment), by, replyTo: null }
  const decision =
    now.state === 'open' ? whileOpen(event, facts, base) : whenEnded(event, facts, base, rules, now.state)
  return withMove(decision, moveOf(event, facts, rules, ticket))
}

/** Where the pull request moves its ticket in Jira: once for each time that it gets ready, and once for its merge. */
const moveOf = (
  { pullRequest }: PullRequestEvent,
  { now, readyDecided, stateDecided, hadMachine, others }: Facts['pull-request'],
  { transitions: { review = false, done = false } }: Rules,
  ticket: Ticket,
): Announcement | null => {
  // Tickets that were never worked on here are none of our business.
  if (!hadMachine) return null
  if (now?.state === 'open' && review !== false && !now.isDraft && !readyDecided)
    return { kind: 'move-ticket', ticket, pullRequest, to: 'review', status: review }
  // Another open pull request: the work goes on.
  if (now?.state === 'merged' && done !== false && !stateDecided && others.length === 0)
    return { kind: 'move-ticket', ticket, pullRequest, to: 'done', status: done }
  return null
}

const withMove = (decision: Decision, move: Announcement | null): Decision => {
  if (move === null || decision.verdict === 'refused') return decision
  if (decision.verdict === 'ignored') return act([], { announcements: [move] })
  return { ...decision, announcements: [move] }
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
  const isNoStart = event.change === 'edited' || event.change === 'converted_to_draft'
  if (isNoStart || environment?.status !== 'stopped' || !stoppedByClose) return nothingToDo(base.ticket)
  return laterRequest !== null ? overridden(laterRequest) : act([{ kind: 'start', ...base }])
}

const inMinutes = (minutes: number) => `${minutes} ${minutes === 1 ? 'minute' : 'minutes'}`

const whenEnded = (
  event: PullRequestEvent,
  { environment, stateDecided, others, laterRequest, ticketRestarted, attempts }: Facts['pull-request'],
  base: ActionBase,
  rules: Rules,
  state: 'closed' | 'merged',
): Decision => {
  const { ticket } = base
  // Any event may be the first to show the end; the end takes effect once.
  if (!isEnd(event) && stateDecided) return nothingToDo(ticket)
  // The end of an attempt is none of the others.
  const isAttempt = attemptOf(ticket) !== null
  const machines = machinesOf(ticket, environment, isAttempt ? [] : attempts)
  if (machines.length === 0) return ignored(`${ticket} has no machine`)
  const [other] = others
  if (other !== undefined && !isAttempt)
    return ignored(`${ticket} has another open pull request, ${other.repo}#${other.number}`)
  if (laterRequest !== null) return overridden(laterRequest)
  if (ticketRestarted) return ignored(`${ticket} was moved in progress after that`)
  const ending = rules[state]
  if (isAttempt && state === 'merged') return mergedAttempt(event, base, rules, other !== undefined)
  if (ending === 'stop') return stopAll(base, machines)
  if (ending === 'nothing') return ignored(`the pull request is ${state}; the rules require no action`)
  const { graceMinutes: minutes } = rules
  return state === 'merged' && minutes > 0 && event.change !== 'grace over'
    ? {
        verdict: 'later',
        ticket,
        minutes,
        event: { ...event, change: 'grace over' },
        reason: `${ticket} will be deleted in ${inMinutes(minutes)}, unless somebody starts it`,
      }
    : deleteAll(base, machines)
}

/**
 * The attempt becomes the machine of its ticket first, and then what the rules say of a merge happens to that; not while another
 * pull request of the ticket is open (`isGoingOn`).
 */
const mergedAttempt = (
  event: PullRequestEvent,
  base: ActionBase,
  { merged, graceMinutes: minutes }: Rules,
  isGoingOn: boolean,
): Decision => {
  const [ticket, attempt] = [ticketOf(base.ticket), attemptOf(base.ticket) ?? 0]
  const promote: Action = { kind: 'promote', ...base, ticket, attempt }
  if (merged === 'nothing' || isGoingOn) return act([promote])
  if (merged === 'stop') return act([promote, { kind: 'stop', ...base, ticket, promoted: attempt }])
  return minutes > 0 && event.change !== 'grace over'
    ? {
        verdict: 'later',
        ...{ ticket, minutes, event: { ...event, change: 'grace over' } },
        reason: `${base.ticket} will be promoted, and ${ticket} deleted, in ${inMinutes(minutes)}, unless somebody starts it`,
      }
    : act([promote, { kind: 'delete', force: false, ...base, ticket, promoted: attempt }])
}
