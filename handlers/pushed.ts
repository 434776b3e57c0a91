import { ticketOf } from '../src/domain.ts'
import { act, type Handler, ignored } from './handler.ts'

/** The first push to a branch of the ticket opens a pull request: an agent's by its rules, a person's by `transitions`. */
export const pushed: Handler<'pushed'> = ({ ticket, push, agentOpens }, { isListed, named, pullRequest }, rules) => {
  const { repo, branch, byAgent } = push
  const opens = byAgent ? agentOpens : (rules.transitions.pullRequest ?? 'none')
  if (opens === 'none') return ignored(`pushes of ${byAgent ? 'the agent' : 'people'} open no pull request here`)
  if (!isListed) return ignored(`${repo} is not listed in GITHUB_REPOSITORIES`)
  if (named !== ticket) return ignored(`the branch does not name ${ticket}, or ${repo} does not serve its project`)
  // One that a person closed stays closed.
  if (pullRequest !== null) return ignored(`${repo}#${pullRequest.number} is about this branch`)
  return act([], {
    announcements: [
      { kind: 'open-pull-request', ticket: ticketOf(ticket), repo, branch, draft: opens === 'draft', byAgent },
    ],
  })
}
