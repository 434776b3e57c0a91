/**
 * Publishes the outbox. A message is rendered when it is published, and again until what is out is true. A message may be
 * late, and is never lost.
 */
import { backoff } from '../../backoff.ts'
import type { Clock } from '../../clock.ts'
import type { Log } from '../../log.ts'
import { openPump } from '../../pump.ts'
import { type CommentRef, threadOf } from '../../schema/action.ts'
import { replyMessage } from '../../store/messages.ts'
import { MAX_WAIT_MS, type MessageBody, type OutboxRow, type Store } from '../../store/port.ts'
import type { GitHub } from '../github/client.ts'
import type { Jira } from '../jira/client.ts'
import { replyMarker, statusMarker } from '../markers.ts'
import { githubComment, react } from './github-side.ts'
import { jiraNote } from './jira-notes.ts'
import { jiraLink, jiraNoteComment, jiraReply } from './jira-side.ts'
import { type OwnCommentSide, upsert } from './own-comment.ts'
import { type Trouble, tooSoon, troubleOf, unpublishable } from './trouble.ts'
import { replyOfComment, statusOfTicket } from './views.ts'
import type { Rendered } from './words.ts'

/** At once in all, and for one repository: a slow one leaves slots to the others. */
const LIMITS = { limit: 16, laneLimit: 3 }
const PAGE_SIZE = 500
const POLL_MS = 1_000
const retryAfter = backoff({ first: 1_000, most: 10 * 60_000 })
/** How long a side rests that refuses our credentials. */
const REFUSED_MS = 60_000
const CLOSE_MS = 2_500
/** A command that takes longer gets a reply on its progress. */
const PATIENCE_MS = 5_000
/** Between two edits of one reply: each is a request for GitHub, and flicker for readers. */
const EDIT_EVERY_MS = 5_000
/** Comments with unfinished commands whose replies are kept up to date. */
const WATCHED = 200

export type Publisher = {
  /** There may be something to publish. */
  nudge(): void
  close(): Promise<void>
}
export type PublisherOptions = {
  store: Store
  /** Null: this side is not configured. */
  github: GitHub | null
  jira: Jira | null
  /** GitHub's address for people, `https://github.com`. */
  webUrl: string
  /** The clients show what they would publish. */
  dryRun?: boolean
  clock: Clock
  log: Log
}
type Context = PublisherOptions & {
  /** Until when a lane rests, epoch ms. */
  rests: Map<string, number>
  /** When a reply was last written, by thread. */
  edited: Map<string, number>
}

// ── One function for each kind of message. True: something was written ──

/** What changes while a comment is on its way is published too. */
const untilTrue = async (publishOnce: () => Promise<boolean>): Promise<boolean> => {
  let wrote = false
  while (await publishOnce()) wrote = true
  return wrote
}

const jiraOf = ({ jira }: Context): Jira => {
  if (jira === null) throw unpublishable('Jira is not configured')
  return jira
}

const replySide = (context: Context, comment: CommentRef, finished: boolean): OwnCommentSide<Rendered> => {
  if (!('repo' in comment)) return jiraReply(jiraOf(context), { ...comment, finished })
  const { repo, number, commentId } = comment
  const marker = replyMarker(commentId)
  return githubComment(context.github, { kind: 'reply', repo, number, about: String(commentId), marker }, true)
}
/** Throws when the reply was written a moment ago. A clock that was set back does not hold it up. */
const pace = ({ edited, clock }: Context, thread: string): void => {
  for (const [other, at] of edited) if (at + EDIT_EVERY_MS <= clock()) edited.delete(other)
  const wait = (edited.get(thread) ?? 0) + EDIT_EVERY_MS - clock()
  if (wait > 0 && wait <= EDIT_EVERY_MS) throw tooSoon(wait)
}
const publishReply = (context: Context, comment: CommentRef): Promise<boolean> =>
  untilTrue(async () => {
    const { store, edited, clock } = context
    const reply = await replyOfComment(store, comment, clock())
    if (reply === null) return false
    const side = replySide(context, comment, reply.finished)
    const known = await store.comments.get(side.key)
    if (known?.fingerprint === reply.text.fingerprint) return false
    pace(context, threadOf(comment))
    const wrote = await upsert(store.comments, side, reply.text)
    if (wrote) edited.set(threadOf(comment), clock())
    return wrote
  })

