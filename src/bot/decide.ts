/** A delivery becomes a decision: event, facts, handler, and then actions and messages with ids that a redelivery repeats. */
import type { Decision, Rules, SwarmEvent } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { type Action, projectOf, type Ticket } from '../domain.ts'
import type { Delivery, StoredDelivery } from '../queue/queue.ts'
import { commentFacts, pullRequestFacts, pushFacts, type Sources, ticketFacts } from './facts.ts'
import type { Octokit, Received } from './github.ts'
import { githubEvent, installationOf } from './github-events.ts'
import type { Decided } from './inbox.ts'
import { jiraChange, jiraEvent } from './jira-events.ts'
import { reactionMessage, replyMessage, statusMessage } from './messages.ts'
import { isMarked } from './render.ts'

type GitHubEvent = Exclude<SwarmEvent, { kind: 'ticket' }>

const nothing = (reason: string): Decided => ({ verdict: { verdict: 'ignored', reason }, actions: [], messages: [] })

/** Its body is an event of ours: what a handler wanted to decide later. */
export const clockDelivery = (ticket: Ticket, event: string, at: number): Delivery => ({
  source: 'clock',
  id: `${ticket}:${at}`,
  event: 'later',
  lane: `clock:${ticket}`,
  body: event,
  receivedAt: at,
})

export const openDecide = ({
  rulesOfTicket,
  ...sources
}: Sources & { rulesOfTicket: (ticket: Ticket) => Promise<Rules> }) => {
  const { memory, queue, clock, rulesOf } = sources

  /** Whether somebody would wonder why nothing happens. */
  const waits = ({ ticket }: Action) =>
    !memory.runners().some(one => one.connected) ||
    queue.list({ ticket }).some(row => row.state === 'pending' || row.state === 'active')

  /**
   * The decision with its ids; what people asked for is remembered. `about` names what is decided on: actions of the same
   * have the same ids, and are queued once. `person`: it is a command, given then (epoch ms).
   */
  const settled = (
    decision: Decision,
    { about, correlation, person = null }: { about: string; correlation: string; person?: { at: number } | null },
  ): Decided => {
    if (decision.verdict === 'later') {
      memory.plan(decision.ticket, decision.event, clock() + decision.minutes * 60_000)
      return {
        verdict: { verdict: 'actions', reason: decision.reason },
        actions: [],
        messages: [statusMessage(decision.ticket)],
      }
    }
    if (decision.verdict !== 'act')
      return { verdict: { verdict: decision.verdict, reason: decision.reason }, actions: [], messages: [] }
    const { replies } = decision
    const actions = decision.actions.map((action, index) => ({
      id: `${about}:${index}`,
      correlation,
      action,
    }))
    memory.together(() => {
      for (const { id: actionId, action } of actions) {
        memory.noteAsked(actionId, action, person)
        // Who starts a machine wants to keep it.
        if (action.kind === 'create' || action.kind === 'start') memory.unplan(action.ticket)
        if (action.replyTo !== null) memory.heardCommand(action.replyTo, { actionId, action })
      }
      for (const { to, text, ok } of replies) memory.heardCommand(to, { said: text, ok })
    })
    // A delivery holds one comment at most.
    const asked = actions.find(one => one.action.replyTo !== null)?.action.replyTo ?? null
    const to = asked ?? replies[0]?.to ?? null
    const ended = replies.every(one => one.ok) ? ('rocket' as const) : ('confused' as const)
    return {
      verdict: { verdict: 'actions', reason: actions.length === 0 ? 'nothing to do but to answer' : null },
      actions,
      messages:
        to === null
          ? []
          : [
              reactionMessage(to, asked === null ? ended : 'eyes'),
              ...(replies.length > 0 || actions.some(one => waits(one.action)) ? [replyMessage(to)] : []),
            ],
    }
  }

  const decisionOn = async (event: GitHubEvent, octokit: Octokit): Promise<Decision> => {
    const rules = await rulesOf('repo' in event ? event.repo : event.pullRequest.repo)
    if (event.kind === 'push') return handlers.push(event, pushFacts(sources, event, rules), rules)
    if (event.kind === 'comment')
      return handlers.comment(event, await commentFacts(sources, event, octokit, rules), rules)
    const facts = await pullRequestFacts(sources, event, octokit, rules)
    if (facts.now !== null) memory.settlePullRequest(event.pullRequest, facts.now.state)
    return handlers['pull-request'](event, facts, rules)
  }

  const github = async ({ id, name, payload, octokit }: Received): Promise<Decided> => {
    const read = githubEvent(name, payload)
    if ('ignored' in read) return nothing(read.ignored)
    const { event } = read
    const installation = installationOf(payload)
    if (installation !== null)
      memory.setInstallation('repo' in event ? event.repo : event.pullRequest.repo, installation)
    const isComment = event.kind === 'comment'
    // With a personal token, a person and the bot write under one name.
    if (isComment && (isMarked(event.body) || memory.isOwnComment(event.pullRequest.repo, event.commentId)))
      return nothing('a comment of ours')
    const decided = settled(await decisionOn(event, octokit), {
      // A comment may be told of by a webhook and by a poll.
      about: isComment ? `github:comment:${event.commentId}` : `github:${id}`,
      correlation: id,
      person: isComment ? { at: event.at ?? clock() } : null,
    })
    const ticket = 'pullRequest' in event ? memory.linkOf(event.pullRequest)?.ticket : undefined
    // A pull request that comes to an environment gets its status.
    const status = ticket !== undefined && memory.environment(ticket) !== null ? [statusMessage(ticket)] : []
    return { ...decided, messages: [...decided.messages, ...status] }
  }

  const jira = async ({ id, body, receivedAt }: StoredDelivery): Promise<Decided> => {
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
    const facts = await ticketFacts(sources, event, at, rules.assignees === 'me')
    memory.together(() => {
      if (change !== null) memory.noteChange(change, id)
      if (facts.now !== null) memory.settleTicket(event.ticket, facts.now === 'unread' ? event : facts.now)
    })
    return settled(handlers.ticket(event, facts, rules), { about: `jira:${id}`, correlation: id })
  }

  const later = async ({ id, body }: StoredDelivery): Promise<Decided> => {
    const event = JSON.parse(body) as GitHubEvent
    const octokit = await sources.octokitFor('repo' in event ? event.repo : event.pullRequest.repo)
    if (octokit === null) return nothing('its repository can no longer be asked')
    return settled(await decisionOn(event, octokit), { about: `clock:${id}`, correlation: id })
  }

  return { github, jira, later }
}
