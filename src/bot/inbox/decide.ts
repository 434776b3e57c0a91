/** A delivery becomes a decision: event, facts, handler, and then actions and messages with ids that a redelivery repeats. */
import {
  type Decision,
  ignored,
  type Judgement,
  type Rules,
  STATE_CHANGING_ACTIONS,
  type SwarmEvent,
} from '../../../handlers/handler.ts'
import { handlers } from '../../../handlers/index.ts'
import { projectOf, type Ticket } from '../../domain.ts'
import type { Action, PullRequestRef } from '../../schema/action.ts'
import type { Delivery, Message, StoredDelivery } from '../../store/port.ts'
import type { AuditLine } from '../../store/sqlite/audit.ts'
import { githubFailure, isGitHubFailure, type Octokit, type Received } from '../github/client.ts'
import { defaultBranchOf, githubEvent, installationOf, repositoryIdOf } from '../github/events.ts'
import { jiraChange, jiraEvent } from '../jira/events.ts'
import { jiraLinkMessage, reactionMessages, replyMessage, statusMessage } from '../publish/messages.ts'
import { isMarked } from '../publish/render.ts'
import {
  commentFacts,
  parts,
  pullRequestFacts,
  pushFacts,
  type Sources,
  ticketCommentFacts,
  ticketFacts,
} from './facts.ts'
import { type Decided, nothing } from './inbox.ts'

type GitHubEvent = Exclude<SwarmEvent, { kind: 'ticket' | 'ticket-comment' }>

/** What a handler wanted to decide later. */
export const LATER = 'later'
/** Its body is an event of ours. */
export const clockDelivery = (ticket: Ticket, event: string, at: number): Delivery => ({
  source: 'clock',
  id: `${ticket}:${at}`,
  event: LATER,
  lane: `clock:${ticket}`,
  body: event,
  receivedAt: at,
})

/** What was so before the bot's first look is told, and not acted on. */
export const FIRST_LOOK = 'first look'
const onlyTold = (decision: Decision, id: string): Decision =>
  decision.verdict === 'act' && decision.actions.length > 0
    ? ignored(
        `would ${decision.actions.map(one => `${one.kind} ${one.ticket}`).join(', ')}; it was so before the first look, and is left alone. To have it done: agent-swarm bot replay ${id}`,
      )
    : decision

