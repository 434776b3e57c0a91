/**
 * Polls what agents are told: reviews that ask for changes, and failed checks, of the open pull requests of tickets with an agent.
 * Three requests each, usually answered with 304; none where the rules pass nothing on.
 */
import { roundsOf } from '../../../handlers/handler.ts'
import { type Ticket, ticketOf } from '../../domain.ts'
import type { KnownPullRequest } from '../../store/port.ts'
import type { PolledDelivery } from '../catch-up.ts'
import { presentEnvironment } from '../present-environment.ts'
import { parts } from './client.ts'
import { hasFailed } from './events.ts'
import { isRateLow, type PollContext, readPages } from './poll-requests.ts'
import { checksDelivery, reviewDelivery } from './polled.ts'
import { nameOf } from './pull-request.ts'

const pollOne = async (
  { github, store, requests, accept }: PollContext,
  { repo, number, branch }: KnownPullRequest,
): Promise<void> => {
  const octokit = await github.clientFor(repo)
  if (octokit === null) return
  const installation = await store.repositories.installation(repo)
  const what = nameOf({ repo, number })
  const deliveries: PolledDelivery[] = []
  // Oldest first: a new one is on the last page.
  const reviews = await readPages(requests, { what: `${what} reviews`, variant: '' }, (page, headers) =>
    octokit.rest.pulls.listReviews({ ...parts(repo), pull_number: number, per_page: 100, page, headers }),
  )
  for (const review of reviews?.data ?? [])
    if (review.state === 'CHANGES_REQUESTED') deliveries.push(reviewDelivery(repo, number, review, installation))
  const suites = await requests.get({ what: `${what} checks`, variant: '' }, headers =>
    octokit.rest.checks.listSuitesForRef({ ...parts(repo), ref: `heads/${branch}`, per_page: 100, headers }),
  )
  for (const suite of suites?.data.check_suites ?? [])
    if (suite.status === 'completed' && hasFailed(suite.conclusion))
      deliveries.push(checksDelivery(repo, branch, suite, installation))
  await accept(deliveries)
  reviews?.taken()
  suites?.taken()
}

export const pollAgents = async (context: PollContext): Promise<void> => {
  const { github, store, requests, rulesOf, clock } = context
  const withAgent = new Set<Ticket>()
  for (const key of await store.runners.withMachine())
    if ((await presentEnvironment(store, key))?.agent !== undefined) withAgent.add(ticketOf(key))
  for (const ticket of withAgent) {
    for (const link of await store.pullRequests.ofTicket(ticket)) {
      if (link.state !== 'open' || isRateLow(github, clock())) continue
      await requests.attempt(`reading the reviews and checks of ${nameOf(link)}`, async () => {
        if (roundsOf(await rulesOf(link.repo)) > 0) await pollOne(context, link)
      })
    }
  }
}
