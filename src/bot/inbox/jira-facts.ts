/** Gathers what handlers need to know beyond an event of Jira. See github-facts.ts. */
import type { EventOf, Facts, MovedEvent, Rules, StatusEvent } from '../../../handlers/handler.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { githubFailure } from '../github/client.ts'
import { latestPullRequests } from '../github/pull-request.ts'
import { ticketOf } from '../present-ticket.ts'
import { isFinal } from '../remote-failure.ts'
import {
  BEHIND_MS,
  expectedEnvironment,
  type FactsContext,
  linkPullRequest,
  NOTHING_SINCE,
  requestAfter,
  sinceCommand,
} from './known.ts'

/**
 * Looks through the watched repositories for pull requests of a ticket that has none: one may have been opened without an
 * event. False when there is nothing to look through yet, for example because GitHub could not be reached since the first
 * start.
 */
const findPullRequests = async (context: FactsContext, ticket: Ticket): Promise<boolean> => {
  const { store, hasGitHub, octokitFor, rulesOf, clock } = context
  const watched = await store.repositories.watched()
  for (const repo of watched) {
    const octokit = await octokitFor(repo)
    if (octokit === null) continue
    try {
      const latest = await latestPullRequests(octokit, repo)
      const rules = await rulesOf(repo)
      for (const { pullRequest, now } of latest)
        if (!now.fromFork && (await ticketOf(context, now, rules)) === ticket)
          await linkPullRequest(context, pullRequest, now, rules)
    } catch (error) {
      const failure = githubFailure(error, `looking for pull requests of ${ticket} in ${repo}`, clock())
      // A repository that we lost proves nothing; one that cannot be read now makes the delete wait.
      if (!isFinal(failure)) throw failure
    }
  }
  return !hasGitHub || watched.length > 0
}

/** Whether the last of the ticket's pull requests was closed unmerged after this, and none is open. */
const wasClosedAfter = async ({ store }: FactsContext, ticket: Ticket, at: number): Promise<boolean> => {
  const links = await store.pullRequests.ofTicket(ticket)
  const last = links.toSorted((a, b) => (a.closedAt ?? 0) - (b.closedAt ?? 0)).at(-1)
  return !links.some(link => link.state === 'open') && last?.state === 'closed' && (last.closedAt ?? 0) > at
}

/** Reads the ticket in Jira, and records what the event and the answer say about its category. */
const readTicket = async (
  { store, jira, clock }: FactsContext,
  event: StatusEvent,
  at: number,
): Promise<Facts['ticket']['now']> => {
  const { ticket } = event
  const known = await store.tickets.get(ticket)
  const category = event.change === 'deleted' ? 'done' : event.category
  await store.tickets.sawCategory(ticket, category, at)
  // Being assigned while in progress begins work too.
  if (category === 'indeterminate' || (category === 'new' && event.change === 'status'))
    await store.tickets.movedTo(ticket, category, at)
  const isOutdated = known.category !== null && known.categoryAt !== null && known.categoryAt > at
  const unread = isOutdated ? 'outdated' : 'unreadable'
  const answer = jira === null ? null : await jira.issue(ticket).catch((error: unknown) => ({ error }))
  if (answer !== null && 'error' in answer) {
    // The event is enough for a create; a stop or a delete waits until Jira can be read.
    if (category !== 'indeterminate' || isOutdated) throw answer.error
    return unread
  }
  // Right after its event, Jira may not show the issue yet.
  if (answer === null && event.change !== 'deleted' && clock() - at < BEHIND_MS)
    throw fail('busy', `reading ${ticket}: an event told of it, and Jira shows no such issue; asking again`)
  // Jira answers alike for an issue that is gone and for one that it no longer shows to us. Only the event of its deletion
  // proves that it is gone.
  if (answer === null) return event.change === 'deleted' ? null : unread
  await store.tickets.sawCategory(ticket, answer.category, clock())
  return answer
}

/** What happened to the ticket, and what people asked of it since `at`, epoch ms. */
const historyOf = async (context: FactsContext, ticket: Ticket, at: number, rules: Rules) => {
  const { store, jira } = context
  const { endedSinceNew, hadPullRequest } = await store.tickets.get(ticket)
  return {
    ...{ endedSinceNew, hadPullRequest },
    closedSince: await wasClosedAfter(context, ticket, at),
    me: [rules.assignees, rules.onlyAssignees].includes('me') && jira !== null ? await jira.me() : null,
    laterRequest: await requestAfter(context, ticket, at),
  }
}

/** `at`: when it happened, epoch ms. */
export const ticketFacts = async (
  context: FactsContext,
  event: StatusEvent,
  at: number,
  rules: Rules,
): Promise<Facts['ticket']> => {
  const { ticket } = event
  const { hadPullRequest: hadBefore } = await context.store.tickets.get(ticket)
  const now = await readTicket(context, event, at)
  const environment = await expectedEnvironment(context, ticket)
  const isOver = now === null || (typeof now !== 'string' && now.category === 'done')
  const mustLook = isOver && environment !== null && rules.done === null && !hadBefore
  const couldLook = !mustLook || (await findPullRequests(context, ticket))
  const history = await historyOf(context, ticket, at, rules)
  return { ...history, environment, previous: null, now, hadPullRequest: history.hadPullRequest || !couldLook }
}

/** Of an issue that got another key: the history is the old key's, because it follows the ticket. `now` as Jira has it. */
export const movedTicketFacts = async (
  context: FactsContext,
  event: MovedEvent,
  at: number,
  now: Facts['ticket']['now'],
  rules: Rules,
): Promise<Facts['ticket']> => ({
  ...(await historyOf(context, event.from, at, rules)),
  environment: await expectedEnvironment(context, event.ticket),
  previous: await expectedEnvironment(context, event.from),
  now,
})

export const ticketCommentFacts = async (
  context: FactsContext,
  { ticket, commentId, body, change, at }: EventOf<'ticket-comment'>,
): Promise<Facts['ticket-comment']> => {
  const { store, jira } = context
  const unread = { now: null, isOwnComment: false, assignee: null, since: NOTHING_SINCE }
  if (jira === null || jiraCommandLines(body).length === 0) return unread
  const now = await jira.readComment(ticket, commentId)
  if (now === null) return unread
  const isOwnComment = await store.comments.isOwn({ side: 'jira', id: commentId })
  // The assignee matters only for a comment that may command.
  const issue = isOwnComment || change === 'edited' || now.edited || now.authorIsApp ? null : await jira.issue(ticket)
  return { now, isOwnComment, assignee: issue?.assignee ?? null, since: await sinceCommand(context, ticket, at) }
}
