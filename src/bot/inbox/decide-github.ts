import { possibleCommands } from '../../../handlers/command-lines.ts'
import {
  type Decision,
  type EventOf,
  type Facts,
  ignored,
  type PullRequestEvent,
  type Rules,
  UNFIT_OWN,
} from '../../../handlers/handler.ts'
import { handlers } from '../../../handlers/index.ts'
import { ticketOfBranch } from '../../branches.ts'
import { ownerOf } from '../../config/serving.ts'
import { ticketOf, withTicket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import { jiraLinkMessage, statusMessage } from '../../store/messages.ts'
import type { Effect, Message, Settlement, StoredDelivery } from '../../store/port.ts'
import { type GitHub, githubFailure, type Octokit, parts } from '../github/client.ts'
import { type GitHubDelivery, type GitHubEvent, parseGitHub } from '../github/events.ts'
import { nameOf } from '../github/pull-request.ts'
import { isMarked } from '../markers.ts'
import { presentTicket } from '../present-ticket.ts'
import { isFinal } from '../remote-failure.ts'
import { aboutChecks, aboutReview, checksFacts, reviewFacts } from './agent-facts.ts'
import { parseScheduled } from './clock.ts'
import { commentFacts, pullRequestFacts, pushFacts } from './github-facts.ts'
import { askingUntil, type FactsContext } from './known.ts'
import { branchOrNull, newMachineFacts } from './new-machine.ts'
import { ignoredSettlement, refusedSettlement, settlementOf } from './settlement.ts'

export type GitHubContext = FactsContext & {
  /** Null when GitHub is not configured. */
  github: Pick<GitHub, 'receive'> | null
  /** The default branch of a repository has moved. */
  rulesChanged: (repo: string) => Promise<void>
  /** Whether a repository may act at all. */
  isListed: (repo: string) => Promise<boolean>
  /** Whether repositories of this owner may. */
  isOwnerListed: (owner: string) => boolean
}
/** `at`: when it happened, epoch ms. */
type Decided = { decision: Decision; at: number; effects: Effect[] }

const repositoryOf = (event: GitHubEvent): string => ('repo' in event ? event.repo : event.pullRequest.repo)

const decidePullRequest = async (
  context: GitHubContext,
  event: PullRequestEvent,
  octokit: Octokit,
  rules: Rules,
  askUntil: number,
): Promise<Pick<Decided, 'decision' | 'effects'> & { at: number | null }> => {
  const facts = await pullRequestFacts(context, event, octokit, rules, askUntil)
  const decision = handlers['pull-request'](event, facts, rules)
  const at = facts.now?.closedAt ?? event.at
  const state = facts.now?.state
  if (state === undefined) return { decision, at, effects: [] }
  const about = state === 'open' ? ['opened', 'reopened'] : ['closed', 'grace over']
  // An event about something else that saw the state did not act on it: the event about the state still must.
  const { pullRequest } = event
  const effects: Effect[] = [
    ...(about.includes(event.change) || facts.stateDecided
      ? [{ kind: 'pull-request-decided', pullRequest, state } as const]
      : []),
    ...(state === 'open' ? [{ kind: 'pull-request-ready', pullRequest, ready: !facts.now?.isDraft } as const] : []),
  ]
  return { decision, at, effects }
}

/** A comment that creates a machine is decided once more, with what that needs to know. */
const decideComment = async (
  context: GitHubContext,
  event: EventOf<'comment'>,
  facts: Facts['comment'],
  rules: Rules,
  askUntil: number,
): Promise<Decision> => {
  const decision = handlers.comment(event, facts, rules)
  const create = decision.verdict === 'act' ? decision.actions.find(({ kind }) => kind === 'create') : undefined
  if (create === undefined || facts.now === null) return decision
  const { state, branch, fromFork } = facts.now
  const here = {
    repo: event.pullRequest.repo,
    branch: state === 'open' && !fromFork ? branchOrNull(branch) : null,
    fromFork,
  }
  const newMachine = await newMachineFacts(context, { ticket: ticketOf(create.ticket), rules, here, askUntil })
  return handlers.comment(event, { ...facts, newMachine }, rules)
}

/** The decision, about the present keys of tickets. */
const presentDecision = async (context: GitHubContext, decision: Decision, rules: Rules): Promise<Decision> => {
  if (decision.verdict !== 'act' && decision.verdict !== 'later') return decision
  // A delivery of GitHub is about one ticket.
  const about =
    decision.verdict === 'later'
      ? decision.ticket
      : ([...decision.actions, ...decision.granted, ...decision.refusals, ...decision.announcements].find(
          ({ ticket }) => ticket !== null,
        )?.ticket ?? null)
  const named = about === null ? null : ticketOf(about)
  const present = await presentTicket(context, named, rules)
  if (named === null || named === present) return decision
  if (present === null) return ignored(`${named} was moved to a project that is not served here`)
  const announcements = decision.announcements?.map(announcement => ({ ...announcement, ticket: present })) ?? []
  if (decision.verdict === 'later') return { ...decision, ticket: present, announcements }
  const judged = <Judged extends { ticket: string | null }>(all: Judged[]) =>
    all.map(judgement =>
      judgement.ticket === null || ticketOf(judgement.ticket) !== named
        ? judgement
        : { ...judgement, ticket: withTicket(judgement.ticket, present) },
    )
  return {
    ...decision,
    actions: decision.actions.map(action => ({ ...action, ticket: withTicket(action.ticket, present) })),
    announcements,
    ...{ granted: judged(decision.granted), refusals: judged(decision.refusals) },
  }
}

/** A new machine of the ticket gets the repository that has its branch. */
const rememberBranch = async (
  { store }: GitHubContext,
  { repo, ref, after, deleted }: EventOf<'push'>,
  rules: Rules,
): Promise<void> => {
  const [, branch = null] = ref.match(/^refs\/heads\/(.*)$/s) ?? []
  if (branch !== null && !deleted && ticketOfBranch(branch, rules) !== null)
    await store.repositories.setHead(repo, ref, after)
}

/** `askUntil`: until then (epoch ms), what GitHub does not show yet is read again. */
const decideEvent = async (
  context: GitHubContext,
  event: GitHubEvent,
  octokit: Octokit,
  { askUntil, receivedAt }: { askUntil: number; receivedAt: number },
): Promise<Decided> => {
  const rules = await context.rulesOf(repositoryOf(event))
  // Not later than now, or it would make every later event look old.
  const past = (at: number | null) => Math.min(at ?? context.clock(), context.clock())
  const present = (decision: Decision) => presentDecision(context, decision, rules)
  if (event.kind === 'push') {
    await rememberBranch(context, event, rules)
    const decision = handlers.push(event, await pushFacts(context, event, rules), rules)
    return { decision: await present(decision), at: past(event.at ?? receivedAt), effects: [] }
  }
  if (event.kind === 'comment') {
    const facts = await commentFacts(context, event, octokit, rules, askUntil)
    const decision = await decideComment(context, event, facts, rules, askUntil)
    return { decision: await present(decision), at: past(event.at), effects: [] }
  }
  if (event.kind === 'review') {
    const decision = handlers.review(event, await reviewFacts(context, event, octokit, rules), rules)
    return { decision: await present(decision), at: past(event.at), effects: [] }
  }
  if (event.kind === 'checks') {
    const decision = handlers.checks(event, await checksFacts(context, event, octokit, rules), rules)
    return { decision: await present(decision), at: past(event.at), effects: [] }
  }
  const { decision, at, effects } = await decidePullRequest(context, event, octokit, rules, askUntil)
  return { decision: await present(decision), at: past(at), effects }
}

/** A pull request that belongs to an environment gets its status comment, and the ticket a link to it. */
const pullRequestMessages = async ({ store, jira }: GitHubContext, pullRequest: PullRequestRef): Promise<Message[]> => {
  const link = await store.pullRequests.get(pullRequest)
  const known = link === null ? null : await store.runners.environment(link.ticket)
  if (link === null || known === null) return []
  return [
    ...(known.goneAt === null ? [statusMessage(link.ticket)] : []),
    ...(jira === null ? [] : [jiraLinkMessage(pullRequest, link.ticket)]),
  ]
}

/** Comments of the bot give no commands. With a personal token, a person and the bot write under one name. */
const withoutOwnCommands = async ({ store }: GitHubContext, event: GitHubEvent): Promise<GitHubEvent> => {
  if (event.kind !== 'comment') return event
  const { repo } = event.pullRequest
  const isOwn = isMarked(event.body) || (await store.comments.isOwn({ side: 'github', repo, id: event.commentId }))
  return isOwn ? { ...event, unfit: UNFIT_OWN } : event
}

/** A late delivery may use a previous name of its repository: the name at this moment counts. */
const learnName = async (
  { store, isListed, clock }: GitHubContext,
  { name, id }: GitHubDelivery['repository'],
  octokit: Octokit,
): Promise<void> => {
  const known = id === null ? null : await store.repositories.nameOf(id)
  // One that we never met and that may not act costs no request.
  if (id === null || known === name || (known === null && !(await isListed(name)))) return
  try {
    const { data } = await octokit.rest.repos.get(parts(name))
    await store.repositories.rename(data.id, data.full_name)
  } catch (error) {
    const failure = githubFailure(error, `reading the name of ${name}`, clock())
    if (!isFinal(failure)) throw failure
  }
}

/** What is decided twice under one name takes effect once. A webhook and a poll may both report a comment, a review or checks. */
const aboutOf = (event: GitHubEvent, id: string): string => {
  // What happened to the comment later is something else.
  if (event.kind === 'comment' && event.unfit === null) return `github:comment:${event.commentId}`
  if (event.kind === 'review') return aboutReview(event)
  return event.kind === 'checks' ? aboutChecks(event) : `github:${id}`
}

const decideDelivery = async (
  context: GitHubContext,
  { id, receivedAt, dueSince }: Pick<StoredDelivery, 'id' | 'receivedAt' | 'dueSince'>,
  delivery: GitHubDelivery,
  octokit: Octokit,
): Promise<Settlement> => {
  const { store, rulesChanged, isListed, clock } = context
  const { repository, installation } = delivery
  await learnName(context, repository, octokit)
  if (!(await isListed(repository.name)))
    return ignoredSettlement(`${repository.name} is not listed in GITHUB_REPOSITORIES`)
  const event = await withoutOwnCommands(context, delivery.event)
  if (installation !== null) await store.repositories.setInstallation(repository.name, installation)
  if (event.kind === 'push' && event.ref === `refs/heads/${repository.defaultBranch}`) await rulesChanged(event.repo)
  const askUntil = askingUntil(dueSince, clock())
  const { decision, at, effects } = await decideEvent(context, event, octokit, { askUntil, receivedAt })
  const pullRequest = 'pullRequest' in event ? event.pullRequest : null
  const link = pullRequest === null ? null : await store.pullRequests.get(pullRequest)
  const isComment = event.kind === 'comment'
  const settlement = await settlementOf(
    store,
    decision,
    {
      about: aboutOf(event, id),
      ...{ correlation: id, at, isReplay: dueSince > receivedAt, ticket: link?.ticket ?? null },
      place: pullRequest === null ? repository.name : nameOf(pullRequest),
      comment: isComment
        ? {
            ref: { ...event.pullRequest, commentId: event.commentId },
            by: { via: 'github', who: event.author, cause: 'command' },
          }
        : null,
    },
    clock(),
  )
  // A comment or a review changes what is shown only when it is by somebody who may.
  const isNews = pullRequest !== null && (event.kind === 'pull-request' || settlement.verdict === 'actions')
  const shown = isNews ? await pullRequestMessages(context, pullRequest) : []
  return {
    ...settlement,
    messages: [...settlement.messages, ...shown],
    effects: [...effects, ...settlement.effects],
  }
}

export const decideGitHub = async (context: GitHubContext, stored: StoredDelivery): Promise<Settlement> => {
  const { id, event: name, body } = stored
  if (context.github === null) throw fail('not-configured', 'deciding a delivery: GitHub is not configured')
  const payload: unknown = JSON.parse(body)
  const delivery = parseGitHub(name, payload)
  if ('ignored' in delivery) return ignoredSettlement(delivery.ignored)
  const { event, installation, repository } = delivery
  // Talk, which anybody may write, costs neither a request nor a look into the store.
  if (event.kind === 'comment' && possibleCommands(event.body).length === 0)
    return ignoredSettlement('no command in the comment')
  const owner = ownerOf(repository.name)
  if (!context.isOwnerListed(owner)) return refusedSettlement(`GITHUB_REPOSITORIES lists nothing of ${owner}`)
  const settlement = await context.github.receive({ id, name, payload, installation }, octokit =>
    decideDelivery(context, stored, delivery, octokit),
  )
  return settlement ?? ignoredSettlement('it names no installation of the App')
}

export const decideScheduled = async (
  context: GitHubContext,
  { id, body, receivedAt, dueSince }: Pick<StoredDelivery, 'id' | 'body' | 'receivedAt' | 'dueSince'>,
): Promise<Settlement> => {
  const event = parseScheduled(body)
  const octokit = await context.octokitFor(event.pullRequest.repo)
  if (octokit === null) return ignoredSettlement(`${event.pullRequest.repo} can no longer be read`)
  const { decision, at, effects } = await decideEvent(context, event, octokit, { askUntil: 0, receivedAt })
  const occasion = {
    about: `clock:${id}`,
    ...{ correlation: id, at, isReplay: dueSince > receivedAt, place: 'clock', ticket: null, comment: null },
  }
  const settlement = await settlementOf(context.store, decision, occasion, context.clock())
  return { ...settlement, effects: [...effects, ...settlement.effects] }
}