const publishStatus = async (context: Context, ticket: string): Promise<boolean> => {
  const { store, github, clock, log } = context
  const failed = new Set<string>()
  let retry: { error: unknown } | null = null
  const wrote = await untilTrue(async () => {
    let wroteOne = false
    for (const { repo, number } of await store.pullRequests.ofTicket(ticket)) {
      const pullRequest = `${repo}#${number}`
      const status = failed.has(pullRequest) ? null : await statusOfTicket(store, ticket, repo)
      if (status === null) continue
      const comment = { kind: 'status', repo, number, about: ticket, marker: statusMarker(ticket) } as const
      try {
        // That a machine is gone is said only where it was shown.
        const side = githubComment(github, comment, status.exists)
        wroteOne = (await upsert(store.comments, side, status.text)) || wroteOne
      } catch (error) {
        // The ticket's other pull requests get theirs.
        failed.add(pullRequest)
        const trouble = troubleOf(error, clock())
        if (trouble.allows !== 'never') retry = { error }
        else log.warn({ repo, number, ticket }, `a status comment is left out: ${trouble.reason}`)
      }
    }
    return wroteOne
  })
  if (retry !== null) throw (retry as { error: unknown }).error
  return wrote
}

const publishNote = async (context: Context, { ticket, about, note }: Body<'jira-note'>): Promise<boolean> => {
  const text = jiraNote(note)
  const side = jiraNoteComment(jiraOf(context), ticket, about, text)
  // A note is not repeated when it would read differently today.
  if (((await context.store.comments.get(side.key))?.id ?? null) !== null) return false
  return upsert(context.store.comments, side, text)
}

const publishLink = (context: Context, { ticket, pullRequest }: Body<'jira-link'>): Promise<boolean> =>
  untilTrue(async () => {
    const { store, webUrl } = context
    const jira = jiraOf(context)
    const link = await store.pullRequests.get(pullRequest)
    if (link === null || link.ticket !== ticket) return false
    const { side, text } = jiraLink(jira, link, webUrl)
    return upsert(store.comments, side, text)
  })

type Body<Kind extends MessageBody['kind']> = Extract<MessageBody, { kind: Kind }>
const publishBody = async (context: Context, body: MessageBody): Promise<boolean> => {
  switch (body.kind) {
    case 'reaction':
      await react(context.github, body)
      return true
    case 'reply':
      return publishReply(context, body.comment)
    case 'status':
      return publishStatus(context, body.ticket)
    case 'jira-note':
      return publishNote(context, body)
    case 'jira-link':
      return publishLink(context, body)
  }
}

// ── The pump ──

type Item = { row: OutboxRow; lane: string }
const JIRA_LANE = 'jira'
/** A repository, or Jira. */
const laneOf = async (store: Store, body: MessageBody): Promise<string> => {
  if (body.kind === 'status') return (await store.pullRequests.ofTicket(body.ticket))[0]?.repo ?? ''
  if (body.kind === 'reply') return 'repo' in body.comment ? body.comment.repo : JIRA_LANE
  return body.kind === 'reaction' ? body.repo : JIRA_LANE
}
const sideOf = (lane: string) => (lane === JIRA_LANE ? JIRA_LANE : 'github')
const isResting = ({ rests, clock }: Context, lane: string): boolean =>
  [lane, sideOf(lane)].some(name => {
    const left = (rests.get(name) ?? 0) - clock()
    return left > 0 && left <= MAX_WAIT_MS
  })

