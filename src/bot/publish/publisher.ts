/**
 * Publishes the outbox. A message is rendered when it is published, and again until what is out is true. A message may be
 * late, and is never lost.
 */
import { backoff } from '../../backoff.ts'
import type { Ticket } from '../../domain.ts'
import { openPump } from '../../pump.ts'
import { MAX_WAIT_MS, type OutboxRow } from '../../store/port.ts'
import { type PublishContext, publishBody } from './kinds.ts'
import { type Trouble, troubleOf } from './trouble.ts'
import { hasUnfinished, openWaitWatch, watchReplies } from './watch.ts'

/** At once in all. */
const LIMIT = 16
/**
 * At once for one repository, and for one installation: answers, and as many of everything else. The client of an installation
 * writes one after the other, so that what has begun keeps an answer waiting. However much one has, it leaves slots to the others; so does a side.
 */
const LIMITS = { repository: 2, installation: 4, side: 13 }
/** Of each lane: what is being published is still in the outbox. */
const TAKEN = 2 * LIMITS.repository
/** Between two looks for news of what goes on. */
const WATCH_MS = 1_000
/** Whoever puts a message nudges; this is for one that did not. */
const POLL_MS = 60_000
const retryAfter = backoff({ first: 1_000, most: 10 * 60_000 })
/** A message that is refused is tried so many times, which takes a day. */
const REFUSED_ATTEMPTS = 150
/** How long a side rests that refuses our credentials. */
const REFUSED_MS = 60_000
const CLOSE_MS = 2_500

export type Publisher = {
  /** There may be something to publish. */
  nudge(): void
  close(): Promise<void>
}
/** `rests`: until when a lane or a side rests, epoch ms. `running`: what is being published, by key. */
type Context = PublishContext & { rests: Map<string, number>; running: Map<string, OutboxRow> }

const sideOf = (lane: string): string => lane.split(':', 1).join('')
const installationOf = ({ lane }: OutboxRow): string => lane.split(':', 2).join(':')
/** How long it still rests. A longer rest than MAX_WAIT_MS comes from a clock that was set back. */
const restOf = ({ rests, clock }: Context, name: string): number => {
  const left = (rests.get(name) ?? 0) - clock()
  return left > MAX_WAIT_MS ? 0 : Math.max(0, left)
}
const resting = (context: Context): string[] => [...context.rests.keys()].filter(name => restOf(context, name) > 0)

/** The due messages that there are slots for. */
const takeDue = async (context: Context): Promise<OutboxRow[]> => {
  const rows = await context.store.outbox.due(TAKEN, resting(context))
  const taken = [...context.running.values()]
  return rows.filter(row => {
    if (context.running.has(row.key)) return false
    if (taken.filter(({ lane }) => sideOf(lane) === sideOf(row.lane)).length >= LIMITS.side) return false
    const same = taken.filter(other => other.isAnswer === row.isAnswer && installationOf(other) === installationOf(row))
    if (same.length >= LIMITS.installation) return false
    if (same.filter(({ lane }) => lane === row.lane).length >= LIMITS.repository) return false
    taken.push(row)
    return true
  })
}

/** When something becomes due that is not now: a message, or a lane that rests. */
const dueIn = async (context: Context): Promise<number | null> => {
  const at = await context.store.outbox.nextDueAt()
  const waits = resting(context).map(name => restOf(context, name))
  if (at !== null) waits.push(at - context.clock())
  return waits.length === 0 ? null : Math.min(...waits)
}

const postpone = async (context: Context, row: OutboxRow, trouble: Trouble): Promise<void> => {
  const { store, clock, log, rests } = context
  const { allows, failure, isPaced = false } = trouble
  const { correlation, key, attempt, seq, lane } = row
  const fields = { correlation, key, attempt, ...(failure.remedy === null ? {} : { remedy: failure.remedy }) }
  if (allows === 'never' || (allows === 'for-a-day' && attempt + 1 >= REFUSED_ATTEMPTS)) {
    log.warn(fields, `a message is dropped: ${failure.message}`)
    await store.outbox.drop(seq)
    return
  }
  const wait = trouble.in ?? (allows === 'pause' ? REFUSED_MS : retryAfter(attempt))
  const at = clock() + wait
  if (!isPaced) {
    // A rate limit is a repository's; refused credentials are those of the whole side.
    if (allows === 'pause') rests.set(sideOf(lane), at)
    else if (trouble.in !== null) rests.set(lane, at)
    log[allows === 'pause' ? 'error' : 'warn'](
      fields,
      `a message waits ${Math.round(wait / 1000)} s: ${failure.message}`,
    )
  }
  await store.outbox.postpone(seq, at, failure.message)
}

/** `signal` aborts when the bot has closed: the store must not be touched any more. */
const publish = async (context: Context, row: OutboxRow, signal: AbortSignal): Promise<void> => {
  const { store, dryRun, clock, log } = context
  try {
    const wrote = await publishBody(context, row.body)
    if (signal.aborted) return
    await store.outbox.ack(row)
    const fields = { correlation: row.correlation, key: row.key }
    if (wrote) log.info(fields, dryRun ? 'shown, not published' : 'published')
    else log.debug(fields, 'nothing new to publish')
  } catch (error) {
    if (!signal.aborted) await postpone(context, row, troubleOf(error, clock()))
  }
}

/** Looks for news while something goes on, once a second; otherwise when something happened. */
const openNews = (views: Omit<PublishContext, 'waiting'> & { waiting: Map<Ticket, string> }, onNews: () => void) => {
  const shown = new Map<string, string>()
  const watchWaits = openWaitWatch(views, views.jira !== null)
  let watching: Promise<void> | null = null
  let timer: NodeJS.Timeout | null = null
  let isClosed = false
  let again = false
  const watch = async (): Promise<void> => {
    timer = null
    again = false
    const isUnfinished = await watchReplies(views, shown)
      .then(watchWaits)
      .then(() => hasUnfinished(views))
      .catch(error => {
        views.log.error({ err: error }, 'looking for replies and waits that have news')
        return true
      })
    watching = null
    onNews()
    if (isUnfinished || again) nudge()
  }
  const nudge = () => {
    again = true
    if (isClosed || timer !== null || watching !== null) return
    timer = setTimeout(() => {
      watching = watch()
    }, WATCH_MS)
    timer.unref()
  }
  nudge()
  return {
    nudge,
    close: async () => {
      isClosed = true
      if (timer !== null) clearTimeout(timer)
      await watching
    },
  }
}

export const openPublisher = (options: Omit<PublishContext, 'edited' | 'waiting'>): Publisher => {
  const waiting = new Map<Ticket, string>()
  const context: Context = { ...options, waiting, edited: new Map(), rests: new Map(), running: new Map() }
  const { log } = context
  const pump = openPump<OutboxRow>({
    limit: LIMIT,
    take: () => takeDue(context),
    run: async (row, signal) => {
      context.running.set(row.key, row)
      await publish(context, row, signal).finally(() => context.running.delete(row.key))
    },
    keyOf: ({ key }) => key,
    dueIn: () => dueIn(context),
    pollMs: POLL_MS,
    onError: (error, pauseMs) => log.error({ err: error, pauseMs }, 'the outbox cannot be read or written'),
  })
  const news = openNews({ ...context, waiting }, pump.nudge)
  return {
    nudge: () => {
      pump.nudge()
      news.nudge()
    },
    close: async () => {
      await Promise.all([pump.close(CLOSE_MS), news.close()])
    },
  }
}
