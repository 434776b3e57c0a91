/** Takes deliveries out of the inbox, lane by lane, and settles each with what its decision leads to. */

import { setTimeout as delay } from 'node:timers/promises'
import { backoff } from '../../backoff.ts'
import { DAY_MS } from '../../clock.ts'
import { failureOf, isRetryable } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { openPump } from '../../pump.ts'
import type { Settlement, Store, StoredDelivery } from '../../store/port.ts'
import { isRemoteFailure } from '../remote-failure.ts'
import { aboutOf } from './lanes.ts'
import { settlement } from './settlement.ts'
import { openSettler, type Settle } from './settler.ts'

/** Deliveries of one side that are decided at once, each of another lane. */
const LIMIT = 8
/** What asks GitHub first, and what asks Jira first: one of them that hangs holds none of the other's. */
const SIDES = [['github', 'clock', 'runner'], ['jira']] as const
/** Accepting deliveries comes before deciding them, but under a flood deciding still gets a turn this often. Milliseconds. */
const FLOOD_TURN_MS = 100
const BUSY_LOOK_MS = 10
const POLL_MS = 60_000
const retryWait = backoff({ first: 1_000, most: 5 * 60_000 })
/** Retryable failures are retried for 24 h, unexpected errors 10 times. */
const GIVE_UP_MS = DAY_MS
const UNEXPECTED_ATTEMPTS = 10
/** A clock that was set is no day: it is given up after so many attempts at least (three hours), and at most (a day and a half). */
const ATTEMPTS = { least: 40, most: 400 }

export type InboxContext = {
  store: Pick<Store, 'inbox'>
  decide: (delivery: StoredDelivery) => Promise<Settlement>
  clock: () => number
  log: Log
  /** Many requests are arriving. */
  isBusy: () => boolean
  onSettled: (delivery: StoredDelivery, settlement: Settlement) => void
}

/** GitHub or Jira refuses us for now. Somebody will correct that, and nobody sends again what arrives until then. */
const mayPass = (error: unknown) => isRemoteFailure(error) && error.allows !== 'never'

/** `began`: when the inbox was opened. Nobody tried while the bot was away. */
const retry = async (
  { store, clock, log }: InboxContext,
  settle: Settle,
  delivery: StoredDelivery,
  error: unknown,
  began: number,
): Promise<void> => {
  const { id, seq, source, event, attempt, dueSince } = delivery
  const { kind, message } = failureOf(error, `deciding ${source} ${event}`)
  const isExpected = (kind !== 'unknown' && isRetryable(kind)) || mayPass(error)
  const isDayOver = attempt >= ATTEMPTS.least && clock() - Math.max(dueSince, began) > GIVE_UP_MS
  const isOver = isExpected ? isDayOver || attempt >= ATTEMPTS.most : attempt + 1 >= UNEXPECTED_ATTEMPTS
  if (isOver) {
    log.error({ correlation: id, kind }, `given up: ${message}`)
    return settle(delivery, settlement('failed', message))
  }
  const wait = retryWait(attempt)
  log.warn({ correlation: id, kind, attempt: attempt + 1, retryInMs: wait }, message)
  await store.inbox.postpone(seq, clock() + wait, message)
}

const logSettled = (log: Log, { id, lane, source, event }: StoredDelivery, settled: Settlement): void => {
  const actions = settled.actions.map(({ action }) => `${action.kind} ${action.ticket}`)
  const { verdict, reason } = settled
  log.info({ correlation: id, about: aboutOf(lane), source, event, verdict, actions }, reason ?? 'decided')
}

export const openInbox = (context: InboxContext) => {
  const { store, decide, clock, log, isBusy, onSettled } = context
  const began = clock()
  const settle = openSettler(store.inbox, (delivery, settled) => {
    logSettled(log, delivery, settled)
    onSettled(delivery, settled)
  })
  const openSide = (sources: (typeof SIDES)[number]) =>
    openPump<StoredDelivery>({
      limit: LIMIT,
      pollMs: POLL_MS,
      take: async free => {
        const until = performance.now() + FLOOD_TURN_MS
        while (isBusy() && performance.now() < until) await delay(BUSY_LOOK_MS)
        return store.inbox.due(free, sources)
      },
      run: async (delivery, signal) => {
        try {
          const decided = await decide(delivery)
          if (!signal.aborted) await settle(delivery, decided)
        } catch (error) {
          if (signal.aborted) return
          try {
            await retry(context, settle, delivery, error, began)
          } catch (unwritable) {
            await store.inbox.release(delivery.seq)
            throw unwritable
          }
        }
      },
      dueIn: async () => {
        const next = await store.inbox.nextDueAt(sources)
        return next === null ? null : next - clock()
      },
      onError: (error, pauseMs, delivery) =>
        log.error(
          { err: error, correlation: delivery?.id, retryInMs: pauseMs },
          delivery === null ? 'the inbox cannot be read' : 'a delivery could be neither settled nor postponed',
        ),
    })
  const pumps = SIDES.map(openSide)
  return {
    nudge: () => {
      for (const pump of pumps) pump.nudge()
    },
    close: async (withinMs: number) => {
      await Promise.all(pumps.map(pump => pump.close(withinMs)))
    },
  }
}
