/** Which ticket a pull request is about now: an issue that was moved has another key than its branch. */

import type { Rules } from '../../handlers/handler.ts'
import { attemptOfBranch, ticketOfBranch, ticketOfPullRequest } from '../branches.ts'
import { attemptKey, type EnvironmentKey, projectOf, type Ticket } from '../domain.ts'
import type { Store } from '../store/port.ts'
import { presentEnvironment } from './present-environment.ts'

type Context = { store: Pick<Store, 'tickets'> }

/** The present key of a ticket; null when its issue was moved to a project that is not served by these rules. */
export const presentTicket = async (
  { store }: Context,
  ticket: Ticket | null,
  rules: Pick<Rules, 'projects'>,
): Promise<Ticket | null> => {
  if (ticket === null) return null
  const present = await store.tickets.current(ticket)
  return present === ticket || rules.projects.includes(projectOf(present)) ? present : null
}

/**
 * Whose branch it is: the attempt's, while that exists; else its ticket's, or null. `present`: the present key of the ticket that
 * the branch names.
 */
export const keyOfBranch = async (
  { store }: { store: Pick<Store, 'runners'> },
  branch: string,
  present: Ticket | null,
  rules: Rules,
): Promise<EnvironmentKey | null> => {
  const named = ticketOfBranch(branch, rules)
  const attempt = named === null ? null : attemptOfBranch(branch, named)
  if (attempt === null || present === null) return present
  const key = attemptKey(present, attempt)
  return (await presentEnvironment(store, key)) === null ? present : key
}

/** The present key of the ticket that a pull request is about. */
export const ticketOf = (
  context: Context,
  pullRequest: { branch: string; title: string },
  rules: Rules,
): Promise<Ticket | null> => presentTicket(context, ticketOfPullRequest(pullRequest, rules), rules)
