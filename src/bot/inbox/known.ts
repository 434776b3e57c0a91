/** What the bot knows of tickets and pull requests, as handlers need it. */
import type { LaterRequest, PullRequestNow, Rules, SinceCommand } from '../../../handlers/handler.ts'
import { attemptKey, type EnvironmentKey, type Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { Store } from '../../store/port.ts'
import type { Octokit } from '../github/client.ts'
import type { Jira } from '../jira/client.ts'
import { presentEnvironment } from '../present-environment.ts'
import { ticketOf } from '../present-ticket.ts'

/** GitHub's and Jira's APIs may lag behind their events by as much: what contradicts an event is read again. Milliseconds. */
export const BEHIND_MS = 60_000
/** Until when an answer that contradicts a delivery is asked for again; 0 where the clock was set back since it arrived. */
export const askingUntil = (dueSince: number, now: number): number =>
  dueSince > now + BEHIND_MS ? 0 : dueSince + BEHIND_MS

export type FactsContext = {
  store: Store
  jira: Jira | null
  /** GitHub is configured, so that pull requests can be looked for. */
  hasGitHub: boolean
  /** A client for a repository; null when the App is not installed there. */
  octokitFor: (repo: string) => Promise<Octokit | null>
  /** The rules in effect in a repository. */
  rulesOf: (repo: string) => Promise<Rules>
  /** The operator's rules, which those of a repository narrow. */
  standard: Rules
  /** The repositories that serve a project, as repository-rules.ts gives them. */
  repositoriesFor: (project: string) => Promise<{ repositories: string[]; isMapped: boolean }>
  servesNow: (repo: string, project: string) => Promise<boolean>
  clock: () => number
}

/** The environment of a queued create. Only its state is known. */
const plannedEnvironment = (ticket: Ticket, now: string): Environment => ({
  ...{ ticket, provider: 'unknown', vmId: '', ip: null, status: 'creating', baseImage: '', createdAt: now },
  ...{ createdBy: { via: 'clock', who: null }, ssh: null, checkpoints: [], unsavedWork: null, observedAt: now },
})

/**
 * The environment that the ticket will have when its queued actions are done. An event that comes after a queued create, stop
 * or delete is decided as if that had happened, because its own action comes after it too.
 */
export const expectedEnvironment = async (
  context: FactsContext,
  ticket: EnvironmentKey,
): Promise<Environment | null> => {
  let expected = await presentEnvironment(context.store, ticket)
  const { queue } = context.store
  const active = await queue.list({ ticket, state: 'active' })
  for (const { action } of [...active, ...(await queue.list({ ticket, state: 'pending' }))]) {
    if (action.kind === 'delete') expected = null
    else if (action.kind === 'stop') expected = expected && { ...expected, status: 'stopped' }
    else if (action.kind === 'start' || action.kind === 'restart')
      expected = expected && { ...expected, status: 'running' }
    else if (action.kind === 'promote') {
      const attempt = await presentEnvironment(context.store, attemptKey(ticket, action.attempt))
      expected = attempt === null ? expected : { ...attempt, ticket }
    } else if (action.kind === 'create')
      expected ??= plannedEnvironment(ticket, new Date(context.clock()).toISOString())
  }
  return expected
}

/**
 * The attempts that the ticket will have then, but those that a person requested something of after `at` (epoch ms): people win.
 */
export const expectedAttempts = async (
  context: FactsContext,
  ticket: Ticket,
  at: number | null,
): Promise<Environment[]> => {
  const { queue, runners } = context.store
  const queued = [
    ...(await queue.list({ ticket, state: 'active' })),
    ...(await queue.list({ ticket, state: 'pending' })),
  ]
  // A promote deletes those that it does not choose.
  if (queued.some(({ action }) => action.kind === 'promote')) return []
  const attempts: Environment[] = []
  for (const { ticket: key } of await runners.attempts(ticket)) {
    const expected = await expectedEnvironment(context, key)
    if (expected !== null && (await requestAfter(context, key, at)) === null) attempts.push(expected)
  }
  return attempts
}

/** The last request about the ticket's machine after `at` (epoch ms). Nothing is later than an unknown time. */
export const requestAfter = async (
  { store }: FactsContext,
  ticket: EnvironmentKey,
  at: number | null,
  by: 'person' | 'anything' = 'person',
): Promise<LaterRequest | null> => {
  const last = at === null ? null : await store.requests.lastStateChange(ticket, by)
  return last !== null && last.action !== null && at !== null && last.at > at
    ? { who: last.by.name ?? last.by.who, kind: last.action.kind }
    : null
}

export const NOTHING_SINCE: SinceCommand = { personRequest: null, lastRequest: null, moves: [] }
/**
 * What happened to the ticket after a command was written. Nothing is later than an unknown time. `key`: the machine that the
 * command is about, where it is an attempt's.
 */
export const sinceCommand = async (
  context: FactsContext,
  ticket: Ticket | null,
  at: number | null,
  key: EnvironmentKey | null = ticket,
): Promise<SinceCommand> => {
  if (ticket === null || at === null) return NOTHING_SINCE
  const { toNewAt, toProgressAt } = await context.store.tickets.get(ticket)
  const moves = [
    { to: 'new' as const, when: toNewAt ?? 0 },
    { to: 'indeterminate' as const, when: toProgressAt ?? 0 },
  ]
  return {
    personRequest: await requestAfter(context, key ?? ticket, at),
    lastRequest: await requestAfter(context, key ?? ticket, at, 'anything'),
    moves: moves
      .filter(move => move.when > at)
      .sort((a, b) => a.when - b.when)
      .map(move => move.to),
  }
}

/**
 * Records which ticket a pull request belongs to at this moment, and returns the ticket. A pull request from a fork is not
 * linked: anybody can open one, with any ticket in its title.
 */
export const linkPullRequest = async (
  context: Pick<FactsContext, 'store'>,
  pullRequest: PullRequestRef,
  now: PullRequestNow | null,
  rules: Rules,
): Promise<Ticket | null> => {
  const { pullRequests } = context.store
  const known = await pullRequests.get(pullRequest)
  if (now === null) return known?.ticket ?? null
  const ticket = await ticketOf(context, now, rules)
  if (ticket === null || now.fromFork) {
    if (known !== null) await pullRequests.unlink(pullRequest)
    return ticket
  }
  const { repo, number } = pullRequest
  await pullRequests.link({ repo, number, ticket, branch: now.branch, state: now.state, closedAt: now.closedAt })
  return ticket
}