export const openDecide = ({
  rulesOfTicket,
  rulesChanged,
  ...sources
}: Sources & {
  rulesOfTicket: (ticket: Ticket) => Promise<Rules>
  /** The default branch of a repository has moved. */
  rulesChanged: (repo: string) => Promise<void>
}) => {
  const { memory, queue, clock, rulesOf } = sources

  /** A delete that an event asked for before this, and that waits for its runner, is no longer wanted: it would take the work along. */
  const keep = ({ ticket, kind, at = '' }: Action): void => {
    if (kind === 'delete') return
    for (const { id, action } of queue.list({ ticket, state: 'pending' }))
      if (action.kind === 'delete' && action.replyTo === null && (action.at ?? '') < at) queue.cancel(id)
  }

  /**
   * The decision with its ids; what people asked for, and what was refused, is remembered. `about` names what is decided on:
   * actions of the same have the same ids, and are queued once. `at`: when that happened, epoch ms. `place`: where it was
   * asked; `ticket`: the one of that place, as far as it is known. `person`: it is a command.
   */
  const settled = (
    decision: Decision,
    {
      about,
      correlation,
      at,
      place,
      ticket,
      person,
    }: { about: string; correlation: string; at: number; place: string; ticket: Ticket | null; person: boolean },
  ): Decided => {
    if (decision.verdict === 'ignored') return nothing(decision.reason)
    if (decision.verdict === 'later') {
      memory.plan(decision.ticket, decision.event, clock() + decision.minutes * 60_000)
      return {
        verdict: { verdict: 'actions', reason: decision.reason },
        actions: [],
        messages: [statusMessage(decision.ticket)],
      }
    }
    const now = clock()
    const noted = (
      { by, what, reason, ticket: told }: Judgement,
      verdict: AuditLine['verdict'],
      n: number,
    ): boolean => {
      const line = { at: now, who: by.who ?? 'nobody', place, ticket: told ?? ticket, what, verdict, reason }
      return memory.noteAudit(`${about}:${verdict}:${n}`, line)
    }
    memory.together(() => {
      for (const [n, refusal] of decision.refusals.entries()) {
        const { ticket, by, what, reason } = refusal
        if (noted(refusal, 'refused', n) && ticket !== null)
          memory.noteOperation(ticket, { what, by, at: now, result: 'refused', said: reason, seconds: null })
      }
      if (decision.verdict === 'act') for (const [n, one] of decision.granted.entries()) noted(one, 'allowed', n)
    })
    if (decision.verdict === 'refused')
      return { verdict: { verdict: 'refused', reason: decision.reason }, actions: [], messages: [] }
    const { replies, allow } = decision
    const actions = decision.actions.map((action, index) => ({
      id: `${about}:${index}`,
      correlation,
      // Its runner may know of something later that we have not heard of.
      action: STATE_CHANGING_ACTIONS.includes(action.kind) ? { ...action, at: new Date(at).toISOString() } : action,
    }))
    const asked = actions.find(one => one.action.replyTo !== null)?.action.replyTo ?? null
    // A delivery holds one comment at most.
    const to = asked ?? replies[0]?.to ?? null
    const kept = new Set<Ticket>()
    memory.together(() => {
      for (const { id: actionId, action } of actions) {
        memory.noteAsked(actionId, action, { at, person })
        // What a person asks for now holds against what was planned before; so does whatever starts the machine.
        const holds =
          action.kind === 'create' ||
          action.kind === 'start' ||
          (person && STATE_CHANGING_ACTIONS.includes(action.kind))
        if (holds) keep(action)
        const callsOff = holds && memory.unplan(action.ticket)
        if (callsOff) kept.add(action.ticket)
        const told = callsOff ? { ...action, callsOff } : action
        if (action.replyTo !== null) memory.heardCommand(action.replyTo, { actionId, action: told })
      }
      for (const { to, ...said } of replies) memory.heardCommand(to, said)
      if (allow !== null && to !== null && 'repo' in to) memory.allow(to, allow)
    })
    const ended = replies.every(one => one.ok) ? ('rocket' as const) : ('confused' as const)
    const refusedOf = new Set(decision.refusals.flatMap(one => one.ticket ?? []))
    return {
      verdict: { verdict: 'actions', reason: actions.length === 0 ? 'nothing to do but to answer' : null },
      actions,
      messages: [
        ...[...kept].map(statusMessage),
        ...(to === null ? [] : reactionMessages(to, asked === null ? ended : 'eyes')),
        // Where something is done, the reply tells it when it is done, or when it takes its time. Without a reaction, it says
        // at once that it was heard.
        ...(to === null || (asked !== null && 'repo' in to) ? [] : [replyMessage(to)]),
        ...[...refusedOf].filter(ticket => memory.environment(ticket) !== null).map(statusMessage),
      ],
    }
  }

  /** `at`: when what is decided on happened, epoch ms; not later than now, or it would make every later event look old. */
  const decisionOn = async (event: GitHubEvent, octokit: Octokit): Promise<{ decision: Decision; at: number }> => {
    const rules = await rulesOf('repo' in event ? event.repo : event.pullRequest.repo)
    const past = (at: number | null) => Math.min(at ?? clock(), clock())
    if (event.kind === 'push')
      return { decision: handlers.push(event, pushFacts(sources, event, rules), rules), at: clock() }
    if (event.kind === 'comment') {
      const facts = await commentFacts(sources, event, octokit, rules)
      return { decision: handlers.comment(event, facts, rules), at: past(event.at) }
    }
    const facts = await pullRequestFacts(sources, event, octokit, rules)
    if (facts.now !== null) {
      const { state } = facts.now
      const tells = state === 'open' ? ['opened', 'reopened'] : ['closed', 'grace over']
      // What another event only saw is still to be told: nothing came of it.
      if (tells.includes(event.change) || memory.linkOf(event.pullRequest)?.settled?.state === state)
        memory.settlePullRequest(event.pullRequest, state)
    }
    return { decision: handlers['pull-request'](event, facts, rules), at: past(facts.now?.closedAt ?? event.at) }
  }

  /** A pull request that comes to an environment gets its status, and the ticket a link to it. */
  const shownOn = (pullRequest: PullRequestRef): Message[] => {
    const link = memory.linkOf(pullRequest)
    const known = link === null ? null : memory.mirrored(link.ticket)
    if (link === null || known === null) return []
    return [
      ...(known.goneAt === null ? [statusMessage(link.ticket)] : []),
      ...(sources.jira === null ? [] : [jiraLinkMessage(pullRequest, link.ticket)]),
    ]
  }

  /** With a personal token, a person and the bot write under one name. */
  const isOurs = (event: GitHubEvent) =>
    event.kind === 'comment' && (isMarked(event.body) || memory.isOwnComment(event.pullRequest.repo, event.commentId))

  /** A delivery may come late, and name what is called otherwise by now: what GitHub says at this moment counts. */
  const learnName = async (repo: string, id: number | null, octokit: Octokit): Promise<void> => {
    if (id === null || memory.isNamed(id, repo)) return
    try {
      const { data } = await octokit.rest.repos.get(parts(repo))
      memory.nameRepository(data.id, data.full_name)
    } catch (error) {
      const failure = githubFailure(error, `asking how ${repo} is called`, clock())
      if (!isGitHubFailure(failure) || failure.allows !== 'never') throw failure
    }
  }

  const github = async ({ id, name, payload, octokit }: Received): Promise<Decided> => {
    const read = githubEvent(name, payload)
    if ('ignored' in read) return nothing(read.ignored)
    const event = isOurs(read.event) ? { ...read.event, unfit: 'a comment of ours gives no commands' } : read.event
    const repo = 'repo' in event ? event.repo : event.pullRequest.repo
    await learnName(repo, repositoryIdOf(payload), octokit)
    const installation = installationOf(payload)
    if (installation !== null) memory.setInstallation(repo, installation)
    if (event.kind === 'push' && event.ref === `refs/heads/${defaultBranchOf(payload)}`) await rulesChanged(event.repo)
    const isComment = event.kind === 'comment'
    const { decision, at } = await decisionOn(event, octokit)
    const decided = settled(decision, {
      // A comment may be told of by a webhook and by a poll; what became of it later is something else.
      about: isComment && event.unfit === null ? `github:comment:${event.commentId}` : `github:${id}`,
      correlation: id,
      place: event.kind === 'push' ? event.repo : `${event.pullRequest.repo}#${event.pullRequest.number}`,
      ticket: event.kind === 'push' ? null : (memory.linkOf(event.pullRequest)?.ticket ?? null),
      at,
      person: isComment,
    })
    return {
      ...decided,
      messages: [...decided.messages, ...('pullRequest' in event ? shownOn(event.pullRequest) : [])],
    }
  }

  const jira = async ({ id, event: name, body, receivedAt, since }: StoredDelivery): Promise<Decided> => {
    const payload: unknown = JSON.parse(body)
    const read = jiraEvent(payload)
    if ('ignored' in read) return nothing(read.ignored)
    const { event } = read
    const rules = await rulesOfTicket(event.ticket)
    // Nothing is asked or remembered of projects that are not ours.
    if (!rules.projects.includes(projectOf(event.ticket)))
      return nothing(`${projectOf(event.ticket)} is no project of ours`)
    const change = jiraChange(payload)
    const teller = change === null ? null : memory.toldBy(change)
    if (teller !== null && teller !== id) return nothing('another delivery told of this change')
    // A clock that is ahead would make every later event look old.
    const at = Math.min(event.at ?? receivedAt, clock())
    if (event.kind === 'ticket-comment') {
      const facts = await ticketCommentFacts(sources, event)
      if (change !== null) memory.noteChange(change, id)
      return settled(handlers['ticket-comment'](event, facts, rules), {
        about: `jira:${change ?? id}`,
        correlation: id,
        at,
        place: event.ticket,
        ticket: event.ticket,
        person: true,
      })
    }
    const facts = await ticketFacts(sources, event, at, rules)
    const { now } = facts
    memory.together(() => {
      if (change !== null) memory.noteChange(change, id)
      if (now === null || now === 'outdated') return
      const found = now === 'unreadable' ? event : now
      // An assignment asks for nothing elsewhere: the move that led there is still to be told.
      if (event.change !== 'assignee' || found.category === 'indeterminate') memory.settleTicket(event.ticket, found)
    })
    const decision = handlers.ticket(event, facts, rules)
    // An operator who has it decided again wants what it asks for.
    const replayed = since > receivedAt
    return settled(name === FIRST_LOOK && !replayed ? onlyTold(decision, id) : decision, {
      about: `jira:${id}`,
      correlation: id,
      at,
      place: event.ticket,
      ticket: event.ticket,
      person: false,
    })
  }

  const later = async ({ id, body }: StoredDelivery): Promise<Decided> => {
    const event = JSON.parse(body) as GitHubEvent
    const octokit = await sources.octokitFor('repo' in event ? event.repo : event.pullRequest.repo)
    if (octokit === null) return nothing('its repository can no longer be asked')
    const { decision, at } = await decisionOn(event, octokit)
    return settled(decision, {
      about: `clock:${id}`,
      correlation: id,
      at,
      place: 'the clock',
      ticket: null,
      person: false,
    })
  }

  return { github, jira, later }
}
