import { passOn, reviewMessage, whyNotTold } from './agent-message.ts'
import { type Handler, ignored, roundsOf } from './handler.ts'
import { mayRun } from './who-may.ts'

export const NO_ROUNDS = 'reviews and failed checks are not passed on to agents (`agent.rounds`)'
export const PASSED_ON = 'it was passed on already'

/** A review that asks for changes goes to the ticket's agent, when its author may `/swarm tell` it. */
export const review: Handler<'review'> = (event, facts, rules) => {
  const { author, authorIsBot, pullRequest, at } = event
  const { now, ticket, environment, comments, told, isPassedOn, permission, teams } = facts
  if (roundsOf(rules) === 0) return ignored(NO_ROUNDS)
  if (authorIsBot) return ignored('reviews of bots are not passed on')
  if (ticket === null) return ignored('the pull request is about no ticket')
  const why = whyNotTold(ticket, environment)
  if (why !== null) return ignored(why)
  if (isPassedOn) return ignored(PASSED_ON)
  if (environment !== null && at !== null && at < Date.parse(environment.createdAt))
    return ignored(`the machine of ${ticket} is newer than this review`)
  const by = { via: 'github', who: author, cause: 'review' } as const
  const permitted = mayRun('tell', { via: 'github', login: author, isBot: authorIsBot, permission, teams }, rules)
  if (!permitted.may)
    return {
      verdict: 'refused',
      reason: permitted.reason,
      refusals: [{ by, line: null, what: 'review', reason: permitted.reason, ticket: null }],
    }
  if (now === null) return ignored('the pull request does not exist any more')
  if (now.fromFork) return ignored('pull requests from forks have no effect')
  if (now.state !== 'open') return ignored(`the pull request is ${now.state}`)
  const text = reviewMessage(pullRequest, event, comments)
  return passOn({ ticket, by, text }, { told, pullRequest }, rules)
}
