import type { Ticket } from '../domain.ts'
import type { Store } from '../store/port.ts'

/** The open pull requests that keep the machine of a ticket after the merge of another one, `acme/shop#13`. */
export const openAfterMerge = async (
  { pullRequests }: Pick<Store, 'pullRequests'>,
  ticket: Ticket,
): Promise<string[]> => {
  const links = await pullRequests.ofTicket(ticket)
  const isMerged = links.some(({ state }) => state === 'merged')
  return isMerged ? links.flatMap(({ repo, number, state }) => (state === 'open' ? `${repo}#${number}` : [])) : []
}
