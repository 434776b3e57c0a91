/**
 * What runner and bot say to each other: JSON over HTTP under `/runner/v1/`, the runner always asks, `Authorization:
 * Bearer <token>`. Leases are fenced: whoever lost one is answered `lost` and stops.
 */
import type { ActionKind, Environment, Failure, Outcome, Progress, ProviderName, Requester, Ticket } from './domain.ts'

/** Milliseconds. A runner renews every 2 s; without it the bot gives the action to the next claim after the lease. */
export const LEASE_MS = 10_000
export const RENEW_MS = 2_000
/** How long `acquire` waits for work before it answers 204. */
export const ACQUIRE_WAIT_MS = 25_000
/** A runner sends all its environments at least this often, and soon after one changed. */
export const HEARTBEAT_MS = 5_000

/** Answered 200 with a Lease (queue.ts), or 204 when nothing came within ACQUIRE_WAIT_MS. */
export type AcquireRequest = { runnerId: string }

export type RenewRequest = { id: string; token: string; progress: Progress | null }
export type CompleteRequest = { id: string; token: string; outcome: Outcome }
export type FailRequest = {
  id: string
  token: string
  failure: Failure
  retry: boolean
  environment: Environment | null
}
/** Answer to renew, complete and fail. `retry` and `dead` answer `fail` alone. */
export type LeaseResponse = { lease: 'ok' | 'lost' | 'retry' | 'dead' }

/** Everything that the runner has: an environment that is absent here is gone from this runner. */
export type HeartbeatRequest = {
  runnerId: string
  host: string
  version: string
  providers: { name: ProviderName; live: boolean }[]
  environments: Environment[]
  /** What people last did to each ticket on that machine, with or without an environment now. A runner of an older version does not tell it. */
  asked?: AskedByHand[]
}
/** `id` is the operation's on its runner, `at` when it began, ISO 8601 UTC. */
export type AskedByHand = { id: number; ticket: Ticket; kind: ActionKind; by: Requester; at: string }
/** Of so many tickets, those that were touched last. */
export const ASKED_TOLD = 500
/** Answered 204 when nothing waits. Queued actions that this runner could take, oldest first, at most WAITING_TOLD. `since` ISO 8601 UTC. */
export type HeartbeatResponse = {
  waiting: { ticket: Ticket; kind: ActionKind; by: Requester; since: string; why: string }[]
}
export const WAITING_TOLD = 100
