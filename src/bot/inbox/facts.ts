/**
 * Gathers what a handler must know beyond the event. What is read here is true now; the event says only what was true when
 * it was sent. What cannot be read fails with a kind that the inbox tries again.
 */
import { ticketOfPullRequest } from '../../../handlers/branches.ts'
import { commandLines, MAX_COMMANDS } from '../../../handlers/command-lines.ts'
import type {
  EventKind,
  Facts,
  LaterRequest,
  PullRequestNow,
  Rules,
  SinceCommand,
  SwarmEvent,
} from '../../../handlers/handler.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import { readCommand } from '../../../handlers/slash-commands.ts'
import { teamsInRules } from '../../../handlers/who-may.ts'
import { findTicket, type Ticket } from '../../domain.ts'
import type { Action, PullRequestRef } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { Failure } from '../../schema/failure.ts'
import type { Queue } from '../../store/port.ts'
import type { Memory } from '../../store/sqlite/memory.ts'
import { githubFailure, isGitHubFailure, type Octokit, statusOf } from '../github/client.ts'
import type { Jira } from '../jira/client.ts'

export type Sources = {
  memory: Memory
  queue: Pick<Queue, 'list' | 'cancel'>
  jira: Jira | null
  /** What holds in a repository now. */
  rulesOf: (repo: string) => Promise<Rules>
  clock: () => number
  /** Pull requests are looked for. */
  hasGitHub: boolean
  /** A client for a repository other than the event's; null where the app is not installed. */
  octokitFor: (repo: string) => Promise<Octokit | null>
}
type Event<Kind extends EventKind> = Extract<SwarmEvent, { kind: Kind }>

export const parts = (repo: string): { owner: string; repo: string } => {
  const [owner = '', name = ''] = repo.split('/')
  return { owner, repo: name }
}
const ref = ({ repo, number }: PullRequestRef) => `${repo}#${number}`
const same = (one: PullRequestRef, other: PullRequestRef) => one.repo === other.repo && one.number === other.number

export type PullRequestData = {
  state: string
  merged?: boolean
  merged_at?: string | null
  closed_at?: string | null
  title: string
  body: string | null
  head: { ref: string; sha: string; repo: { full_name: string } | null }
  base: { repo: { full_name: string } }
}
export const asNow = (data: PullRequestData): PullRequestNow => ({
  state:
    data.merged === true || typeof data.merged_at === 'string' ? 'merged' : data.state === 'open' ? 'open' : 'closed',
  branch: data.head.ref,
  title: data.title,
  body: data.body ?? '',
  fromFork: data.head.repo?.full_name !== data.base.repo.full_name,
  headSha: data.head.sha,
  closedAt: typeof data.closed_at === 'string' ? Date.parse(data.closed_at) : null,
})

/**
 * The environment that the ticket will have when what is queued is done: an event that comes after a queued create, stop or
 * delete is decided as if it had happened, since its action comes after it too.
 */
const expectedEnvironment = ({ memory, queue, clock }: Sources, ticket: Ticket): Environment | null => {
  let expected = memory.environment(ticket)
  const now = new Date(clock()).toISOString()
  for (const { action, state } of queue.list({ ticket })) {
    if (state !== 'pending' && state !== 'active') continue
    if (action.kind === 'delete') expected = null
    else if (action.kind === 'stop' && expected !== null) expected = { ...expected, status: 'stopped' }
    else if (action.kind === 'start' && expected !== null) expected = { ...expected, status: 'running' }
    else if (action.kind === 'create') {
      // Of one that is not begun, nothing but its state is known.
      expected = expected ?? {
        ...{ ticket, provider: 'synthetic', vmId: '', ip: null, status: 'creating', baseImage: '', createdAt: now },
        ...{
          createdBy: { via: 'clock' as const, who: null },
          ssh: null,
          checkpoints: [],
          unsavedWork: null,
          observedAt: now,
        },
      }
    }
  }
  return expected
}

/** What was asked of the ticket's machine after this time; of what nobody says when it was, nothing is later. */
const laterRequest = (
  { memory }: Sources,
  ticket: Ticket,
  at: number | null,
  by: 'people' | 'anything' = 'people',
): LaterRequest | null => {
  const wish = at === null ? null : memory.wish(ticket, by)
  return wish !== null && at !== null && wish.at > at ? { who: wish.who, kind: wish.kind } : null
}

