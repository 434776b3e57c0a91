/**
 * Gathers what handlers need to know beyond an event of GitHub. What is read here is true now; the event says only what was
 * true when it was sent. What cannot be read fails with a kind that the inbox tries again.
 */

import { commandLines, MAX_COMMANDS, possibleCommands } from '../../../handlers/command-lines.ts'
import type { EventOf, Facts, PullRequestNow, Rules } from '../../../handlers/handler.ts'
import { readCommand } from '../../../handlers/slash-commands.ts'
import { teamsInRules } from '../../../handlers/who-may.ts'
import { ticketOfBranch } from '../../branches.ts'
import { attemptOf, type EnvironmentKey, type Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { Octokit } from '../github/client.ts'
import { accessOf, teamsOf } from '../github/people.ts'
import { isBehind, nameOf, openPullRequests, readPullRequest } from '../github/pull-request.ts'
import { presentEnvironment } from '../present-environment.ts'
import { keyOfBranch, presentTicket, ticketOf } from '../present-ticket.ts'
import {
  expectedAttempts,
  expectedEnvironment,
  type FactsContext,
  linkPullRequest,
  NOTHING_SINCE,
  requestAfter,
  sinceCommand,
} from './known.ts'

const isSame = (a: PullRequestRef, b: PullRequestRef) => a.repo === b.repo && a.number === b.number

export const pushFacts = async (
  context: FactsContext,
  event: EventOf<'push'>,
  rules: Rules,
): Promise<Facts['push']> => {
  const branch = event.ref.replace(/^refs\/heads\//, '')
  const named = ticketOfBranch(branch, rules)
  const ticket = await keyOfBranch(context, branch, await presentTicket(context, named, rules), rules)
  const environment = ticket === null ? null : await presentEnvironment(context.store, ticket)
  if (ticket === null || environment === null) return { environment: null, live: false }
  const known = await context.store.runners.environment(ticket)
  const runner = (await context.store.runners.list()).find(({ id }) => id === known?.runnerId)
  const provider = runner?.offer?.providers.find(({ name }) => name === environment.provider)
  return { environment, live: provider?.live === true }
}

/** Other open pull requests of the ticket: the known ones, read again, and those that the repository lists. */
const otherOpen = async (
  context: FactsContext,
  octokit: Octokit,
  ticket: Ticket,
  self: PullRequestRef,
  rules: Rules,
): Promise<PullRequestRef[]> => {
  const { store, rulesOf, clock, octokitFor } = context
  const others: PullRequestRef[] = []
  for (const link of await store.pullRequests.ofTicket(ticket)) {
    // A merge is final.
    if (isSame(link, self) || link.state === 'merged') continue
    const client = link.repo === self.repo ? octokit : await octokitFor(link.repo)
    const now = client === null ? null : await readPullRequest(client, link, clock())
    if (now === null) {
      // It is gone, or only no longer shown to us.
      if (link.state === 'open') others.push(link)
      continue
    }
    const linked = await linkPullRequest(context, link, now, await rulesOf(link.repo))
    if (linked === ticket && now.state === 'open') others.push(link)
  }
  for (const { pullRequest, now } of await openPullRequests(octokit, self.repo, clock())) {
    if (isSame(pullRequest, self) || others.some(other => isSame(other, pullRequest))) continue
    if (now.fromFork || (await ticketOf(context, now, rules)) !== ticket) continue
    await linkPullRequest(context, pullRequest, now, rules)
    others.push(pullRequest)
  }
  return others.map(({ repo, number }) => ({ repo, number }))
}

/** Whether work on the ticket began again after the pull request had ended, so that its end is about the time before. */
const wasRestarted = async (
  { store }: FactsContext,
  ticket: Ticket,
  { state, closedAt }: PullRequestNow,
): Promise<boolean> => {
  const { toNewAt, toProgressAt } = await store.tickets.get(ticket)
  if (closedAt === null || toProgressAt === null || toProgressAt <= closedAt) return false
  return state === 'closed' || (toNewAt !== null && toNewAt > closedAt && toProgressAt > toNewAt)
}

/** Fails with a kind that is tried again soon: GitHub's answer does not show yet what the event tells. */
const askAgain = (pullRequest: PullRequestRef, told: string, now: PullRequestNow | null): never => {
  const shown = now === null ? 'shows no such pull request' : `says that it is ${now.state}`
  throw fail('busy', `reading ${nameOf(pullRequest)}: ${told}, and GitHub ${shown}; asking again`)
}

/** The last that happened to the machine is that the close of a pull request stopped it. */
const wasStoppedByClose = async ({ store }: FactsContext, key: EnvironmentKey): Promise<boolean> => {
  const last = await store.requests.lastStateChange(key, 'anything')
  return last?.action?.kind === 'stop' && last.by.via === 'github' && !last.person
}

/**
 * What a person requested of the machine after the pull request's event. The merge of an attempt is about the ticket's machine too:
 * the attempt takes its place.
 */
const laterRequestOn = async (
  context: FactsContext,
  { key, ticket }: { key: EnvironmentKey; ticket: Ticket },
  { isMerged, at }: { isMerged: boolean; at: number | null },
) => (await requestAfter(context, key, at)) ?? (isMerged ? requestAfter(context, ticket, at) : null)

/** `askUntil`: until then (epoch ms), what GitHub does not show yet is read again. */
export const pullRequestFacts = async (
  context: FactsContext,
  event: EventOf<'pull-request'>,
  octokit: Octokit,
  rules: Rules,
  askUntil: number,
): Promise<Facts['pull-request']> => {
  const { store, clock } = context
  const { pullRequest } = event
  const now = await readPullRequest(octokit, pullRequest, clock())
  if (isBehind(event, now) && clock() < askUntil)
    askAgain(pullRequest, `it was ${event.merged ? 'merged' : event.change}`, now)
  const before = await store.pullRequests.get(pullRequest)
  const linked = await linkPullRequest(context, pullRequest, now, rules)
  const ticket = linked ?? before?.ticket ?? (await ticketOf(context, event, rules))
  const ended = now === null || now.state !== 'open'
  // Anybody can close and reopen a pull request from a fork, again and again.
  const others =
    ended && now?.fromFork !== true && ticket !== null
      ? await otherOpen(context, octokit, ticket, pullRequest, rules)
      : []
  if (ticket !== null && now?.state === 'merged' && !now.fromFork && others.length === 0)
    await store.tickets.ended(ticket, now.closedAt ?? clock())
  const { branch } = now ?? event
  const named = await keyOfBranch(context, branch, ticket, rules)
  const expected = named === null ? null : await expectedEnvironment(context, named)
  // An attempt whose delete waits is as good as gone: what happens then is about the ticket's machine.
  const isGone = expected === null && named !== ticket && ticket !== null
  const key = isGone ? ticket : named
  const at = ended ? (now?.closedAt ?? null) : event.at
  return {
    environment: isGone ? await expectedEnvironment(context, ticket) : expected,
    attempts: ticket === null ? [] : await expectedAttempts(context, ticket, at),
    now,
    readyDecided: before?.ready ?? before?.decided?.state === 'open',
    hadMachine: ticket !== null && (await store.runners.environment(ticket)) !== null,
    stoppedByClose: key !== null && (await wasStoppedByClose(context, key)),
    stateDecided: before?.decided?.state === now?.state,
    others,
    ticketRestarted: ticket !== null && now !== null && (await wasRestarted(context, ticket, now)),
    laterRequest:
      key === null || ticket === null
        ? null
        : await laterRequestOn(context, { key, ticket }, { isMerged: now?.state === 'merged', at }),
  }
}

export const commentFacts = async (
  context: FactsContext,
  event: EventOf<'comment'>,
  octokit: Octokit,
  rules: Rules,
  askUntil: number,
): Promise<Facts['comment']> => {
  const { store, clock } = context
  const { pullRequest, author } = event
  const stranger = { permission: 'none', teams: [], now: null, allowed: null, since: NOTHING_SINCE } as const
  // Most comments hold no command: they cost no request. Who may not command costs no reading of Markdown either.
  if (event.unfit !== null || event.authorIsBot || possibleCommands(event.body).length === 0) return stranger
  const { permission, isColleague } = await accessOf(store, octokit, pullRequest.repo, author, clock())
  if (permission !== 'admin' && permission !== 'write')
    return {
      ...stranger,
      permission,
      isColleague: isColleague || (permission === 'read' && event.authorIsMember === true),
    }
  const lines = commandLines(event.body)
  if (lines.length === 0) return { ...stranger, permission, lines }
  const names = lines.slice(0, MAX_COMMANDS).flatMap(({ words }) => {
    const command = readCommand(words, 'github')
    return 'name' in command ? [command.name] : []
  })
  const now = await readPullRequest(octokit, pullRequest, clock())
  if (now === null && clock() < askUntil) askAgain(pullRequest, 'somebody commented there', now)
  const ticket = await linkPullRequest(context, pullRequest, now, rules)
  const key = now === null ? null : await keyOfBranch(context, now.branch, ticket, rules)
  return {
    permission,
    lines,
    attempt: key === null || attemptOf(key) === null ? null : { ticket: key },
    teams: await teamsOf(octokit, teamsInRules(names, rules), author, clock()),
    now,
    allowed: await store.pullRequests.allowedCommit(pullRequest),
    since: await sinceCommand(context, ticket, event.at, key),
  }
}
