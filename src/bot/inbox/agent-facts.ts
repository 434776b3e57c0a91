/** Gathers what handlers need to know to pass a review or failed checks on to an agent. See github-facts.ts. */
import { whyNotTold } from '../../../handlers/agent-message.ts'
import {
  type EventOf,
  type Facts,
  type FailedCheck,
  type ReviewComment,
  type Rules,
  roundsOf,
} from '../../../handlers/handler.ts'
import { teamsInRules } from '../../../handlers/who-may.ts'
import { ticketOfBranch } from '../../branches.ts'
import { type Ticket, ticketOf } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import { githubFailure, type Octokit, parts, statusOf } from '../github/client.ts'
import { hasFailed } from '../github/events.ts'
import { accessOf, teamsOf } from '../github/people.ts'
import { nameOf, readPullRequest } from '../github/pull-request.ts'
import { presentEnvironment } from '../present-environment.ts'
import { keyOfBranch, presentTicket } from '../present-ticket.ts'
import { type FactsContext, linkPullRequest } from './known.ts'

/** Under these names a webhook and a poll pass the same thing on once. */
export const aboutReview = ({ reviewId }: EventOf<'review'>): string => `github:review:${reviewId}`
/** Of one commit, whatever checks it: several Apps may. */
export const aboutChecks = ({ repo, commit }: EventOf<'checks'>): string => `github:checks:${repo}:${commit}`

const wasPassedOn = async ({ store }: FactsContext, about: string): Promise<boolean> =>
  (await store.requests.get(`${about}:0`)) !== null

/** How many reviews and failed checks the agent was told: as its runner reports it, and what is on its way to it. */
const toldOf = async ({ store }: FactsContext, ticket: Ticket, { agent, createdAt }: Environment): Promise<number> => {
  const rounds = (await store.queue.list({ ticket, kind: 'tell' })).flatMap(({ action, state, createdAt: at }) =>
    action.kind === 'tell' && state !== 'dead' && state !== 'cancelled' && at >= Date.parse(createdAt)
      ? (action.round ?? 0)
      : [],
  )
  return Math.max(agent?.rounds ?? 0, ...rounds)
}

/** GitHub shows at most this many on a page; more than anybody reads. */
const MAX_LISTED = 100

const commentsOf = async (
  octokit: Octokit,
  { pullRequest, reviewId }: EventOf<'review'>,
  now: number,
): Promise<ReviewComment[]> => {
  try {
    const { data } = await octokit.rest.pulls.listCommentsForReview({
      ...parts(pullRequest.repo),
      ...{ pull_number: pullRequest.number, review_id: reviewId, per_page: MAX_LISTED },
    })
    return data.map(({ path, body, line, original_line }) => ({ path, body, line: line ?? original_line ?? null }))
  } catch (error) {
    throw githubFailure(error, `reading a review of ${nameOf(pullRequest)}`, now)
  }
}

export const reviewFacts = async (
  context: FactsContext,
  event: EventOf<'review'>,
  octokit: Octokit,
  rules: Rules,
): Promise<Facts['review']> => {
  const { store, clock } = context
  const { pullRequest, author } = event
  const nothing: Facts['review'] = {
    ...{ permission: 'none', teams: [], now: null, ticket: null, environment: null },
    ...{ comments: [], told: 0, isPassedOn: false },
  }
  if (roundsOf(rules) === 0 || event.authorIsBot) return nothing
  // Anybody may review on a public repository: where no agent is, that costs no request.
  const link = await store.pullRequests.get(pullRequest)
  const linked = link === null ? null : await keyOfBranch(context, link.branch, link.ticket, rules)
  const known = linked === null ? null : await presentEnvironment(store, linked)
  const before = { ...nothing, ticket: linked, environment: known }
  if (linked === null || whyNotTold(linked, known) !== null) return before
  if (await wasPassedOn(context, aboutReview(event))) return { ...before, isPassedOn: true }
  const { permission } = await accessOf(store, octokit, pullRequest.repo, author, clock())
  if (permission !== 'admin' && permission !== 'write') return { ...before, permission }
  const teams = await teamsOf(octokit, teamsInRules(['tell'], rules), author, clock())
  const now = await readPullRequest(octokit, pullRequest, clock())
  const present = await linkPullRequest(context, pullRequest, now, rules)
  const ticket = now === null ? present : await keyOfBranch(context, now.branch, present, rules)
  const environment = ticket === null ? null : await presentEnvironment(store, ticket)
  const told = ticket === null || environment === null ? 0 : await toldOf(context, ticket, environment)
  const comments = now?.state === 'open' && !now.fromFork ? await commentsOf(octokit, event, clock()) : []
  return { ...nothing, permission, teams, now, ticket, environment, told, comments }
}

