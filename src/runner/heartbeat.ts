/** Tells the bot what this runner has, so that its pages are right whoever changed a machine. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { atMost } from '../clock.ts'
import type { Ticket } from '../domain.ts'
import { isFailure } from '../errors.ts'
import { HEARTBEAT_MS, type HeartbeatRequest, heartbeatResponse, IDLE_HEARTBEAT_MS } from '../schema/runner-protocol.ts'
import type { BotClient } from './bot-client.ts'
import type { RunnerContext } from './context.ts'
import { type News, openHeartbeatNews } from './heartbeat-news.ts'
import { openKnown } from './known-environments.ts'
import { openHeartbeatNote } from './last-heartbeat.ts'
import type { OfferSource } from './offer.ts'

/** Milliseconds at least between two heartbeats, also when much changes. */
const GAP_MS = 500
/** What the hypervisors have is sent once at a start, and not twice, when they answer within this. */
const FIRST_LOOK_MS = 1_000

export const openHeartbeat = (
  context: RunnerContext,
  { bot, offer, version }: { bot: BotClient; offer: OfferSource; version: string },
  ending: AbortSignal,
) => {
  const { registry } = context
  const runnerId = registry.runnerId()
  let [sentAt, dueAt] = [Number.NEGATIVE_INFINITY, 0]
  let woken = new AbortController()
  const wake = () => woken.abort()
  const known = openKnown(context, wake, ending)
  const news = openHeartbeatNews()
  const noteAccepted = openHeartbeatNote(context.home, () => performance.now())
  /** Whether the bot recorded it. */
  const send = async (members: News): Promise<boolean> => {
    const id = randomUUID()
    const request: HeartbeatRequest = { runnerId, id, host: hostname(), version, ...members, offer: await offer.soon() }
    const response = await bot.post('heartbeat', request, heartbeatResponse, { signal: ending })
    noteAccepted()
    const waiting = response?.waiting ?? []
    registry.setQueued(context.clock().toISOString(), waiting)
    // Nothing is refused for what was true minutes ago.
    if (offer.needed(waiting.length > 0)) dueAt = performance.now() + GAP_MS
    const isRecorded = response?.recorded === id
    if (isRecorded) news.recorded(id, response.leftOut)
    return isRecorded
  }
  const beat = async (): Promise<void> => {
    const first = news.next()
    let isRecorded = await send(first)
    // It missed something, or was started again: it needs all of it.
    if (!isRecorded && first.changes !== undefined) isRecorded = await send(news.next())
    while (isRecorded && news.hasNews()) isRecorded = await send(news.next())
  }
  let accepted = Promise.withResolvers<void>()
  let isAccepted = false
  const isRefusal = (error: unknown): boolean => isFailure(error) && error.failure.kind === 'refused'
  const note = (error: unknown): void => {
    if (error === null) {
      isAccepted = true
      accepted.resolve()
    } else if (isAccepted && isRefusal(error)) {
      isAccepted = false
      accepted = Promise.withResolvers()
    }
    bot.report(error)
  }
  ending.addEventListener('abort', () => accepted.resolve(), { once: true })
  const sendIfDue = async (): Promise<void> => {
    const isWritten = known.hasWritten()
    // Before the offer: what changes meanwhile is noticed then, and the offer read again.
    news.compare(known.read())
    const isNews = isWritten || news.hasNews()
    if (!isNews && performance.now() < dueAt) return
    if (isWritten) offer.refresh()
    sentAt = performance.now()
    dueAt = sentAt + (isNews ? HEARTBEAT_MS : IDLE_HEARTBEAT_MS)
    await beat()
    note(null)
  }
  const sleep = async (until: number, signal: AbortSignal): Promise<void> => {
    // Rounded up: a timer that is early by a part of a millisecond is another wake-up.
    const ms = Math.ceil(until - performance.now())
    if (ms > 0) await delay(ms, undefined, { signal }).catch(() => {})
  }
  const loop = async (): Promise<void> => {
    try {
      known.read()
      await atMost(FIRST_LOOK_MS, [known.looked()])
    } catch {
      // An unreadable registry is reported below.
    }
    while (!ending.aborted) {
      woken = new AbortController()
      try {
        await sendIfDue()
      } catch (error) {
        if (!ending.aborted) note(error)
        sentAt = performance.now()
        // Work waits for the first heartbeat: a bot that has just started is noticed at once.
        dueAt = sentAt + (isAccepted || isRefusal(error) ? HEARTBEAT_MS : GAP_MS)
      }
      await sleep(dueAt, AbortSignal.any([woken.signal, ending]))
      await sleep(sentAt + GAP_MS, ending)
    }
  }
  return {
    /** An environment changed, so the next heartbeat is due now. `ticket`: the bot has its environment from elsewhere, too. */
    nudge: (ticket: Ticket | null = null) => {
      if (ticket !== null) news.again(ticket)
      known.written()
      wake()
    },
    /** Another process may have written to the registry. */
    look: wake,
    /** What the reconciler read. */
    observe: known.observe,
    /** Waits while the bot has not accepted a heartbeat, or refused the last one, for example because its version is another one. */
    accepted: () => accepted.promise,
    /** After `ending`. */
    ended: loop(),
  }
}
