/** Actions on a fork's pull request. */
import type { Action } from '../../schema/action.ts'
import type { Failure } from '../../schema/failure.ts'
import type { Store } from '../../store/port.ts'
import { ticketOf } from '../present-ticket.ts'
import type { Octokit } from './client.ts'
import type { PollContext } from './poll-requests.ts'
import { nameOf, readPullRequest } from './pull-request.ts'

type ForkContext = Pick<PollContext, 'rulesOf' | 'clock'> & {
  store: Pick<Store, 'tickets'>
  octokitFor: (repo: string) => Promise<Octokit | null>
}

/**
 * Why an action on the commit of a fork must not begin; null when it may. The pull request is read again: whoever opened it
 * can push to it and rename it at any moment.
 */
export const checkFork = async (
  { store, octokitFor, rulesOf, clock }: ForkContext,
  { kind, ticket, onlyAt, replyTo }: Action,
): Promise<Failure | null> => {
  if (onlyAt === undefined || replyTo === null || !('repo' in replyTo)) return null
  const octokit = await octokitFor(replyTo.repo)
  const now = octokit === null ? null : await readPullRequest(octokit, replyTo, clock())
  if (now !== null && now.headSha.toLowerCase() === onlyAt) {
    // Its branch may have a previous key of the ticket.
    const named = await ticketOf({ store }, now, await rulesOf(replyTo.repo))
    if (named !== null && named === (await store.tickets.current(ticket))) return null
  }
  return {
    kind: 'refused',
    message: `${kind} of ${ticket}: ${nameOf(replyTo)} comes from a fork and has changed since ${onlyAt.slice(0, 10)} was allowed`,
    remedy: 'Check its new commits and its title, allow its head (/swarm allow <commit>), then command again.',
  }
}