/** Whether the commit is the head of the branch, in the repository itself: a fork may have a branch of the same name. */
const isHeadOf = async (octokit: Octokit, { repo, commit }: EventOf<'checks'>, branch: string, now: number) => {
  try {
    const { data } = await octokit.rest.git.getRef({ ...parts(repo), ref: `heads/${branch}` })
    return data.object.sha.toLowerCase() === commit
  } catch (error) {
    if (statusOf(error) === 404) return false
    throw githubFailure(error, `reading the branch of ${commit.slice(0, 12)} in ${repo}`, now)
  }
}

const failedChecks = async (
  octokit: Octokit,
  { repo, commit }: EventOf<'checks'>,
  now: number,
): Promise<FailedCheck[]> => {
  try {
    const { data } = await octokit.rest.checks.listForRef({
      ...parts(repo),
      ...{ ref: commit, filter: 'latest', per_page: MAX_LISTED },
    })
    return data.check_runs
      .filter(({ conclusion }) => hasFailed(conclusion))
      .map(({ name, conclusion, html_url, output }) => ({
        ...{ name, conclusion: conclusion ?? '', url: html_url },
        summary: output.summary ?? output.title ?? null,
      }))
  } catch (error) {
    throw githubFailure(error, `reading the checks of ${commit.slice(0, 12)} in ${repo}`, now)
  }
}

/** An open pull request of the branch, where people read what the agent is not told. */
const openOn = async (
  { store }: FactsContext,
  ticket: Ticket,
  { repo, branch }: EventOf<'checks'>,
): Promise<PullRequestRef | null> => {
  const links = await store.pullRequests.ofTicket(ticket)
  const link = links.find(
    candidate => candidate.repo === repo && candidate.branch === branch && candidate.state === 'open',
  )
  return link === undefined ? null : { repo, number: link.number }
}

export const checksFacts = async (
  context: FactsContext,
  event: EventOf<'checks'>,
  octokit: Octokit,
  rules: Rules,
): Promise<Facts['checks']> => {
  const { store, clock } = context
  const nothing: Facts['checks'] = {
    ...{ ticket: null, environment: null, isHead: false, failed: [], pullRequest: null, told: 0, isPassedOn: false },
  }
  const { branch } = event
  if (roundsOf(rules) === 0 || branch === null) return nothing
  const named = await presentTicket(context, ticketOfBranch(branch, rules), rules)
  const ticket = await keyOfBranch(context, branch, named, rules)
  const environment = ticket === null ? null : await presentEnvironment(store, ticket)
  const before = { ...nothing, ticket, environment }
  if (ticket === null || environment === null || whyNotTold(ticket, environment) !== null) return before
  if (await wasPassedOn(context, aboutChecks(event))) return { ...before, isPassedOn: true }
  const isHead = await isHeadOf(octokit, event, branch, clock())
  return {
    ...before,
    isHead,
    failed: isHead ? await failedChecks(octokit, event, clock()) : [],
    pullRequest: await openOn(context, ticketOf(ticket), event),
    told: await toldOf(context, ticket, environment),
  }
}
