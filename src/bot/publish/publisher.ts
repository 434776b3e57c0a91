/**
 * Publishes the outbox. A message is rendered at the moment it goes out, and rendered again afterwards: it is done when what
 * is out is what is true. A comment of ours is found again by its marker and its author, so that nothing is said twice
 * after a crash; whoever copies the marker gets nothing. A message may be late, and is never lost.
 */
import { createHash } from 'node:crypto'
import type { Ticket } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { CommentRef, PullRequestRef } from '../../schema/action.ts'
import { MAX_WAIT_MS, type MessageBody, type OutboxRow, type Queue } from '../../store/port.ts'
import { threadOf } from '../../store/sqlite/commands.ts'
import type { OwnComment } from '../../store/sqlite/github-comments.ts'
import type { Memory } from '../../store/sqlite/memory.ts'
import { type GitHub, githubFailure, isGitHubFailure, type Octokit, statusOf } from '../github/client.ts'
import { parts } from '../inbox/facts.ts'
import type { Jira } from '../jira/client.ts'
import { isJiraFailure } from '../jira/request.ts'
import { replyMessage } from './messages.ts'
import {
  answerTo,
  commentBody,
  type Rendered,
  type ReplyView,
  remoteLink,
  replyMarker,
  replyTo,
  statusComment,
  statusMarker,
} from './render.ts'
import { adf, plainBlocks } from './text.ts'

/** In hand at once, and for one repository: a slow one leaves room for the others. */
const AT_ONCE = 16
const AT_ONCE_A_LANE = 3
const TAKEN = 500
const POLL_MS = 1_000
const BACKOFF_MS = { first: 1_000, most: 10 * 60_000 }
/** How long a side rests that refuses our credentials. */
const REFUSED_MS = 60_000
/** Jira's clock and ours may differ by so much. */
const CLOCKS_DIFFER_MS = 5 * 60_000
const CLOSE_MS = 2_500
/** A command that is not done after so long gets a reply that says how it goes: what is quick is told once. */
const PATIENCE_MS = 5_000
/** Between two edits of one reply. GitHub counts each as a request, and readers as flicker. */
const EDIT_EVERY_MS = 5_000
/** Comments with commands under way that are looked at again, every time. */
const WATCHED = 200

export type Publisher = { nudge(): void; close(): Promise<void> }

/** Why a message is not out yet, and whether it ever can be. */
type Trouble = {
  allows: 'later' | 'never' | 'pause' | 'paced'
  in: number | null
  reason: string
  remedy?: string | null
}

