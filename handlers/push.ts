import { isBranchOfBot, isBranchServed, ticketOfBranch } from '../src/branches.ts'
import { pushCheckpoint } from '../src/domain.ts'
import { act, type Handler, ignored, keyWith, OF_A_BOT } from './handler.ts'

const BRANCH = 'refs/heads/'

/** A push to a ticket's branch makes a checkpoint named after its commit, where that does not stop the machine. */
export const push: Handler<'push'> = (event, { environment, live }, rules) => {
  if (!event.ref.startsWith(BRANCH)) return ignored('not a branch')
  if (event.deleted) return ignored('the branch was deleted')
  const branch = event.ref.slice(BRANCH.length)
  if (isBranchOfBot(branch)) return ignored(OF_A_BOT)
  if (!isBranchServed(branch, rules)) return ignored('the branch is not served here')
  const ticket = ticketOfBranch(branch, rules)
  if (ticket === null) return ignored('no ticket in the branch name')
  if (environment === null) return ignored(`${ticket} has no machine`)
  const key = keyWith(ticket, environment)
  // The checkpoint of a machine that is being created waits in the queue; the runner decides by the state it finds then.
  if (environment.status !== 'running' && environment.status !== 'creating')
    return ignored(`${key} is ${environment.status}`)
  if (!live) return ignored(`${environment.provider} cannot make a checkpoint without stopping the machine`)
  return act([
    {
      kind: 'checkpoint',
      ticket: key,
      name: pushCheckpoint(event.after),
      why: 'push',
      commit: event.after,
      keep: rules.keep,
      by: { via: 'github', who: event.pusher, cause: 'push' },
      replyTo: null,
    },
  ])
}