const NOTHING: SinceCommand = { personRequest: null, lastRequest: null, moves: [] }
/** What happened to the ticket after a command was given; of one that nobody says when it was, nothing is later. */
const sinceThen = (sources: Sources, ticket: Ticket | null, at: number | null): SinceCommand => {
  if (ticket === null || at === null) return NOTHING
  const { toNewAt, toProgressAt } = sources.memory.ticket(ticket)
  const moves = [
    { to: 'new' as const, when: toNewAt ?? 0 },
    { to: 'indeterminate' as const, when: toProgressAt ?? 0 },
  ]
  return {
    personRequest: laterRequest(sources, ticket, at),
    lastRequest: laterRequest(sources, ticket, at, 'anything'),
    moves: moves
      .filter(one => one.when > at)
      .sort((one, other) => one.when - other.when)
      .map(one => one.to),
  }
}

/** The pull request as it is now; null when it is gone. */
const readPullRequest = async (
  octokit: Octokit,
  pullRequest: PullRequestRef,
  clock: () => number,
): Promise<PullRequestNow | null> => {
  try {
    const { data } = await octokit.rest.pulls.get({ ...parts(pullRequest.repo), pull_number: pullRequest.number })
    return asNow(data)
  } catch (error) {
    if (statusOf(error) === 404) return null
    throw githubFailure(error, `reading ${ref(pullRequest)}`, clock())
  }
}

/**
 * Remembers which ticket a pull request belongs to, as it is now, and returns the ticket. One from a fork is not linked:
 * anybody may open it, with any ticket in its title.
 */
const remember = (
  { memory }: Pick<Sources, 'memory'>,
  pullRequest: PullRequestRef,
  now: PullRequestNow | null,
  rules: Rules,
): Ticket | null => {
  const known = memory.linkOf(pullRequest)
  if (now === null) return known?.ticket ?? null
  const ticket = ticketOfPullRequest(now, rules)
  if (ticket === null || now.fromFork) {
    if (known !== null) memory.unlink(pullRequest)
    return ticket
  }
  memory.link({ ...pullRequest, ticket, branch: now.branch, state: now.state, closedAt: now.closedAt })
  return ticket
}

/** Other open pull requests of the ticket: those that were seen, read again, and those that the repository lists. */
const otherOpen = async (
  sources: Sources,
  octokit: Octokit,
  ticket: Ticket,
  self: PullRequestRef,
  rules: Rules,
): Promise<PullRequestRef[]> => {
  const { memory, rulesOf, clock, octokitFor } = sources
  const others: PullRequestRef[] = []
  for (const link of memory.pullRequestsOf(ticket)) {
    // What is merged stays merged.
    if (same(link, self) || link.state === 'merged') continue
    const client = link.repo === self.repo ? octokit : await octokitFor(link.repo)
    const now = client === null ? null : await readPullRequest(client, link, clock)
    if (now === null) {
      // Not there, or only no longer shown to us.
      if (link.state === 'open') others.push(link)
      continue
    }
    if (remember(sources, link, now, await rulesOf(link.repo)) === ticket && now.state === 'open') others.push(link)
  }
  let listed: PullRequestData[] & { number: number }[]
  try {
    listed = await octokit.paginate(octokit.rest.pulls.list, { ...parts(self.repo), state: 'open', per_page: 100 })
  } catch (error) {
    throw githubFailure(error, `listing the open pull requests of ${self.repo}`, clock())
  }
  for (const data of listed) {
    const now = asNow(data)
    const pullRequest = { repo: self.repo, number: data.number }
    if (same(pullRequest, self) || now.fromFork || ticketOfPullRequest(now, rules) !== ticket) continue
    if (others.some(one => same(one, pullRequest))) continue
    remember(sources, pullRequest, now, rules)
    others.push(pullRequest)
  }
  return others.map(({ repo, number }) => ({ repo, number }))
}

const permissionOf = async (
  octokit: Octokit,
  repo: string,
  username: string,
  clock: () => number,
): Promise<Facts['comment']['permission']> => {
  try {
    const { data } = await octokit.rest.repos.getCollaboratorPermissionLevel({ ...parts(repo), username })
    const levels: Record<string, Facts['comment']['permission']> = {
      admin: 'admin',
      maintain: 'write',
      write: 'write',
      triage: 'read',
      read: 'read',
    }
    return levels[data.permission] ?? 'none'
  } catch (error) {
    // Somebody who is no collaborator.
    if (statusOf(error) === 404) return 'none'
    throw githubFailure(error, `reading what ${username} may do in ${repo}`, clock())
  }
}

/**
 * Why an action on the commit of a fork must not begin; null when it may. Its pull request is read again: whoever opened it
 * can push to it, and rename it, at any moment.
 */
