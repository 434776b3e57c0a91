import { checksMessage, passOn, whyNotTold } from './agent-message.ts'
import { type Handler, ignored, roundsOf } from './handler.ts'
import { NO_ROUNDS, PASSED_ON } from './review.ts'

/** Failed checks of the head of a ticket's branch are told to its agent. */
export const checks: Handler<'checks'> = (event, facts, rules) => {
  const { ticket, environment, isHead, failed, pullRequest, told, isPassedOn } = facts
  if (roundsOf(rules) === 0) return ignored(NO_ROUNDS)
  if (ticket === null) return ignored('the commit is on no branch of a ticket in this repository')
  const why = whyNotTold(ticket, environment)
  if (why !== null) return ignored(why)
  if (isPassedOn) return ignored(PASSED_ON)
  if (!isHead) return ignored('the branch has moved on since')
  if (failed.length === 0) return ignored('no check of this commit has failed')
  const by = { via: 'github', who: null, cause: 'failed check' } as const
  return passOn({ ticket, by, text: checksMessage(event, failed) }, { told, pullRequest }, rules)
}
