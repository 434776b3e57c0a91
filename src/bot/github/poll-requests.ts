/** Requests whose response is 304 when nothing changed since the response that was taken over. Those cost nothing of GitHub's limit. */
import type { Rules } from '../../../handlers/handler.ts'
import { MAX_WAIT_MS } from '../../backoff.ts'
import type { Log } from '../../log.ts'
import type { Store } from '../../store/port.ts'
import type { PolledDelivery } from '../catch-up.ts'
import { openProblemLog } from '../problem-log.ts'
import { isRemoteFailure } from '../remote-failure.ts'
import { type GitHub, githubFailure, statusOf } from './client.ts'

/** This part of the hour's requests is left for acting and answering. */
const RESERVE = 0.1

/** `what`: the resource. `variant`: the query; a validator is only good for its own. */
type Conditional = { what: string; variant: string }
/** `now` is GitHub's clock, epoch ms. `taken`: call it when the data was taken over; before, the same data comes again. */
type Page<Data> = { data: Data; more: boolean; now: number; taken: () => void }
type Headers = Record<string, unknown>

export type PollRequests = {
  /** Null when nothing changed. A page after the first has no validator of its own: `condition` null. */
  get<Data>(
    condition: Conditional | null,
    request: (headers: Record<string, string>) => Promise<{ data: Data; headers: Headers }>,
  ): Promise<Page<Data> | null>
  /** Runs `work` unless GitHub must not be asked now, and logs its failure. */
  attempt(doing: string, work: () => Promise<void>): Promise<void>
  /** Asks GitHub for nothing before `at`, epoch ms. */
  restUntil(at: number): void
  /** Milliseconds until the next round, at least `everyMs`. */
  wait(): number
}

/**
 * All pages of a list, newest first, as far as `goesOn` says; null when its first page has no news. Only that page is conditional:
 * any news changes it.
 */
export const readPages = async <Entry>(
  requests: PollRequests,
  condition: Conditional | null,
  request: (page: number, headers: Record<string, string>) => Promise<{ data: Entry[]; headers: Headers }>,
  goesOn: (last: Entry) => boolean = () => true,
): Promise<Omit<Page<Entry[]>, 'more'> | null> => {
  const first = await requests.get(condition, headers => request(1, headers))
  if (first === null) return null
  const data = [...first.data]
  let more = first.more
  for (let page = 2; more; page += 1) {
    const last = data.at(-1)
    if (last === undefined || !goesOn(last)) break
    const next = await requests.get(null, headers => request(page, headers))
    data.push(...(next?.data ?? []))
    more = next?.more ?? false
  }
  return { data, now: first.now, taken: first.taken }
}

/** What polling and comparing need. */
export type PollContext = {
  github: GitHub
  store: Store
  rulesOf: (repo: string) => Promise<Rules>
  /** Branches of a repository have moved. */
  rulesChanged: (repo: string) => Promise<void>
  /** Puts deliveries on disk that are not known yet. */
  accept: (deliveries: readonly PolledDelivery[]) => Promise<void>
  requests: PollRequests
  clock: () => number
  log: Log
}
/** Whether so few requests are left that only acting and answering may use them. */
export const isRateLow = (github: Pick<GitHub, 'rate'>, now: number): boolean => {
  const rate = github.rate()
  return rate !== null && rate.remaining < rate.limit * RESERVE && rate.resetAt > now
}

export const openPollRequests = ({
  everyMs,
  clock,
  log,
}: Pick<PollContext, 'clock' | 'log'> & { everyMs: number }): PollRequests => {
  const validators = new Map<string, { variant: string; etag: string }>()
  const problems = openProblemLog(log)
  let notBefore = 0
  /** Seconds, as GitHub last asked for. */
  let interval = 0
  const restUntil = (at: number) => {
    notBefore = Math.max(notBefore, at)
  }
  const noteInterval = (headers: Headers) => {
    interval = Math.max(interval, Number(headers['x-poll-interval'] ?? 0) || 0)
  }

  return {
    get: async (condition, request) => {
      const known = condition === null ? undefined : validators.get(condition.what)
      const isSame = known !== undefined && known.variant === condition?.variant
      try {
        const { data, headers } = await request(isSame ? { 'if-none-match': known.etag } : {})
        noteInterval(headers)
        const { etag, date, link } = headers
        const at = Date.parse(String(date))
        return {
          data,
          more: typeof link === 'string' && link.includes('rel="next"'),
          now: Number.isFinite(at) ? at : clock(),
          taken: () => {
            if (condition !== null && typeof etag === 'string')
              validators.set(condition.what, { variant: condition.variant, etag })
          },
        }
      } catch (error) {
        if (statusOf(error) !== 304) throw error
        if (typeof error === 'object' && error !== null && 'response' in error)
          noteInterval((error.response as { headers?: Headers } | undefined)?.headers ?? {})
        return null
      }
    },
    attempt: async (doing, work) => {
      // A longer rest is a clock that was set back.
      if (notBefore - clock() > MAX_WAIT_MS) notBefore = 0
      if (clock() < notBefore) return
      try {
        await work()
        problems.clear(doing)
      } catch (error) {
        const failure = githubFailure(error, doing, clock())
        problems.report(doing, failure.failure)
        if (!isRemoteFailure(failure)) return
        const rest = failure.in ?? (failure.allows === 'pause' ? everyMs : 0)
        if (rest > 0) restUntil(clock() + rest)
      }
    },
    wait: () => {
      const seconds = interval
      interval = 0
      return Math.max(everyMs, seconds * 1000, notBefore - clock())
    },
    restUntil,
  }
}
