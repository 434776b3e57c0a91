/**
 * Looks for what webhooks missed: at the start, and on a schedule. What failed on its way is sent again by GitHub; and what
 * is so now is compared with what was decided. Either way it comes into the same inbox and to the same handlers, which read
 * the present state before they act. That something is absent from a list or a search is no evidence for anything.
 */
import type { Log } from '../log.ts'
import type { Queue } from '../store/port.ts'
import type { Memory } from '../store/sqlite/memory.ts'
import { type GitHub, githubFailure, type Octokit } from './github/client.ts'
import { githubEventNames } from './github/events.ts'
import { openProblemLog } from './poll-loop.ts'

/** GitHub sends again what is not older than this. */
const SENT_AGAIN_MS = 3 * 24 * 60 * 60_000
/** What GitHub lists may lag behind what it did. */
const OVERLAP_MS = 5 * 60_000
/** So many are asked for in one round; the next one goes on behind them. */
const ASKED_AT_ONCE = 100
/** How often one delivery is asked for: what fails each time fails by what it is. */
const ASKED_FOR = 3
/** So much of the hour's requests is left to acting and answering. */
const RESERVE = 0.1

/**
 * Epoch ms of GitHub's clock. `began`: what was delivered before the first look is nobody's loss. `since`: what was delivered
 * before was looked at. `asked`: how often for which, and when last.
 */
type Place = { began: number; since: number; asked: Record<string, { times: number; at: number }> }
/** A delivery that never arrived, as its last try. */
type Failed = { id: number; guid: string; at: number }

export type CatchUp = {
  /** Asks, compares, and puts what it finds into the inbox. One that is under way is not begun again. */
  round(): Promise<void>
  /** Begins nothing more, and waits for what is in hand, at most `within` ms. */
  close(within: number): Promise<void>
}

export const openCatchUp = ({
  github,
  looks,
  queue,
  memory,
  clock,
  log,
}: {
  github: Pick<GitHub, 'asApp' | 'rate'> | null
  /** What compares, in its order; each tells its own troubles. */
  looks: readonly (() => Promise<unknown>)[]
  queue: Pick<Queue, 'taken'>
  memory: Memory
  clock: () => number
  log: Log
}): CatchUp => {
  const told = openProblemLog(log)

  /** What was delivered since then and never arrived, oldest first. `now` is GitHub's clock. */
  const failedSince = async (app: Octokit, since: number): Promise<{ failed: Failed[]; now: number }> => {
    const found = new Map<string, Failed | null>()
    let now = clock()
    for (let cursor: string | undefined; ; ) {
      const { data, headers } = await app.rest.apps.listWebhookDeliveries({
        per_page: 100,
        ...(cursor === undefined ? {} : { cursor }),
      })
      if (cursor === undefined) now = Date.parse(String(headers.date)) || now
      // Newest first; an event has one guid, however often it was tried.
      for (const { id, guid, event, status_code, delivered_at } of data) {
        const arrived = status_code >= 200 && status_code < 300
        if (arrived) found.set(guid, null)
        else if (!found.has(guid) && githubEventNames.includes(event))
          found.set(guid, { id, guid, at: Date.parse(delivered_at) })
      }
      cursor = headers.link?.match(/[?&]cursor=([^&>]+)[^>]*>;\s*rel="next"/)?.[1]
      const oldest = data.at(-1)
      if (cursor === undefined || oldest === undefined || Date.parse(oldest.delivered_at) < since) break
      cursor = decodeURIComponent(cursor)
    }
    const failed = [...found.values()].filter(one => one !== null && one.at >= since) as Failed[]
    return { failed: failed.sort((one, other) => one.at - other.at || one.id - other.id), now }
  }

  const redeliver = async (app: Octokit): Promise<void> => {
    const place = memory.place<Place>('github:deliveries')
    const from = place === null ? clock() : Math.max(place.began, place.since - OVERLAP_MS, clock() - SENT_AGAIN_MS)
    const { failed, now } = await failedSince(app, from)
    if (place === null)
      return memory.setPlace('github:deliveries', { began: now, since: now, asked: {} } satisfies Place)
    const asked = new Map(Object.entries(place.asked).filter(([, { at }]) => clock() - at < SENT_AGAIN_MS))
    const lost = failed.filter(({ guid }) => !queue.taken({ source: 'github', id: guid }))
    const due = lost.filter(({ guid }) => (asked.get(guid)?.times ?? 0) < ASKED_FOR)
    const keep = (since: number) =>
      memory.setPlace('github:deliveries', { ...place, since, asked: Object.fromEntries(asked) } satisfies Place)
    for (const { id, guid } of due.slice(0, ASKED_AT_ONCE)) {
      if (closed) return
      const times = (asked.get(guid)?.times ?? 0) + 1
      await app.rest.apps.redeliverWebhookDelivery({ delivery_id: id })
      asked.set(guid, { times, at: clock() })
      keep(place.since)
      log.info({ correlation: guid, times }, 'GitHub was asked to send a delivery again that did not arrive')
      if (times === ASKED_FOR)
        log.warn({ correlation: guid }, `a delivery was asked for ${times} times; it is not asked for again`)
    }
    const left = due[ASKED_AT_ONCE]
    keep(left === undefined ? now : Math.min(left.at, now))
  }

  const again = async (): Promise<void> => {
    const doing = "asking GitHub for the App's failed deliveries"
    const rate = github?.rate() ?? null
    if (github?.asApp === undefined || github.asApp === null) return
    if (rate !== null && rate.remaining < rate.limit * RESERVE && rate.resetAt > clock()) return
    try {
      await redeliver(await github.asApp())
      told(doing, null)
    } catch (error) {
      told(doing, githubFailure(error, doing, clock()).failure)
    }
  }

  let closed = false
  let inHand: Promise<void> | null = null
  return {
    round: () => {
      inHand ??= (async () => {
        for (const look of [again, ...looks]) if (!closed) await look()
      })().finally(() => {
        inHand = null
      })
      return inHand
    },
    close: async within => {
      closed = true
      await Promise.race([inHand, new Promise(resolve => setTimeout(resolve, within).unref())])
    },
  }
}
