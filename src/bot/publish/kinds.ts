/** Publishes one message: a function for each kind. True: something was written. */
import type { Log } from '../../log.ts'
import { type CommentRef, threadOf } from '../../schema/action.ts'
import { type MessageBody, OUTDATED } from '../../store/port.ts'
import type { GitHub } from '../github/client.ts'
import type { Jira } from '../jira/client.ts'
import { replyMarker, roundsMarker, statusMarker } from '../markers.ts'
import { presentEnvironment } from '../present-environment.ts'
import { publishAgentEnd } from './agent-end.ts'
import { roundsOver } from './agent-words.ts'
import { githubComment, react } from './github-side.ts'
import { jiraNote, linkId, waitingNote } from './jira-notes.ts'
import { jiraLink, jiraNoteComment, jiraReply, jiraWaiting, linkKey } from './jira-side.ts'
import { publishMove } from './move-ticket.ts'
import { publishPullRequest } from './open-pull-request.ts'
import { outdatedBy, publishOutdated } from './outdated.ts'
import { type OwnCommentSide, upsert } from './own-comment.ts'
import { unlinkedComment } from './status-comment.ts'
import { tooSoon, troubleOf, unpublishable } from './trouble.ts'
import { replyOfComment, statusOfTicket, type Views, waitOf } from './views.ts'
import type { Rendered } from './words.ts'

/** Between two edits of one reply: each is a request for GitHub, and flicker for readers. */
const EDIT_EVERY_MS = 5_000

export type PublishContext = Views & {
  /** Null: this side is not configured. */
  github: GitHub | null
  jira: Jira | null
  /** The clients show what they would publish. */
  dryRun?: boolean
  /** When a reply was last written, by thread. */
  edited: Map<string, number>
  log: Log
}
type Body<Kind extends MessageBody['kind']> = Extract<MessageBody, { kind: Kind }>

/** What changes while a comment is on its way is published too. */
const untilTrue = async (publishOnce: () => Promise<boolean>): Promise<boolean> => {
  let wrote = false
  while (await publishOnce()) wrote = true
  return wrote
}

const jiraOf = ({ jira }: PublishContext): Jira => {
  if (jira === null) throw unpublishable('Jira is not configured')
  return jira
}

const replySide = (context: PublishContext, comment: CommentRef, finished: boolean): OwnCommentSide<Rendered> => {
  if (!('repo' in comment)) return jiraReply(jiraOf(context), { ...comment, finished })
  const { repo, number, commentId } = comment
  const marker = replyMarker(commentId)
  return githubComment(context.github, { kind: 'reply', repo, number, about: String(commentId), marker }, true)
}
/** Throws when the reply was written a moment ago. A clock that was set back does not hold it up. */
const pace = ({ edited, clock }: PublishContext, thread: string): void => {
  for (const [other, at] of edited) if (at + EDIT_EVERY_MS <= clock()) edited.delete(other)
  const wait = (edited.get(thread) ?? 0) + EDIT_EVERY_MS - clock()
  if (wait > 0 && wait <= EDIT_EVERY_MS) throw tooSoon(wait)
}
const publishReply = async (context: PublishContext, comment: CommentRef): Promise<boolean> => {
  let isFinished = false
  const wrote = await untilTrue(async () => {
    const { store, edited, clock } = context
    const reply = await replyOfComment(context, comment)
    if (reply === null) return false
    const side = replySide(context, comment, reply.finished)
    isFinished = reply.finished
    const known = await store.comments.get(side.key)
    if (known?.fingerprint === reply.text.fingerprint || known?.fingerprint === OUTDATED) return false
    pace(context, threadOf(comment))
    const wrote = await upsert(store.comments, side, reply.text)
    if (wrote) edited.set(threadOf(comment), clock())
    return wrote
  })
  // Also when it was written by an attempt before this one, which did not get so far.
  if (isFinished && 'repo' in comment) await context.store.outbox.put(await outdatedBy(context.store, comment))
  return wrote
}

const publishStatus = async (context: PublishContext, ticket: string): Promise<boolean> => {
  const { store, github, clock, log } = context
  const failed = new Set<string>()
  let retry: { error: unknown } | null = null
  const wrote = await untilTrue(async () => {
    let isWritten = false
    for (const { repo, number, branch } of await store.pullRequests.ofTicket(ticket)) {
      const pullRequest = `${repo}#${number}`
      const status = failed.has(pullRequest) ? null : await statusOfTicket(context, ticket, { repo, branch })
      if (status === null) continue
      const comment = { kind: 'status', repo, number, about: ticket, marker: statusMarker(ticket) } as const
      try {
        // Where a machine was never shown, its end is not posted either.
        const side = githubComment(github, comment, status.exists)
        isWritten = (await upsert(store.comments, side, status.text)) || isWritten
      } catch (error) {
        // The ticket's other pull requests get theirs.
        failed.add(pullRequest)
        const trouble = troubleOf(error, clock())
        if (trouble.allows !== 'never') retry = { error }
        else log.warn({ repo, number, ticket }, `a status comment is left out: ${trouble.failure.message}`)
      }
    }
    return isWritten
  })
  if (retry !== null) throw (retry as { error: unknown }).error
  return wrote
}

