/** Asks GitHub to deliver again what never arrived. https://docs.github.com/webhooks/using-webhooks/handling-failed-webhook-deliveries */
import { DAY_MS } from '../../clock.ts'
import type { Log } from '../../log.ts'
import type { Store } from '../../store/port.ts'
import { openProblemLog } from '../problem-log.ts'
import { type GitHub, githubFailure, type Octokit } from './client.ts'
import { allGitHubEventNames } from './events.ts'
import { isRateLow } from './poll-requests.ts'

/** GitHub redelivers only what is not older than this. */
const REDELIVERABLE_MS = 3 * DAY_MS
/** GitHub's list may be this late. */
const OVERLAP_MS = 5 * 60_000
/** Redeliveries of one round; the next round goes on after them. */
const LIMIT = 100
/** Redeliveries of one delivery: one that fails each time would fail for ever. */
const MAX_REDELIVERIES = 3
const CURSOR = 'github:deliveries'

/**
 * Epoch ms of GitHub's clock. `began`: what was delivered before the first round is not ours. `since`: what was delivered before
 * was dealt with. `asked`: by guid, how often a redelivery was requested, and when last.
 */
type Cursor = { began: number; since: number; asked: Record<string, { times: number; at: number }> }
/** A delivery that never arrived, by its last attempt. */
type FailedDelivery = { id: number; guid: string; at: number }

type RedeliverContext = {
  github: Pick<GitHub, 'asApp' | 'rate'>
  store: Pick<Store, 'cursors' | 'inbox'>
  clock: () => number
  log: Log
}

/** Where the next page begins; undefined on the last page. */
const nextCursor = (link: string | undefined): string | undefined => {
  const cursor = link?.match(/[?&]cursor=([^&>]+)[^>]*>;\s*rel="next"/)?.[1]
  return cursor === undefined ? undefined : decodeURIComponent(cursor)
}

/** What was delivered since `sinceOf(now)` and never arrived, oldest first. `now` is GitHub's clock: ours may be wrong. */
const failedSince = async (
  app: Octokit,
  sinceOf: (now: number) => number,
  clock: () => number,
): Promise<{ failed: FailedDelivery[]; now: number }> => {
  const byGuid = new Map<string, FailedDelivery | null>()
  let now = clock()
  for (let cursor: string | undefined; ; ) {
    const { data, headers } = await app.rest.apps.listWebhookDeliveries({
      per_page: 100,
      ...(cursor === undefined ? {} : { cursor }),
    })
    if (cursor === undefined) now = Date.parse(String(headers.date)) || now
    // Newest first. All attempts of a delivery have one guid.
    for (const { id, guid, event, status_code, delivered_at } of data) {
      const hasArrived = status_code >= 200 && status_code < 300
      if (hasArrived) byGuid.set(guid, null)
      else if (!byGuid.has(guid) && allGitHubEventNames.includes(event))
        byGuid.set(guid, { id, guid, at: Date.parse(delivered_at) })
    }
    const since = sinceOf(now)
    cursor = nextCursor(headers.link)
    const oldest = data.at(-1)
    if (cursor === undefined || oldest === undefined || Date.parse(oldest.delivered_at) < since) break
  }
  const since = sinceOf(now)
  const failed = [...byGuid.values()].filter(delivery => delivery !== null).filter(({ at }) => at >= since)
  return { failed: failed.sort((a, b) => a.at - b.at || a.id - b.id), now }
}

const redeliver = async ({ store, clock, log }: RedeliverContext, app: Octokit, signal: AbortSignal): Promise<void> => {
  const { cursors, inbox } = store
  const cursor = await cursors.get<Cursor>(CURSOR)
  const sinceOf = (now: number) =>
    cursor === null ? now : Math.max(cursor.began, cursor.since - OVERLAP_MS, now - REDELIVERABLE_MS)
  const { failed, now } = await failedSince(app, sinceOf, clock)
  if (cursor === null) return cursors.set(CURSOR, { began: now, since: now, asked: {} } satisfies Cursor)
  const requested = new Map(Object.entries(cursor.asked).filter(([, { at }]) => clock() - at < REDELIVERABLE_MS))
  const known = await inbox.known(
    'github',
    failed.map(({ guid }) => guid),
  )
  const timesOf = (guid: string) => requested.get(guid)?.times ?? 0
  const due = failed.filter(({ guid }) => !known.has(guid) && timesOf(guid) < MAX_REDELIVERIES)
  const save = (since: number) =>
    cursors.set(CURSOR, { ...cursor, since, asked: Object.fromEntries(requested) } satisfies Cursor)
  for (const { id, guid } of due.slice(0, LIMIT)) {
    if (signal.aborted) return
    const times = timesOf(guid) + 1
    await app.rest.apps.redeliverWebhookDelivery({ delivery_id: id })
    requested.set(guid, { times, at: clock() })
    await save(cursor.since)
    log.info({ correlation: guid, times }, 'requested a redelivery from GitHub')
    if (times === MAX_REDELIVERIES)
      log.warn({ correlation: guid }, `requested a redelivery ${times} times, which was the last`)
  }
  const next = due[LIMIT]
  await save(next === undefined ? now : Math.min(next.at, now))
}

export const openRedeliver = (context: RedeliverContext) => {
  const problems = openProblemLog(context.log)
  const doing = "reading the App's failed deliveries from GitHub"
  return async (signal: AbortSignal): Promise<void> => {
    const { github, clock } = context
    if (github.asApp === null || isRateLow(github, clock())) return
    try {
      await redeliver(context, await github.asApp(), signal)
      problems.clear(doing)
    } catch (error) {
      problems.report(doing, githubFailure(error, doing, clock()).failure)
    }
  }
}
