/**
 * Publishes the outbox. A message is rendered when it is published, and again until what is out is true. A message may be
 * late, and is never lost.
 */
import { backoff } from '../../backoff.ts'
import type { Ticket } from '../../domain.ts'
import { openPump } from '../../pump.ts'
import { MAX_WAIT_MS, type MessageBody, type OutboxRow, type Store } from '../../store/port.ts'
import { type PublishContext, publishBody } from './kinds.ts'
import { type Trouble, troubleOf } from './trouble.ts'
import { openWaitWatch, watchReplies } from './watch.ts'

/** At once in all, for one repository, and for one side: what is slow or hangs leaves slots to the others. */
const LIMITS = { limit: 16, laneLimit: 3, sideLimit: 13 }
const PAGE_SIZE = 500
const POLL_MS = 1_000
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
/** `rests`: until when a lane rests, epoch ms. */
type Context = PublishContext & { rests: Map<string, number> }

type Item = { row: OutboxRow; lane: string }
const JIRA_LANE = 'jira'
/** A repository, or Jira. */
const laneOf = async (store: Store, body: MessageBody): Promise<string> => {
  if (body.kind === 'status') return (await store.pullRequests.ofTicket(body.ticket))[0]?.repo ?? ''
  if (body.kind === 'agent-ended') return (await store.pullRequests.ofTicket(body.ticket))[0]?.repo ?? JIRA_LANE
  if (body.kind === 'rounds-over') return body.pullRequest.repo
  if (body.kind === 'open-pull-request') return body.repo
  if (body.kind === 'reply') return 'repo' in body.comment ? body.comment.repo : JIRA_LANE
  return body.kind === 'reaction' || body.kind === 'outdated-reply' ? body.repo : JIRA_LANE
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
  const { allows, failure, isPaced = false } = trouble
  const { correlation, key, attempt, seq } = row
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
const publish = async (context: Context, item: Item, signal: AbortSignal): Promise<void> => {
  const { store, dryRun, clock, log } = context
  const { row } = item
  try {
    const wrote = await publishBody(context, row.body)
    if (signal.aborted) return
    await store.outbox.ack(row)
    const fields = { correlation: row.correlation, key: row.key }
    if (wrote) log.info(fields, dryRun ? 'shown, not published' : 'published')
    else log.debug(fields, 'nothing new to publish')
  } catch (error) {
    if (!signal.aborted) await postpone(context, item, troubleOf(error, clock()))
  }
}

export const openPublisher = (options: Omit<PublishContext, 'edited' | 'waiting'>): Publisher => {
  const waiting = new Map<Ticket, string>()
  const context: Context = { ...options, waiting, edited: new Map(), rests: new Map() }
  const { store, clock, log } = context
  const pump = openPump<Item>({
    ...LIMITS,
    take: () => dueMessages(context),
    run: (item, signal) => publish(context, item, signal),
    laneOf: ({ lane }) => lane,
    sideOf: ({ lane }) => sideOf(lane),
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
  const watchWaits = openWaitWatch({ ...context, waiting }, context.jira !== null)
  let watching: Promise<void> | null = null
  const timer = setInterval(() => {
    watching ??= watchReplies(context, shown)
      .then(watchWaits)
      .catch(error => log.error({ err: error }, 'looking for replies and waits that have news'))
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
