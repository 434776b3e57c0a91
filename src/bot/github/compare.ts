/** Compares the pull requests of tickets that have a machine with what was last decided about them. */
import { ticketOf as ticketOfKey } from '../../domain.ts'
import type { KnownPullRequest } from '../../store/port.ts'
import { ticketOf } from '../present-ticket.ts'
import { parts } from './client.ts'
import type { PollContext } from './poll-requests.ts'
import { missedChange, pullRequestDelivery } from './polled.ts'
import { nameOf, pullRequestNow } from './pull-request.ts'

/** Pull requests that one round compares at most; the next round goes on after them. */
const LIMIT = 100

const comparePullRequest = async (
  { github, store, requests, rulesOf, accept }: PollContext,
  known: KnownPullRequest,
): Promise<void> => {
  const { repo, number } = known
  const octokit = await github.clientFor(repo)
  if (octokit === null) return
  const page = await requests.get({ what: nameOf(known), variant: '' }, headers =>
    octokit.rest.pulls.get({ ...parts(repo), pull_number: number, headers }),
  )
  if (page === null) return
  const now = pullRequestNow(page.data)
  const latest = await store.pullRequests.get(known)
  const change = missedChange(now, latest, await ticketOf({ store }, now, await rulesOf(repo)), 0)
  // Until the change is decided, it is found again.
  if (change === null) return page.taken()
  const installation = await store.repositories.installation(repo)
  await accept([pullRequestDelivery(repo, page.data, change, latest, installation)])
}

/** Compares the next ones after `after` (a name like `acme/shop#7`). Returns where the next round goes on; '' for the start. */
export const compareOnGitHub = async (context: PollContext, after: string): Promise<string> => {
  const { store, requests } = context
  const all: KnownPullRequest[] = []
  const tickets = new Set((await store.runners.withMachine()).map(ticketOfKey))
  for (const ticket of tickets) all.push(...(await store.pullRequests.ofTicket(ticket)))
  const open = all.filter(({ decided }) => decided?.state !== 'merged').sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  const ahead = open.filter(pullRequest => nameOf(pullRequest) > after)
  const round = (open.length > LIMIT ? [...ahead, ...open] : open).slice(0, LIMIT)
  for (const pullRequest of round)
    await requests.attempt(`reading ${nameOf(pullRequest)}`, () => comparePullRequest(context, pullRequest))
  const last = round.at(-1)
  return last === undefined || round.length < LIMIT ? '' : nameOf(last)
}