export const forkMoved = async (
  { octokitFor, rulesOf, clock }: Sources,
  { kind, ticket, onlyAt, replyTo }: Action,
): Promise<Failure | null> => {
  if (onlyAt === undefined || replyTo === null || !('repo' in replyTo)) return null
  const octokit = await octokitFor(replyTo.repo)
  const now = octokit === null ? null : await readPullRequest(octokit, replyTo, clock)
  if (
    now !== null &&
    now.headSha.toLowerCase() === onlyAt &&
    ticketOfPullRequest(now, await rulesOf(replyTo.repo)) === ticket
  )
    return null
  return {
    kind: 'refused',
    message: `${kind} of ${ticket}: ${ref(replyTo)}, from a fork, is no longer as it was when ${onlyAt.slice(0, 10)} was allowed`,
    remedy: 'Look at its new commits and its title, allow its head (/swarm allow <commit>), then ask again.',
  }
}

// ── One function for each kind of event ────────────────────────────────────────────────────────────────────────────

export const pushFacts = ({ memory }: Sources, event: Event<'push'>, { projects }: Rules): Facts['push'] => {
  const ticket = findTicket([event.ref.replace(/^refs\/heads\//, '')], projects)
  return ticket === null
    ? { environment: null, live: false }
    : { environment: memory.environment(ticket), live: memory.takesLiveCheckpoints(ticket) }
}

/** Whether the ticket went on after the pull request had ended: then that belongs to what was before. */
const ticketRestarted = ({ memory }: Sources, ticket: Ticket, { state, closedAt }: PullRequestNow): boolean => {
  const { toNewAt, toProgressAt } = memory.ticket(ticket)
  if (closedAt === null || toProgressAt === null || toProgressAt <= closedAt) return false
  return state === 'closed' || (toNewAt !== null && toNewAt > closedAt && toProgressAt > toNewAt)
}

export const pullRequestFacts = async (
  sources: Sources,
  event: Event<'pull-request'>,
  octokit: Octokit,
  rules: Rules,
): Promise<Facts['pull-request']> => {
  const { memory, clock } = sources
  const { pullRequest } = event
  const now = await readPullRequest(octokit, pullRequest, clock)
  const before = memory.linkOf(pullRequest)
  const ticket = remember(sources, pullRequest, now, rules) ?? before?.ticket ?? ticketOfPullRequest(event, rules)
  const ended = now === null || now.state !== 'open'
  // Anybody may close and open one from a fork, again and again.
  const others =
    ended && now?.fromFork !== true && ticket !== null
      ? await otherOpen(sources, octokit, ticket, pullRequest, rules)
      : []
  if (ticket !== null && now?.state === 'merged' && !now.fromFork && others.length === 0)
    memory.ended(ticket, now.closedAt ?? clock())
  return {
    environment: ticket === null ? null : expectedEnvironment(sources, ticket),
    now,
    stateDecided: before?.settled?.state === now?.state,
    others,
    ticketRestarted: ticket !== null && now !== null && ticketRestarted(sources, ticket, now),
    laterRequest: ticket === null ? null : laterRequest(sources, ticket, ended ? (now?.closedAt ?? null) : event.at),
  }
}

/** Of these teams, those that somebody belongs to; null when the app may not read them. */
const teamsOf = async (
  octokit: Octokit,
  teams: readonly string[],
  username: string,
  clock: () => number,
): Promise<string[] | null> => {
  const theirs: string[] = []
  for (const team of teams) {
    const [org = '', team_slug = ''] = team.split('/')
    try {
      const { data } = await octokit.rest.teams.getMembershipForUserInOrg({ org, team_slug, username })
      if (data.state === 'active') theirs.push(team)
    } catch (error) {
      // No member, or no such team.
      if (statusOf(error) === 404) continue
      const failure = githubFailure(error, `reading whether ${username} is in ${team}`, clock())
      if (failure.failure.kind === 'permission') return null
      throw failure
    }
  }
  return theirs
}

export const commentFacts = async (
  sources: Sources,
  event: Event<'comment'>,
  octokit: Octokit,
  rules: Rules,
): Promise<Facts['comment']> => {
  const { memory, clock } = sources
  const { pullRequest, author } = event
  const lines = commandLines(event.body).slice(0, MAX_COMMANDS)
  const stranger = { permission: 'none', teams: [], now: null, allowed: null, since: NOTHING } as const
  // Most comments are no commands: nothing is asked for them.
  if (event.unfit !== null || event.authorIsBot || lines.length === 0) return stranger
  const permission = await permissionOf(octokit, pullRequest.repo, author, clock)
  if (permission !== 'admin' && permission !== 'write') return { ...stranger, permission }
  const names = lines.flatMap(({ words }) => {
    const read = readCommand(words, 'github')
    return 'name' in read ? [read.name] : []
  })
  const now = await readPullRequest(octokit, pullRequest, clock)
  const ticket = remember(sources, pullRequest, now, rules)
  return {
    permission,
    teams: await teamsOf(octokit, teamsInRules(names, rules), author, clock),
    now,
    allowed: memory.allowed(pullRequest),
    since: sinceThen(sources, ticket, event.at),
  }
}

/**
 * Looks through the watched repositories for a pull request of a ticket that none was seen of: it may have been opened and
 * not told. The newest 100 of each are asked for. False where there is nothing to look through yet: GitHub may have been out
 * of reach since the first start.
 */
const findPullRequest = async (
  { memory, hasGitHub, octokitFor, rulesOf, clock }: Sources,
  ticket: Ticket,
): Promise<boolean> => {
  const watched = memory.watched()
  for (const repo of watched) {
    const octokit = await octokitFor(repo)
    if (octokit === null) continue
    try {
      const { data } = await octokit.rest.pulls.list({
        ...parts(repo),
        ...{ state: 'all', sort: 'updated', direction: 'desc', per_page: 100 },
      })
      const rules = await rulesOf(repo)
      for (const one of data) {
        const now = asNow(one)
        if (!now.fromFork && ticketOfPullRequest(now, rules) === ticket)
          remember({ memory }, { repo, number: one.number }, now, rules)
      }
    } catch (error) {
      const failure = githubFailure(error, `looking for pull requests of ${ticket} in ${repo}`, clock())
      // A repository that we lost says nothing; one that cannot be read now has the delete wait.
      if (!isGitHubFailure(failure) || failure.allows !== 'never') throw failure
    }
  }
  return !hasGitHub || watched.length > 0
}

/** Whether the last of the ticket's pull requests that ended did so after this, without a merge, and none is open. */
const closedSince = ({ memory }: Sources, ticket: Ticket, at: number): boolean => {
  const links = memory.pullRequestsOf(ticket)
  const last = links.toSorted((one, other) => (one.closedAt ?? 0) - (other.closedAt ?? 0)).at(-1)
  return !links.some(one => one.state === 'open') && last?.state === 'closed' && (last.closedAt ?? 0) > at
}

/** `at` is when Jira says that it happened, epoch ms. */
export const ticketFacts = async (
  sources: Sources,
  event: Event<'ticket'>,
  at: number,
  rules: Rules,
): Promise<Facts['ticket']> => {
  const { memory, jira, clock } = sources
  const { ticket } = event
  const known = memory.ticket(ticket)
  const category = event.change === 'deleted' ? 'done' : event.category
  memory.sawCategory(ticket, category, at)
  // To be assigned while it is in progress begins it too.
  if (category === 'indeterminate' || (category === 'new' && event.change === 'status'))
    memory.movedTo(ticket, category, at)
  const issue = jira === null ? null : await jira.issue(ticket).catch((error: unknown) => ({ error }))
  const failed = issue !== null && 'error' in issue
  const outdated = known.category !== null && known.categoryAt !== null && known.categoryAt > at
  // An event counts for a create; a stop or a delete waits until Jira can be asked.
  if (failed && (category !== 'indeterminate' || outdated)) throw issue.error
  // Gone, or only no longer shown to us: the same answer. Without the event of its deletion that is no evidence for one.
  const invisible = issue === null && event.change !== 'deleted'
  const now = failed || invisible ? (outdated ? ('outdated' as const) : ('unreadable' as const)) : issue
  if (now !== null && typeof now !== 'string') memory.sawCategory(ticket, now.category, clock())
  const environment = expectedEnvironment(sources, ticket)
  const over = now === null || (typeof now !== 'string' && now.category === 'done')
  const asks = over && environment !== null && rules.done === null && !known.hadPullRequest
  const looked = !asks || (await findPullRequest(sources, ticket))
  const { endedSinceNew, hadPullRequest } = memory.ticket(ticket)
  return {
    environment,
    previous: event.change === 'moved' ? expectedEnvironment(sources, event.from) : null,
    now,
    endedSinceNew,
    hadPullRequest: hadPullRequest || !looked,
    closedSince: closedSince(sources, ticket, at),
    me: rules.assignees === 'me' && jira !== null ? await jira.me() : null,
    laterRequest: laterRequest(sources, ticket, at),
  }
}

export const ticketCommentFacts = async (
  sources: Sources,
  { ticket, commentId, body, change, at }: Event<'ticket-comment'>,
): Promise<Facts['ticket-comment']> => {
  const { memory, jira } = sources
  const nothing = { now: null, isOwnComment: false, assignee: null, since: NOTHING }
  if (jira === null || jiraCommandLines(body).length === 0) return nothing
  const now = await jira.readComment(ticket, commentId)
  if (now === null) return nothing
  const isOwnComment = memory.isOwnJiraComment(commentId)
  // Whose ticket it is changes nothing for those that are not heard at all.
  const issue = isOwnComment || change === 'edited' || now.edited || now.authorIsApp ? null : await jira.issue(ticket)
  return { now, isOwnComment, assignee: issue?.assignee ?? null, since: sinceThen(sources, ticket, at) }
}
