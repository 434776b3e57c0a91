/** Which ticket a pull request is about now: an issue that was moved has another key than its branch. */

import type { Rules } from '../../handlers/handler.ts'
import { ticketOfPullRequest } from '../branches.ts'
import { projectOf, type Ticket } from '../domain.ts'
import type { Store } from '../store/port.ts'

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

/** The present key of the ticket that a pull request is about. */
export const ticketOf = (
  context: Context,
  pullRequest: { branch: string; title: string },
  rules: Rules,
): Promise<Ticket | null> => presentTicket(context, ticketOfPullRequest(pullRequest, rules), rules)
