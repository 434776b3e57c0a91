/**
 * The runner: asks the bot for work as long as it has free slots, does it, and tells what came of it. It only ever calls
 * out, so it works behind NAT. What it was doing when it died is handed out again by the queue, and goes on from what is
 * seen then.
 */
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { providerNames, providerRow } from '../../providers/index.ts'
import { failureOf, isRetryable } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Progress } from '../schema/action.ts'
import type { Environment } from '../schema/environment.ts'
import type { Outcome } from '../schema/outcome.ts'
import {
  ACQUIRE_WAIT_MS,
  type AcquireRequest,
  type CompleteRequest,
  type FailRequest,
  HEARTBEAT_MS,
  type HeartbeatRequest,
  type HeartbeatResponse,
  type LeaseResponse,
  MAX_MANUAL_OPERATIONS,
  RENEW_MS,
  type RenewRequest,
} from '../schema/runner-protocol.ts'
import type { Lease } from '../store/port.ts'
import { withCommandLog } from './command-log.ts'
import { listEnvironments, type RunnerContext } from './context.ts'
import { execute } from './executor.ts'
import { recoverAll } from './recovery.ts'

/** Between two looks at the hypervisor for the heartbeat, when nothing changed here. Milliseconds. */
const LOOK_MS = 15_000
/** Between two looks whether another process wrote to the registry. */
const CHANGE_POLL_MS = 500
const REQUEST_DEADLINE_MS = 15_000
/** A bot that is back is noticed about as soon as its pages need the next heartbeat. */
const BACKOFF_MS = { first: 250, most: HEARTBEAT_MS }
/** How long work under way may go on after the runner was asked to end. What is not done then is handed out again. */
const DRAIN_MS = 5_000

export type Runner = { close(): Promise<void> }