export const openPublisher = ({
  queue,
  memory,
  github,
  jira,
  webUrl,
  dryRun = false,
  clock,
  log,
}: {
  queue: Queue
  memory: Memory
  /** Null while, or as long as, that side is not there. */
  github: GitHub | null
  jira: Jira | null
  /** Where people see GitHub, `https://github.com`. */
  webUrl: string
  /** What is published is shown in place of that. */
  dryRun?: boolean
  clock: () => number
  log: Log
}): Publisher => {
  const inHand = new Map<string, { lane: string; task: Promise<void> }>()
  /** Until when a lane rests, epoch ms. */
  const rests = new Map<string, number>()
  /** Ending: nothing new is begun. Closed: what still runs may touch nothing. */
  let ending = false
  let closed = false

  // ── GitHub ──

  const never = (reason: string): Error & { trouble: Trouble } =>
    Object.assign(new Error(reason), { trouble: { allows: 'never', in: null, reason } as const })

  const octokitFor = async (repo: string): Promise<Octokit> => {
    if (github === null) throw never('GitHub is not configured')
    const client = await github.clientFor(repo)
    if (client === null) throw never(`the App is not installed on ${repo}`)
    return client
  }

  /** Our comment with this marker, or null. A stranger's copy is not ours. */
  const find = async (octokit: Octokit, { repo, number }: PullRequestRef, marker: string): Promise<number | null> => {
    const pages = octokit.paginate.iterator(octokit.rest.issues.listComments, {
      ...parts(repo),
      issue_number: number,
      per_page: 100,
    })
    for await (const { data } of pages) {
      for (const comment of data) {
        if (comment.body?.startsWith(marker) && (await github?.isOurs(comment))) return comment.id
      }
    }
    return null
  }

  /** Edits our comment, or posts it where that is wanted. False when there is none, and none is wanted. */
  const upsert = async (own: OwnComment, marker: string, now: Rendered, mayPost: boolean): Promise<boolean> => {
    const { fingerprint } = now
    const body = commentBody(marker, now)
    const known = memory.comment(own)
    const octokit = await octokitFor(own.repo)
    const id = known?.id ?? (await find(octokit, own, marker))
    if (id !== null) {
      try {
        await octokit.rest.issues.updateComment({ ...parts(own.repo), comment_id: id, body })
        memory.setComment(own, id, fingerprint)
        return true
      } catch (error) {
        if (statusOf(error) !== 404) throw error
        // Somebody deleted it; what is new is said anew.
        memory.forgetComment(own)
      }
    }
    if (!mayPost) return false
    const { data } = await octokit.rest.issues.createComment({ ...parts(own.repo), issue_number: own.number, body })
    memory.setComment(own, data.id, fingerprint)
    return true
  }

  const status = (ticket: Ticket, repo: string): Rendered | null => {
    const mirrored = memory.mirrored(ticket)
    if (mirrored === null) return null
    const runner = memory.runners().find(one => one.id === mirrored.runnerId) ?? null
    return statusComment({
      ticket,
      mirrored,
      runner,
      operations: memory.operations(ticket),
      deletedAt: memory.plannedAt(ticket),
      ruleProblems: memory.repositoryFile(repo)?.problems ?? [],
    })
  }

  const reply = (comment: CommentRef): Rendered | null => {
    const runners = memory.runners()
    const views = memory.commandsOf(comment).map((command): ReplyView => {
      const row = command.actionId === null ? null : queue.get(command.actionId)
      const ticket = command.action?.ticket ?? null
      const known = ticket === null ? null : memory.mirrored(ticket)
      const pin = ticket === null ? null : queue.pinnedTo(ticket)
      return {
        command,
        row,
        ahead:
          row === null || ticket === null
            ? []
            : queue
                .list({ ticket })
                .filter(one => one.seq < row.seq && (one.state === 'pending' || one.state === 'active')),
        pinned: runners.find(one => one.id === pin) ?? null,
        anyRunner: runners.some(one => one.connected),
        known: known === null || known.goneAt !== null ? null : known.environment,
        host: runners.find(one => one.id === known?.runnerId)?.host ?? null,
        deletedAt: ticket === null ? null : memory.plannedAt(ticket),
        now: clock(),
      }
    })
    return views.length === 0 ? null : replyTo(comment, views)
  }

  /** Whether the comment that is out says what is true now, or there is nothing to say. */
  const isOut = (own: OwnComment, now: Rendered | null): boolean =>
    now === null || memory.comment(own)?.fingerprint === now.fingerprint

  /** When replies were last written; a reply that is written again waits for its time. */
  const edited = new Map<string, number>()
  const editedNow = (comment: CommentRef) => {
    for (const [thread, at] of edited) if (at + EDIT_EVERY_MS <= clock()) edited.delete(thread)
    edited.set(threadOf(comment), clock())
  }
  const pace = (comment: CommentRef) => {
    const wait = (edited.get(threadOf(comment)) ?? 0) + EDIT_EVERY_MS - clock()
    // Longer, where the clock was set back.
    if (wait > 0 && wait <= EDIT_EVERY_MS)
      throw Object.assign(new Error('paced'), { trouble: { allows: 'paced', in: wait, reason: 'it was just written' } })
  }

  // ── One function for each kind of message. `isTrue` tells, without waiting, whether what went out is still true ──
  type Told = { wrote: boolean; isTrue: () => boolean }

  const publish = {
    reaction: async ({ repo, commentId, content }) => {
      const octokit = await octokitFor(repo)
      // Doing it again changes nothing.
      await octokit.rest.reactions.createForIssueComment({ ...parts(repo), comment_id: commentId, content })
      return { wrote: true, isTrue: () => true }
    },
    reply: async ({ repo, number, commentId }) => {
      const comment = { repo, number, commentId }
      const own = { kind: 'reply', repo, number, about: String(commentId) } as const
      const now = reply(comment)
      const wrote = now !== null && !isOut(own, now)
      if (wrote) {
        pace(comment)
        await upsert(own, replyMarker(commentId), now, true)
        editedNow(comment)
      }
      return { wrote, isTrue: () => isOut(own, reply(comment)) }
    },
    status: async ({ ticket }) => {
      const left = new Set<string>()
      let worst: unknown = null
      let wrote = false
      const owns = () =>
        memory
          .pullRequestsOf(ticket)
          .map(({ repo, number }) => ({ kind: 'status', repo, number, about: ticket }) as const)
          .filter(({ repo, number }) => !left.has(`${repo}#${number}`))
      for (const own of owns()) {
        const now = status(ticket, own.repo)
        if (now === null || isOut(own, now)) continue
        const leave = () => left.add(`${own.repo}#${own.number}`)
        try {
          // A machine that is gone is told where it was told of before.
          if (await upsert(own, statusMarker(ticket), now, memory.environment(ticket) !== null)) wrote = true
          else leave()
        } catch (error) {
          // A pull request that is gone keeps the ticket's others from nothing.
          leave()
          if (troubleOf(error).allows !== 'never') worst = error
          else log.warn({ ...own }, `a status comment is left out: ${troubleOf(error).reason}`)
        }
      }
      if (worst !== null) throw worst
      return { wrote, isTrue: () => owns().every(own => isOut(own, status(ticket, own.repo))) }
    },
    jira: async ({ ticket, about, text }) => {
      if (jira === null) throw never('Jira is not configured')
      const { begunAt, done } = memory.jiraComment(about)
      if (done) return { wrote: false, isTrue: () => true }
      const body = adf(plainBlocks(text))
      // Begun and not done: we do not know whether it arrived.
      const there = begunAt === null ? null : await jira.said(ticket, body, begunAt - CLOCKS_DIFFER_MS)
      memory.beginJiraComment(about, ticket)
      memory.endJiraComment(about, there ?? (await jira.comment(ticket, body)))
      return { wrote: true, isTrue: () => true }
    },
    'jira-reply': async comment => {
      if (jira === null) throw never('Jira is not configured')
      const { ticket, commentId } = comment
      const about = `reply:${commentId}`
      const now = reply(comment)
      const known = memory.jiraAnswer(about)
      const wrote = now !== null && known?.fingerprint !== now.fingerprint
      if (wrote) {
        pace(comment)
        const body = adf(now.blocks)
        // Begun and not done: we do not know whether it arrived.
        const id = known === null ? null : (known.id ?? (await jira.find(ticket, answerTo(commentId))))
        memory.beginJiraComment(about, ticket)
        const own = id === null ? null : await jira.readComment(ticket, id)
        const edited = id === null || own === null ? 'gone' : await jira.edit(ticket, id, body, own.audience)
        // Where nothing can be edited, only the end gets another comment.
        const kept =
          edited === 'done' || (edited === 'refused' && memory.commandsOf(comment).some(one => one.ok === null))
        // Whoever may not read the question reads no answer to it; one that nobody can read any more gets none.
        const asked = kept ? null : (own ?? (await jira.readComment(ticket, commentId)))
        const answered = asked === null ? id : await jira.comment(ticket, body, asked.audience)
        memory.setJiraAnswer(about, answered, now.fingerprint)
        editedNow(comment)
      }
      const isTrue = () => {
        const wanted = reply(comment)
        return wanted === null || memory.jiraAnswer(about)?.fingerprint === wanted.fingerprint
      }
      return { wrote, isTrue }
    },
    'jira-link': async ({ ticket, repo, number }) => {
      if (jira === null) throw never('Jira is not configured')
      const wanted = () => {
        const link = memory.linkOf({ repo, number })
        if (link === null || link.ticket !== ticket) return null
        const shown = remoteLink(link, webUrl)
        return { shown, fingerprint: createHash('sha256').update(JSON.stringify(shown)).digest('hex') }
      }
      const isThere = (fingerprint: string | undefined) =>
        fingerprint === undefined || memory.jiraLink({ repo, number }, ticket) === fingerprint
      const now = wanted()
      const wrote = now !== null && !isThere(now.fingerprint)
      if (wrote) {
        await jira.link(ticket, now.shown)
        memory.setJiraLink({ repo, number }, ticket, now.fingerprint)
      }
      return { wrote, isTrue: () => isThere(wanted()?.fingerprint) }
    },
    action: async ({ actionId }) => {
      throw never(`${actionId}: an action is no message`)
    },
  } satisfies {
    [Kind in MessageBody['kind']]: (body: Extract<MessageBody, { kind: Kind }>) => Promise<Told>
  }

  const laneOf = (body: MessageBody): string => {
    if (body.kind === 'jira' || body.kind === 'jira-reply' || body.kind === 'jira-link') return 'jira'
    if (body.kind === 'status') return memory.pullRequestsOf(body.ticket)[0]?.repo ?? ''
    return body.kind === 'action' ? '' : body.repo
  }

  // ── What a failure allows ──

  const troubleOf = (error: unknown): Trouble => {
    if (error instanceof Error && 'trouble' in error) return error.trouble as Trouble
    if (isJiraFailure(error)) {
      const { status, retryAfter, failure } = error
      const gone = status !== null && status < 500 && status !== 429 && status !== 401
      return {
        allows: status === 401 ? 'pause' : gone ? 'never' : 'later',
        in: retryAfter,
        reason: failure.message,
        remedy: failure.remedy,
      }
    }
    const failure = githubFailure(error, 'publishing', clock())
    return isGitHubFailure(failure)
      ? { allows: failure.allows, in: failure.in, reason: failure.failure.message, remedy: failure.failure.remedy }
      : { allows: 'later', in: null, reason: failureOf(error, 'publishing').message }
  }

  const tell = async (row: OutboxRow, lane: string): Promise<void> => {
    const { message, attempt, seq } = row
    try {
      // The table's type says that each kind gets its own body.
      const publishes = publish[message.body.kind] as (body: MessageBody) => Promise<Told>
      for (let written = false; ; ) {
        const { wrote, isTrue } = await publishes(message.body)
        if (closed) return
        written ||= wrote
        if (!isTrue()) continue
        // Nothing was awaited since: a change that comes later puts its own message.
        queue.outbox.ack(row)
        const about = { correlation: row.correlation, key: message.key }
        // What is out says it already, as after talk on a pull request.
        if (written) log.info(about, dryRun ? 'shown, and not published' : 'published')
        else log.debug(about, 'nothing new to publish')
        return
      }
    } catch (error) {
      if (closed) return
      const { allows, in: wait, reason, remedy = null } = troubleOf(error)
      const about = { correlation: row.correlation, key: message.key, attempt, ...(remedy === null ? {} : { remedy }) }
      if (allows === 'never') {
        log.warn(about, `a message is given up: ${reason}`)
        queue.outbox.drop(seq, reason)
        return
      }
      const now = clock()
      if (allows === 'paced') {
        queue.outbox.later(seq, now + (wait ?? EDIT_EVERY_MS), reason)
        return
      }
      const at =
        now + (wait ?? (allows === 'pause' ? REFUSED_MS : Math.min(BACKOFF_MS.first * 2 ** attempt, BACKOFF_MS.most)))
      // A limit is the whole repository's, wrong credentials are the whole side's.
      if (allows === 'pause') rests.set(lane === 'jira' ? 'jira' : 'github', at)
      else if (wait !== null) rests.set(lane, at)
      log[allows === 'pause' ? 'error' : 'warn'](about, `a message waits ${Math.round((at - now) / 1000)} s: ${reason}`)
      queue.outbox.later(seq, at, reason)
    }
  }

  const resting = (lane: string) =>
    [lane, lane === 'jira' ? 'jira' : 'github'].some(one => {
      const left = (rests.get(one) ?? 0) - clock()
      return left > 0 && left <= MAX_WAIT_MS
    })

  /** What was last said of commands that are not done: they are told again when there is something new to say. */
  const watched = new Map<string, string>()
  const watch = () => {
    const waiting = memory.waitingComments(clock() - PATIENCE_MS, WATCHED)
    const threads = new Set(waiting.map(threadOf))
    for (const thread of watched.keys()) if (!threads.has(thread)) watched.delete(thread)
    for (const comment of waiting) {
      const now = reply(comment)
      if (now === null || watched.get(threadOf(comment)) === now.fingerprint) continue
      watched.set(threadOf(comment), now.fingerprint)
      queue.outbox.put([replyMessage(comment)])
    }
  }

  /** All of them: however many rest, those behind them do not. */
  function* dueMessages(): Generator<OutboxRow> {
    for (let rows = queue.outbox.take(TAKEN); rows.length > 0; rows = queue.outbox.take(TAKEN, rows.at(-1)?.seq))
      yield* rows
  }
  const pump = () => {
    if (ending) return
    for (const row of dueMessages()) {
      if (inHand.size >= AT_ONCE) return
      const { key, body } = row.message
      const lane = laneOf(body)
      if (inHand.has(key) || resting(lane)) continue
      if ([...inHand.values()].filter(one => one.lane === lane).length >= AT_ONCE_A_LANE) continue
      const task = tell(row, lane)
        .catch(error => log.error({ err: error, key }, 'publishing'))
        .finally(() => {
          inHand.delete(key)
          if (!ending) setImmediate(pump)
        })
      inHand.set(key, { lane, task })
    }
  }
  const timer = setInterval(() => {
    try {
      watch()
      pump()
    } catch (error) {
      log.error({ err: error }, 'looking for what is to be published')
    }
  }, POLL_MS)
  timer.unref()
  pump()

  return {
    nudge: () => void setImmediate(pump),
    close: async () => {
      ending = true
      clearInterval(timer)
      const done = Promise.allSettled([...inHand.values()].map(one => one.task))
      const { promise: late, resolve } = Promise.withResolvers<void>()
      const limit = setTimeout(resolve, CLOSE_MS)
      await Promise.race([done, late])
      clearTimeout(limit)
      closed = true
    },
  }
}
