/** Deliveries of runners: what they reported for the first time. */
import * as v from 'valibot'
import type { Decision, EventOf, Facts, Rules } from '../../../handlers/handler.ts'
import { handlers } from '../../../handlers/index.ts'
import { ticketOfBranch } from '../../branches.ts'
import { ticketOf } from '../../domain.ts'
import { environmentKey } from '../../schema/basics.ts'
import { agentReport, push } from '../../schema/environment.ts'
import { PUSHED, type Settlement, type StoredDelivery } from '../../store/port.ts'
import { keyOfBranch, presentTicket } from '../present-ticket.ts'
import type { GitHubContext } from './decide-github.ts'
import { ignoredSettlement, settlementOf } from './settlement.ts'

const endedBody = v.object({ ticket: environmentKey, run: agentReport })
const reportTimes = v.object({
  push: v.optional(v.object({ at: v.optional(v.string()) })),
  run: v.optional(v.object({ endedAt: v.nullish(v.string()) })),
})
const pushedBody = v.object({ ticket: environmentKey, push, agentOpens: agentReport.entries.pullRequest })

const pushedFacts = async (
  context: GitHubContext,
  { ticket, push: { repo, branch } }: EventOf<'pushed'>,
  rules: Rules,
): Promise<Facts['pushed']> => {
  const { store, isListed } = context
  const named = ticketOfBranch(branch, rules)
  const known = (await store.pullRequests.ofTicket(ticketOf(ticket))).find(
    candidate => candidate.repo === repo && candidate.branch === branch,
  )
  return {
    isListed: await isListed(repo),
    named: await keyOfBranch(context, branch, await presentTicket(context, named, rules), rules),
    pullRequest: known === undefined ? null : { repo, number: known.number },
  }
}

const decidePushed = async (context: GitHubContext, body: unknown): Promise<Decision> => {
  const { store } = context
  const given = v.parse(pushedBody, body)
  // A runner writes it in lower case; everything else here is known by the name that GitHub writes.
  const repo = await store.repositories.presentName(given.push.repo)
  const ticket = await store.tickets.current(given.ticket)
  const event = { kind: 'pushed', ...given, push: { ...given.push, repo }, ticket } as const
  // The file of a repository that may not act is not read.
  const rules = (await context.isListed(repo)) ? await context.rulesOf(repo) : context.standard
  return handlers.pushed(event, await pushedFacts(context, event, rules), rules)
}

const decideEnded = async ({ store, standard }: GitHubContext, body: unknown): Promise<Decision> => {
  const { ticket, run } = v.parse(endedBody, body)
  return handlers['agent-ended'](
    { kind: 'agent-ended', ticket: await store.tickets.current(ticket), run },
    {},
    standard,
  )
}

/** When what it reports happened, epoch ms; null when the report does not say. */
const happenedAt = (payload: unknown): number | null => {
  const { push: pushed, run } = v.parse(reportTimes, payload)
  const at = Date.parse(pushed?.at ?? run?.endedAt ?? '')
  return Number.isNaN(at) ? null : at
}

export const decideRunner = async (
  context: GitHubContext,
  { id, event, body, receivedAt, dueSince }: StoredDelivery,
): Promise<Settlement> => {
  const { store, hasGitHub, clock } = context
  const isPush = event === PUSHED
  if (isPush && !hasGitHub) return ignoredSettlement('GitHub is not configured')
  const payload: unknown = JSON.parse(body)
  const decision = await (isPush ? decidePushed : decideEnded)(context, payload)
  const occasion = {
    about: `runner:${id}`,
    correlation: id,
    at: Math.min(happenedAt(payload) ?? receivedAt, receivedAt),
    isReplay: dueSince > receivedAt,
    place: 'runner',
    ticket: null,
    comment: null,
  }
  return settlementOf(store, decision, occasion, clock())
}
