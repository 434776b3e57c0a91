/** Gathers what handlers need to know beyond an event of Jira. See github-facts.ts. */
import { isAmong } from '../../../handlers/accounts.ts'
import type {
  EventOf,
  Facts,
  MovedEvent,
  Rules,
  StatusCategory,
  StatusEvent,
  TicketNow,
} from '../../../handlers/handler.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import { isWithin } from '../../clock.ts'
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { githubFailure } from '../github/client.ts'
import { latestPullRequests } from '../github/pull-request.ts'
import { ticketOf } from '../present-ticket.ts'
import { isFinal } from '../remote-failure.ts'
import {
  BEHIND_MS,
  expectedAttempts,
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

/**
 * The category of the status that a move comes from, and that it was in until `at`: by the event, or else as it was known before
 * that. `ticket`: the key that has the history.
 */
export const categoryBefore = async (
  { store, jira }: FactsContext,
  { fromStatus }: Pick<StatusEvent, 'fromStatus'>,
  ticket: Ticket,
  at: number,
): Promise<StatusCategory | null> => {
  // A status that Jira cannot tell now leaves what is known: no move waits for it.
  const told = fromStatus === null || jira === null ? null : await jira.categoryOf(fromStatus).catch(() => null)
  if (told !== null && told !== 'undefined') return told
  const known = await store.tickets.get(ticket)
  return known.categoryAt !== null && known.categoryAt <= at ? known.category : null
}

/** Records what a move says: where the ticket was until then, and where it is since. `to` null: the event does not say. */
export const recordMove = async (
  { store }: Pick<FactsContext, 'store'>,
  ticket: Ticket,
  { from, to }: { from: StatusCategory | null; to: StatusCategory | null },
  at: number,
): Promise<void> => {
  if (from === 'new') await store.tickets.sawCategory(ticket, 'new', at)
  if (to !== null) await store.tickets.sawCategory(ticket, to, at)
}

/** Whether an answer of Jira is another than the event told. `category`: of the event; null when it does not say. */
const contradicts = (event: StatusEvent, now: TicketNow, category: StatusCategory | null): boolean =>
  event.change === 'assignee' ? now.assignee !== event.assignee : category !== null && now.category !== category

type Reading = { now: Facts['ticket']['now']; from: StatusCategory | null }

/** Reads the ticket in Jira, and records what the event and the answer say about its category. */
const readTicket = async (context: FactsContext, event: StatusEvent, at: number): Promise<Reading> => {
  const { store, jira, clock } = context
  const { ticket, change } = event
  const known = await store.tickets.get(ticket)
  const from = change === 'status' ? await categoryBefore(context, event, ticket, at) : null
  // Some versions send a status without its category.
  const told = event.category === 'undefined' ? null : event.category
  const category = change === 'deleted' ? 'done' : told
  await recordMove(context, ticket, { from, to: category }, at)
  // Being assigned while in progress begins work too.
  const recordTransition = async (to: StatusCategory | null) => {
    if (to === 'indeterminate' || (to === 'new' && change === 'status')) await store.tickets.movedTo(ticket, to, at)
  }
  await recordTransition(category)
  const isOutdated = known.category !== null && known.categoryAt !== null && known.categoryAt > at
  const unread = isOutdated ? 'outdated' : 'unreadable'
  const answer = jira === null ? null : await jira.issue(ticket).catch((error: unknown) => ({ error }))
  if (answer !== null && 'error' in answer) {
    // The event is enough for a create; a stop or a delete waits until Jira can be read.
    if (category !== 'indeterminate' || isOutdated) throw answer.error
    return { now: unread, from }
  }
  // Right after its event, Jira may not show the issue yet.
  if (answer === null && event.change !== 'deleted' && isWithin(at, BEHIND_MS, clock()))
    throw fail('busy', `reading ${ticket}: an event told of it, and Jira shows no such issue; asking again`)
  // Jira answers alike for an issue that is gone and for one that it no longer shows to us. Only the event of its deletion
  // proves that it is gone.
  if (answer === null) return { now: change === 'deleted' ? null : unread, from }
  if (contradicts(event, answer, category) && answer.updatedAt < at && isWithin(at, BEHIND_MS, clock()))
    throw fail('busy', `reading ${ticket}: Jira does not show yet what an event told of it; asking again`)
  await store.tickets.sawCategory(ticket, answer.category, clock())
  if (category === null) await recordTransition(answer.category)
  return { now: answer, from }
}

/** What happened to the ticket, and what people asked of it since `at`, epoch ms. `ticket`: the key that has the history. */
const historyOf = async (
  context: FactsContext,
  { ticket, event, now }: { ticket: Ticket; event: StatusEvent | MovedEvent; now: Facts['ticket']['now'] },
  at: number,
  rules: Rules,
) => {
  const { store, jira, standard } = context
  const { endedSinceNew, hadPullRequest } = await store.tickets.get(ticket)
  const isMeNeeded = [rules.assignees, rules.onlyAssignees, standard.assignees].includes('me')
  const me = isMeNeeded && jira !== null ? await jira.me() : null
  const { assignee } = now === null || typeof now === 'string' ? event : now
  // Whoever gives a ticket away waits for no machine.
  const waiting = event.change === 'assignee' ? [assignee] : [assignee, event.by.who]
  return {
    ...{ endedSinceNew, hadPullRequest, me },
    isOurs: waiting.some(account => isAmong(account, standard.assignees, me)),
    closedSince: await wasClosedAfter(context, ticket, at),
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
  const { now, from } = await readTicket(context, event, at)
  const environment = await expectedEnvironment(context, ticket)
  const attempts = await expectedAttempts(context, ticket, at)
  const isOver = now === null || (typeof now !== 'string' && now.category === 'done')
  const mustLook = isOver && (environment !== null || attempts.length > 0) && rules.done === null && !hadBefore
  const couldLook = !mustLook || (await findPullRequests(context, ticket))
  const history = await historyOf(context, { ticket, event, now }, at, rules)
  const hadPullRequest = history.hadPullRequest || !couldLook
  return { ...history, from, environment, attempts, previous: null, now, hadPullRequest }
}

/** Of an issue that got another key: the history is the old key's, because it follows the ticket. `now` as Jira has it. */
export const movedTicketFacts = async (
  context: FactsContext,
  event: MovedEvent,
  at: number,
  { now, from }: Reading,
  rules: Rules,
): Promise<Facts['ticket']> => ({
  ...(await historyOf(context, { ticket: event.from, event, now }, at, rules)),
  from,
  environment: await expectedEnvironment(context, event.ticket),
  previous: await expectedEnvironment(context, event.from),
  attempts: await expectedAttempts(context, event.from, at),
  now,
})

export const ticketCommentFacts = async (
  context: FactsContext,
  { ticket, commentId, body, change, at }: EventOf<'ticket-comment'>,
): Promise<Facts['ticket-comment']> => {
  const { store, jira, clock } = context
  const unread = { now: null, isOwnComment: false, assignee: null, since: NOTHING_SINCE }
  if (jira === null || jiraCommandLines(body).length === 0) return unread
  const now = await jira.readComment(ticket, commentId)
  // Right after its event, Jira may not show the comment yet.
  if (now === null && at !== null && change === 'created' && isWithin(at, BEHIND_MS, clock()))
    throw fail('busy', `reading a comment on ${ticket}: an event told of it, and Jira does not show it; asking again`)
  if (now === null) return unread
  const isOwnComment = await store.comments.isOwn({ side: 'jira', id: commentId })
  // The assignee matters only for a comment that may command.
  const issue = isOwnComment || change === 'edited' || now.edited || now.authorIsApp ? null : await jira.issue(ticket)
  return { now, isOwnComment, assignee: issue?.assignee ?? null, since: await sinceCommand(context, ticket, at) }
}