/** The status comment on a pull request that went to another ticket, or to none. A new one is not posted. */
const publishUnlinked = async (
  { store, github }: PublishContext,
  { ticket, pullRequest }: Body<'unlinked'>,
): Promise<boolean> => {
  if ((await store.pullRequests.get(pullRequest))?.ticket === ticket) return false
  const comment = { kind: 'status', ...pullRequest, about: ticket, marker: statusMarker(ticket) } as const
  return upsert(store.comments, githubComment(github, comment, false), unlinkedComment(ticket))
}

const publishNote = async (context: PublishContext, { ticket, about, note }: Body<'jira-note'>): Promise<boolean> => {
  // Jira gets a note about a delete by hand, where it is configured.
  if (context.jira === null) return false
  // It may have got one while the comment was on its way.
  if (note.kind === 'no-machine' && (await presentEnvironment(context.store, ticket)) !== null) return false
  const text = jiraNote(ticket, note)
  const side = jiraNoteComment(jiraOf(context), ticket, about, text)
  // A note is not repeated when it would read differently today.
  if (((await context.store.comments.get(side.key))?.id ?? null) !== null) return false
  return upsert(context.store.comments, side, text)
}

/** Posted while the action waits, and edited when that is over. */
const publishWaiting = (context: PublishContext, { ticket, action }: Body<'jira-waiting'>): Promise<boolean> =>
  untilTrue(async () => {
    const { store } = context
    const row = await store.queue.get(action)
    const wait = await waitOf(context, action)
    if (row === null) return false
    const side = jiraWaiting(jiraOf(context), ticket, row, wait === null)
    // What waits no longer is not news to whoever was not told that it waited.
    if (wait === null && ((await store.comments.get(side.key))?.id ?? null) === null) return false
    return upsert(store.comments, side, waitingNote(row, wait))
  })

const publishLink = (context: PublishContext, { ticket, pullRequest }: Body<'jira-link'>): Promise<boolean> =>
  untilTrue(async () => {
    const { store, webUrl } = context
    const jira = jiraOf(context)
    const link = await store.pullRequests.get(pullRequest)
    if (link === null || link.ticket !== ticket) return false
    const { side, text } = jiraLink(jira, link, webUrl)
    return upsert(store.comments, side, text)
  })

/** The link in Jira to a pull request that went to another ticket, or to none. */
const publishUnlink = async (
  context: PublishContext,
  { ticket, pullRequest }: Body<'jira-unlink'>,
): Promise<boolean> => {
  const { store, webUrl } = context
  if ((await store.pullRequests.get(pullRequest))?.ticket === ticket) return false
  await jiraOf(context).unlink(ticket, linkId(pullRequest, webUrl))
  await store.comments.forget(linkKey(ticket, pullRequest))
  return true
}

/** Once on a pull request. */
const publishRoundsOver = (
  { store, github }: PublishContext,
  { ticket, pullRequest, told }: Body<'rounds-over'>,
): Promise<boolean> => {
  const comment = { kind: 'note', ...pullRequest, about: `rounds:${ticket}`, marker: roundsMarker(ticket) } as const
  return upsert(store.comments, githubComment(github, comment, true), roundsOver(ticket, told))
}

export const publishBody = async (context: PublishContext, body: MessageBody): Promise<boolean> => {
  switch (body.kind) {
    case 'reaction':
      await react(context.github, body)
      return true
    case 'reply':
      return publishReply(context, body.comment)
    case 'outdated-reply':
      return publishOutdated(context, body)
    case 'status':
      return publishStatus(context, body.ticket)
    case 'unlinked':
      return publishUnlinked(context, body)
    case 'jira-note':
      return publishNote(context, body)
    case 'jira-waiting':
      return publishWaiting(context, body)
    case 'jira-unlink':
      return publishUnlink(context, body)
    case 'jira-link':
      return publishLink(context, body)
    case 'agent-ended':
      return publishAgentEnd(context, body)
    case 'open-pull-request':
      return publishPullRequest(context, body)
    case 'move-ticket':
      return publishMove(context, jiraOf(context), body)
    case 'rounds-over':
      return publishRoundsOver(context, body)
  }
}