export const startRunner = async (
  world: RunnerContext,
  { botUrl, token, version, log }: { botUrl: string; token: string; version: string; log: Log },
): Promise<Runner> => {
  const { registry, config } = world
  const runnerId = registry.runnerId()
  /** Ended: no new work. Cut: what still runs is let go of. */
  const ending = new AbortController()
  const cut = new AbortController()
  const running = new Set<Promise<void>>()

  const post = async (path: string, body: unknown, deadline: number, signal: AbortSignal): Promise<Response> =>
    fetch(new URL(`/runner/v1/${path}`, botUrl), {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.any([signal, AbortSignal.timeout(deadline)]),
    })

  let reachable = true
  const noteReach = (now: boolean, why: string) => {
    if (now !== reachable)
      log[now ? 'info' : 'warn']({ bot: botUrl }, now ? 'the bot answers again' : `no work from the bot: ${why}`)
    reachable = now
  }

  /** Posts until the bot has answered, with back-off: an outcome is not lost because the bot is away. */
  const insist = async (path: string, body: unknown, signal: AbortSignal): Promise<Response | null> => {
    for (let wait = BACKOFF_MS.first; !signal.aborted; wait = Math.min(wait * 2, BACKOFF_MS.most)) {
      try {
        const response = await post(path, body, REQUEST_DEADLINE_MS, signal)
        if (response.status < 500) {
          noteReach(true, '')
          if (response.ok) return response
          log.error(
            { path, status: response.status, said: (await response.text()).slice(0, 300) },
            'the bot refused what the runner told it',
          )
          return null
        }
        noteReach(false, `HTTP ${response.status}`)
      } catch (error) {
        noteReach(false, failureOf(error, path).message)
      }
      await delay(wait, undefined, { signal }).catch(() => {})
    }
    return null
  }

  // ── Heartbeat: what the runner has, so that the bot's pages are right whoever changed it ──
  let last: { at: number; version: number; environments: Environment[] } | null = null
  let changed = true
  const snapshot = async (): Promise<Environment[]> => {
    const version = registry.dataVersion()
    if (last !== null && !changed && version === last.version && performance.now() - last.at < LOOK_MS)
      return last.environments
    changed = false
    const { environments, unread } = await listEnvironments(world, { usage: false })
    const before = new Map(last?.environments.map(one => [one.ticket, one]))
    const stale = new Set(unread.map(one => one.provider))
    last = {
      at: performance.now(),
      version,
      // What could not be looked at keeps the time of its last look.
      environments: environments.map(({ usage: _, ...one }) =>
        stale.has(one.provider) ? { ...one, observedAt: before.get(one.ticket)?.observedAt ?? one.createdAt } : one,
      ),
    }
    return last.environments
  }
  const heartbeats = async () => {
    let sentAt = Number.NEGATIVE_INFINITY
    while (!ending.signal.aborted) {
      const due = changed || performance.now() - sentAt >= HEARTBEAT_MS || registry.dataVersion() !== last?.version
      if (due) {
        sentAt = performance.now()
        try {
          const body: HeartbeatRequest = {
            runnerId,
            host: hostname(),
            version,
            providers: providerNames
              .filter(name => providerRow(name).open !== null)
              .map(name => ({ name, live: providerRow(name).live })),
            environments: await snapshot(),
            asked: registry.askedByHand(MAX_MANUAL_OPERATIONS),
          }
          const response = await post('heartbeat', body, REQUEST_DEADLINE_MS, ending.signal)
          noteReach(response.ok, `HTTP ${response.status}`)
          if (response.ok) {
            const { waiting } =
              response.status === 204 ? { waiting: [] } : ((await response.json()) as HeartbeatResponse)
            registry.setQueued(world.clock().toISOString(), waiting)
          }
        } catch (error) {
          if (!ending.signal.aborted) noteReach(false, failureOf(error, 'heartbeat').message)
        }
      }
      await delay(CHANGE_POLL_MS, undefined, { signal: ending.signal }).catch(() => {})
    }
  }

  // ── Work ──
  const work = async (lease: Lease) => {
    const { id, token: leaseToken, action, correlation } = lease
    const lost = new AbortController()
    const done = new AbortController()
    let progress: Progress | null = null
    const said = log.child({ correlation, action: id, ticket: action.ticket, kind: action.kind })
    said.info({ attempt: lease.attempt }, 'begins')
    const renew = async () => {
      while (!done.signal.aborted) {
        await delay(RENEW_MS, undefined, { signal: done.signal }).catch(() => {})
        if (done.signal.aborted) return
        try {
          const body: RenewRequest = { id, token: leaseToken, progress }
          const response = await post('renew', body, REQUEST_DEADLINE_MS, done.signal)
          const answer = response.ok ? ((await response.json()) as LeaseResponse) : null
          // A bot that is away gives our ticket to nobody else, so the work goes on; one that says "lost" has done so.
          if (answer?.lease === 'lost') lost.abort()
        } catch {
          // The next one may get through.
        }
      }
    }
    const renewing = renew()
    let outcome: Outcome
    try {
      outcome = await withCommandLog(said, () =>
        execute(world, action, {
          actionId: id,
          correlation,
          signal: lost.signal,
          onPhase: phase => {
            progress = { phase, at: world.clock().toISOString() }
            said.debug({ phase }, 'phase')
          },
        }),
      )
    } finally {
      done.abort()
      await renewing
    }
    changed = true
    const failed = outcome.result === 'failed' ? outcome.failure : null
    const body: CompleteRequest | FailRequest =
      failed === null
        ? { id, token: leaseToken, outcome }
        : { id, token: leaseToken, failure: failed, retry: isRetryable(failed.kind), environment: outcome.environment }
    const response = await insist(failed === null ? 'complete' : 'fail', body, cut.signal)
    const answer = response === null ? null : ((await response.json()) as LeaseResponse)
    said.info(
      { result: outcome.result, failure: failed?.kind, lease: answer?.lease ?? 'untold' },
      failed?.message ?? 'ended',
    )
  }

  const acquire = async () => {
    let wait = BACKOFF_MS.first
    while (!ending.signal.aborted) {
      if (running.size >= config.runnerSlots) {
        await Promise.race(running)
        continue
      }
      try {
        const body: AcquireRequest = { runnerId }
        const response = await post('acquire', body, ACQUIRE_WAIT_MS + REQUEST_DEADLINE_MS, ending.signal)
        if (response.status === 200) {
          const task: Promise<void> = work((await response.json()) as Lease)
            .catch(error => log.error({ err: error }, 'work ended in an unforeseen way; the queue hands it out again'))
            .finally(() => running.delete(task))
          running.add(task)
        } else if (response.status !== 204) {
          noteReach(
            false,
            `HTTP ${response.status}${response.status === 401 ? ': AGENT_SWARM_RUNNER_TOKEN is not the one that the bot knows' : ''}`,
          )
          await delay(wait, undefined, { signal: ending.signal }).catch(() => {})
          wait = Math.min(wait * 2, BACKOFF_MS.most)
          continue
        }
        noteReach(true, '')
        wait = BACKOFF_MS.first
      } catch (error) {
        if (ending.signal.aborted) return
        noteReach(false, failureOf(error, 'asking for work').message)
        await delay(wait, undefined, { signal: ending.signal }).catch(() => {})
        wait = Math.min(wait * 2, BACKOFF_MS.most)
      }
    }
  }

  // What a dead process left is settled first; a hypervisor that cannot be asked now keeps nobody from starting.
  const unsettled = await recoverAll(world).catch(error => [{ ticket: null, failure: failureOf(error, 'settling it') }])
  for (const { ticket, failure } of unsettled)
    log.warn(
      { ticket, failure: failure.kind },
      `what an earlier process left could not be settled yet: ${failure.message}`,
    )
  const loops = [heartbeats(), acquire()]
  log.info({ runnerId, bot: botUrl, slots: config.runnerSlots }, 'the runner is up')

  return {
    close: async () => {
      ending.abort()
      if (running.size > 0) log.info({ underWay: running.size }, 'ending: what is under way gets a few seconds')
      await Promise.race([Promise.allSettled(running), delay(DRAIN_MS, undefined, { ref: false })])
      cut.abort()
      await Promise.race([Promise.allSettled(loops), delay(500, undefined, { ref: false })])
    },
  }
}
