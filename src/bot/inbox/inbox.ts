/** Takes deliveries out of the inbox, lane by lane, and turns each into actions or a verdict. */
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { failureOf, isRetryable } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { Message, Queue, QueuedAction, StoredDelivery, Verdict } from '../../store/port.ts'
import { isGitHubFailure } from '../github/client.ts'
import { isJiraFailure } from '../jira/request.ts'
import { aboutOf } from './lanes.ts'

const AT_ONCE = 8
/** Under a flood, the inbox gets a turn this often; accepting comes first. Milliseconds. */
const FLOOD_TURN_MS = 100
const BUSY_LOOK_MS = 10
const BACKOFF_MS = { first: 1_000, most: 5 * 60_000 }
/** What may get well again is tried for a day; what nobody foresaw, ten times. */
const GIVE_UP_MS = 24 * 60 * 60_000
const UNFORESEEN_ATTEMPTS = 10
/** Where nothing can be written (the disk is full), nothing can be decided: it is tried again after this time. Milliseconds. */
const UNWRITABLE_MS = 1_000

/** Our credentials are refused: somebody mends that, and what was sent meanwhile is sent by nobody again. */
const isRefusal = (error: unknown) =>
  (isGitHubFailure(error) && error.allows === 'pause') || (isJiraFailure(error) && error.status === 401)

export type Decided = { verdict: Verdict; actions: QueuedAction[]; messages: Message[] }
export const nothing = (reason: string): Decided => ({
  verdict: { verdict: 'ignored', reason },
  actions: [],
  messages: [],
})

export const openInbox = ({
  queue,
  decide,
  clock,
  log,
  busy,
  onSettled,
}: {
  queue: Queue
  decide: (delivery: StoredDelivery) => Promise<Decided>
  clock: () => number
  log: Log
  busy: () => boolean
  onSettled: (delivery: StoredDelivery, decided: Decided) => void
}) => {
  const began = clock()
  let closed = false
  let draining = false
  let again = false
  let timer: NodeJS.Timeout | null = null
  const inHand = new Set<Promise<void>>()
  /** Of performance.now(). */
  let pausedUntil = 0

  // ── Group commit: what was decided in one turn of the event loop is one transaction, and so one fsync ──
  type Settling = { delivery: StoredDelivery; decided: Decided; settled: () => void; failed: (error: unknown) => void }
  let settling: Settling[] = []
  const write = (all: readonly Settling[]) =>
    queue.settle(all.map(({ delivery, decided }) => ({ seq: delivery.seq, ...decided })))
  const tell = ({ delivery, decided, settled, failed }: Settling) => {
    const { verdict, actions } = decided
    log.info(
      {
        correlation: delivery.id,
        about: aboutOf(delivery.lane),
        source: delivery.source,
        event: delivery.event,
        verdict: verdict.verdict,
        actions: actions.map(one => `${one.action.kind} ${one.action.ticket}`),
      },
      verdict.reason ?? 'decided',
    )
    try {
      onSettled(delivery, decided)
      settled()
    } catch (error) {
      failed(error)
    }
  }
  const commit = () => {
    const all = settling
    settling = []
    try {
      write(all)
    } catch {
      // One that cannot be settled takes none of the others with it; each is told of its own.
      for (const one of all) {
        try {
          write([one])
          tell(one)
        } catch (error) {
          one.failed(error)
        }
      }
      return
    }
    for (const one of all) tell(one)
  }
  const settle = (delivery: StoredDelivery, decided: Decided) =>
    new Promise<void>((settled, failed) => {
      if (settling.length === 0) setImmediate(commit)
      settling.push({ delivery, decided, settled, failed })
    })

  const take = async (delivery: StoredDelivery) => {
    try {
      await settle(delivery, await decide(delivery))
    } catch (error) {
      const failure = failureOf(error, `deciding ${delivery.source} ${delivery.event}`)
      const foreseen = (failure.kind !== 'unknown' && isRetryable(failure.kind)) || isRefusal(error)
      // While nobody was here, nobody tried.
      const over = foreseen
        ? clock() - Math.max(delivery.since, began) > GIVE_UP_MS
        : delivery.attempt + 1 >= UNFORESEEN_ATTEMPTS
      if (over) {
        log.error({ correlation: delivery.id, kind: failure.kind }, `given up: ${failure.message}`)
        await settle(delivery, { verdict: { verdict: 'failed', reason: failure.message }, actions: [], messages: [] })
        return
      }
      const wait = Math.min(BACKOFF_MS.first * 2 ** delivery.attempt, BACKOFF_MS.most)
      log.warn(
        { correlation: delivery.id, kind: failure.kind, attempt: delivery.attempt + 1, againInMs: wait },
        failure.message,
      )
      queue.postpone(delivery.seq, clock() + wait, failure.message)
    }
  }

  const schedule = () => {
    if (timer !== null) clearTimeout(timer)
    timer = null
    const next = queue.nextDelivery()
    if (closed || next === null) return
    timer = setTimeout(nudge, Math.max(20, pausedUntil - performance.now(), Math.min(next - clock(), 60_000)))
    timer.unref()
  }

  const drain = async () => {
    do {
      again = false
      while (!closed) {
        const until = performance.now() + FLOOD_TURN_MS
        while (busy() && performance.now() < until) await delay(BUSY_LOOK_MS)
        if (inHand.size >= AT_ONCE) {
          await Promise.race(inHand)
          continue
        }
        const due = performance.now() < pausedUntil ? [] : queue.due(AT_ONCE - inHand.size)
        if (due.length === 0) break
        for (const delivery of due) {
          const task: Promise<void> = take(delivery)
            .catch(error => {
              log.error(
                { err: error, correlation: delivery.id, againInMs: UNWRITABLE_MS },
                'a delivery could be neither settled nor postponed',
              )
              queue.release(delivery.seq)
              pausedUntil = performance.now() + UNWRITABLE_MS
            })
            .finally(() => {
              inHand.delete(task)
              // Its lane may have another.
              nudge()
            })
          inHand.add(task)
        }
        await turn()
      }
    } while (again && !closed)
  }

  function nudge(): void {
    if (closed) return
    again = true
    if (draining) return
    draining = true
    drain()
      .catch(error => log.error({ err: error }, 'the inbox'))
      .finally(() => {
        draining = false
        if (closed) return
        if (again) nudge()
        else schedule()
      })
  }

  nudge()
  return {
    nudge,
    /** Takes nothing more; waits for what is in hand, at most `within` milliseconds. The rest is on disk. */
    close: async (within: number) => {
      closed = true
      if (timer !== null) clearTimeout(timer)
      await Promise.race([Promise.allSettled([...inHand]), new Promise(resolve => setTimeout(resolve, within).unref())])
    },
  }
}