/** All of them: however many rest, those behind them do not. */
async function* dueMessages(context: Context): AsyncGenerator<Item> {
  const { outbox } = context.store
  for (let rows = await outbox.due(PAGE_SIZE); rows.length > 0; rows = await outbox.due(PAGE_SIZE, rows.at(-1)?.seq)) {
    for (const row of rows) {
      const lane = await laneOf(context.store, row.body)
      if (!isResting(context, lane)) yield { row, lane }
    }
  }
}

const postpone = async (context: Context, { row, lane }: Item, trouble: Trouble): Promise<void> => {
  const { store, clock, log, rests } = context
  const { allows, reason, remedy } = trouble
  const { correlation, key, attempt, seq } = row
  const fields = { correlation, key, attempt, ...(remedy === null ? {} : { remedy }) }
  if (allows === 'never') {
    log.warn(fields, `a message is dropped: ${reason}`)
    await store.outbox.drop(seq)
    return
  }
  const wait = trouble.in ?? (allows === 'pause' ? REFUSED_MS : retryAfter(attempt))
  const at = clock() + wait
  if (allows !== 'paced') {
    // A rate limit is a repository's; refused credentials are those of the whole side.
    if (allows === 'pause') rests.set(sideOf(lane), at)
    else if (trouble.in !== null) rests.set(lane, at)
    log[allows === 'pause' ? 'error' : 'warn'](fields, `a message waits ${Math.round(wait / 1000)} s: ${reason}`)
  }
  await store.outbox.postpone(seq, at, reason)
}

/** `signal` aborts when the bot has closed: the store must not be touched any more. */
const publish = async (context: Context, item: Item, signal: AbortSignal): Promise<void> => {
  const { store, dryRun, clock, log } = context
  const { row } = item
  try {
    const wrote = await publishBody(context, row.body)
    if (signal.aborted) return
    await store.outbox.ack(row)
    const fields = { correlation: row.correlation, key: row.key }
    if (wrote) log.info(fields, dryRun ? 'shown, and not published' : 'published')
    else log.debug(fields, 'nothing new to publish')
  } catch (error) {
    if (!signal.aborted) await postpone(context, item, troubleOf(error, clock()))
  }
}

/** Puts a reply for each unfinished command that has news. `shown`: fingerprints by thread. */
const watchReplies = async ({ store, clock }: Context, shown: Map<string, string>): Promise<void> => {
  const comments = await store.requests.unfinishedComments(clock() - PATIENCE_MS, WATCHED)
  const threads = new Set(comments.map(threadOf))
  for (const thread of shown.keys()) if (!threads.has(thread)) shown.delete(thread)
  for (const comment of comments) {
    const reply = await replyOfComment(store, comment, clock())
    if (reply === null || shown.get(threadOf(comment)) === reply.text.fingerprint) continue
    shown.set(threadOf(comment), reply.text.fingerprint)
    await store.outbox.put([replyMessage(comment)])
  }
}

export const openPublisher = (options: PublisherOptions): Publisher => {
  const context: Context = { ...options, rests: new Map(), edited: new Map() }
  const { store, clock, log } = context
  const pump = openPump<Item>({
    ...LIMITS,
    take: () => dueMessages(context),
    run: (item, signal) => publish(context, item, signal),
    laneOf: ({ lane }) => lane,
    keyOf: ({ row }) => row.key,
    dueIn: async () => {
      const at = await store.outbox.nextDueAt()
      // What is due and was not taken rests, or waits for a slot.
      return at === null || at <= clock() ? null : at - clock()
    },
    pollMs: POLL_MS,
    onError: (error, pauseMs) => log.error({ err: error, pauseMs }, 'the outbox cannot be read or written'),
  })
  const shown = new Map<string, string>()
  let watching: Promise<void> | null = null
  const timer = setInterval(() => {
    watching ??= watchReplies(context, shown)
      .catch(error => log.error({ err: error }, 'looking for replies that have news'))
      .finally(() => {
        watching = null
        pump.nudge()
      })
  }, POLL_MS)
  timer.unref()
  return {
    nudge: pump.nudge,
    close: async () => {
      clearInterval(timer)
      await Promise.all([pump.close(CLOSE_MS), watching])
    },
  }
}
