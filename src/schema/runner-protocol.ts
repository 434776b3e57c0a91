/**
 * What runner and bot say to each other: JSON over HTTP under `/runner/v1/`. The runner always asks, with `Authorization:
 * Bearer <token>`. Both ends parse what they receive by these schemas. Leases are fenced: whoever lost one gets `lost` as
 * the answer, and stops.
 */
import * as v from 'valibot'
import { action, attemptProgress, requester } from './action.ts'
import {
  count,
  environmentKey,
  imageName,
  machineSize,
  project,
  prose,
  providerName,
  repository,
  shortText,
  time,
} from './basics.ts'
import { environment } from './environment.ts'
import { failure } from './failure.ts'
import { doneOutcome, outcome } from './outcome.ts'

/** Milliseconds. A runner renews every 2 s; the bot gives an expired lease's action to the next claim. */
export const LEASE_MS = 10_000
export const RENEW_MS = 2_000
/** How long `acquire` waits for work before it answers 204. */
export const ACQUIRE_WAIT_MS = 25_000
/** A runner sends a heartbeat soon after something changed, and then at least this often. */
export const HEARTBEAT_MS = 5_000
/** The same while nothing changes. */
export const IDLE_HEARTBEAT_MS = 10_000
/** A heartbeat reports manual operations of this many tickets, the newest. */
export const MAX_MANUAL_OPERATIONS = 500
/** The bot's answer to a heartbeat lists this many waiting actions. */
export const MAX_WAITING_ACTIONS = 100

const runnerId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9-]{1,64}$/))

/** The most tickets that an offer names. */
export const MAX_HOLDERS = 10
/** A runner that knows no limit of CPUs names none. */
const room = v.object({ ...machineSize.entries, cpus: v.optional(count, 1_000_000) })

/**
 * What a runner can take on. `images` null: this provider does not list them. `room`: for new machines now and when the
 * host is empty; null when the host could not be asked, which never keeps an action waiting.
 */
const offer = v.object({
  providers: v.pipe(
    v.array(
      v.object({
        name: providerName,
        label: shortText(64),
        /** Takes checkpoints of a running guest without stopping it. */
        live: v.boolean(),
        images: v.nullable(v.pipe(v.array(imageName), v.maxLength(500))),
      }),
    ),
    v.maxLength(16),
  ),
  /** The provider, image and size of a machine for which the action names none; `provider` null: none is available. */
  defaults: v.object({ provider: v.nullable(providerName), baseImage: imageName, size: machineSize }),
  /** The largest size that a repository may ask for. */
  limits: machineSize,
  room: v.nullable(
    v.object({
      free: room,
      empty: room,
      /** The machines that take it; `tickets`: the largest. */
      held: v.optional(
        v.object({
          tickets: v.pipe(v.array(environmentKey), v.maxLength(MAX_HOLDERS)),
          ...{ machines: count, cpus: count, memoryMiB: count },
          /** Machines without a ticket that are kept ready. */
          ready: v.optional(count),
        }),
      ),
    }),
  ),
})
export type Offer = v.InferOutput<typeof offer>

/** A runner does at most this many actions at the same time. */
const MAX_SLOTS = 64
/** `runnerId`: this installation, in its own words. Who it is for the bot comes from its token. */
export const acquireRequest = v.object({
  runnerId,
  offer,
  slots: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_SLOTS)), 4),
})
export type AcquireRequest = v.InferOutput<typeof acquireRequest>

/** A claimed action. `token` fences this attempt: only its holder may renew, complete or fail it. */
export const lease = v.object({
  // It holds the id of a delivery, which may hold the name of a branch.
  id: shortText(1_000),
  correlation: shortText(1_000),
  action,
  attempt: count,
  token: shortText(64),
})
export type Lease = v.InferOutput<typeof lease>

/** What proves that a runner still has its lease. */
export const fence = v.object({ id: lease.entries.id, token: lease.entries.token })
export const renewRequest = v.object({ ...fence.entries, progress: v.nullable(attemptProgress) })
export type RenewRequest = v.InferOutput<typeof renewRequest>
export const completeRequest = v.object({ ...fence.entries, outcome })
export type CompleteRequest = v.InferOutput<typeof completeRequest>
export const failRequest = v.object({
  ...fence.entries,
  failure,
  retry: v.boolean(),
  environment: v.nullable(environment),
})
export type FailRequest = v.InferOutput<typeof failRequest>
/** Answer to a request that is refused: what is wrong, and what to do on the bot's host. */
export const refusedResponse = v.object({ error: prose(1_000), remedy: v.optional(v.nullable(prose(1_000)), null) })
/** Answer to renew, complete and fail. Only `fail` is answered `retry` or `dead`. */
export const leaseResponse = v.object({ lease: v.picklist(['ok', 'lost', 'retry', 'dead']) })
export type LeaseResponse = v.InferOutput<typeof leaseResponse>

/** What a person last did to a ticket by the CLI. `id` is the operation's on its runner, `at` when it began. */
const manualOperation = v.object({
  id: count,
  ticket: environmentKey,
  kind: v.picklist(['create', 'start', 'stop', 'restore', 'delete']),
  by: requester,
  at: time,
  /** Of a delete: unsaved work was not looked for. */
  force: v.optional(v.boolean()),
  /** Of a delete that deleted a machine. */
  outcome: v.optional(doneOutcome),
})
export type ManualOperation = v.InferOutput<typeof manualOperation>

// The length first: parsing stops at the first mistake, and a million wrong members are no work.
const environments = v.pipe(v.array(v.unknown()), v.maxLength(10_000), v.array(environment))

const named = v.pipe(v.array(v.object({ ticket: environmentKey, vmId: shortText(64) })), v.maxLength(10_000))

/**
 * What changed since the heartbeat `follows`: environments that differ, and by name those that the runner has no more. What it
 * does not name is unchanged.
 */
const changes = v.object({
  follows: shortText(64),
  changed: environments,
  gone: named,
})

/** Of a full heartbeat that is too large for one body. The runner has the others, too: the next partial ones say how they are. */
const beginning = v.object({ environments, others: named })

/**
 * A full heartbeat has `environments` or `beginning`: one that is absent there is gone from this runner. A partial one has `changes`
 * instead, so that a bot that knows no partial ones refuses it. `id`: a new name each time; a runner without it sends only full ones.
 */
export const heartbeatRequest = v.pipe(
  v.object({
    runnerId,
    id: v.optional(shortText(64)),
    host: v.pipe(shortText(255), v.regex(/^\P{C}*$/u, 'has control characters')),
    version: v.pipe(shortText(64), v.regex(/^\P{C}*$/u, 'has control characters')),
    offer,
    manualOperations: v.optional(
      v.pipe(v.array(v.unknown()), v.maxLength(MAX_MANUAL_OPERATIONS), v.array(manualOperation)),
      [],
    ),
    environments: v.optional(environments),
    beginning: v.optional(beginning),
    changes: v.optional(changes),
  }),
  v.check(
    ({ environments, beginning, changes }) =>
      [environments, beginning, changes].filter(member => member !== undefined).length === 1,
    'has not exactly one of environments, beginning and changes',
  ),
)
export type HeartbeatRequest = v.InferOutput<typeof heartbeatRequest>

/**
 * Actions that wait for this runner, or for any, and why. Oldest first. `recorded`: the heartbeat that the next one may follow;
 * null asks for a full one. `leftOut`: tickets of it that another runner has, or that are too many; they count when they are sent again. The answer to a runner that sends only full ones is 204 when nothing waits.
 */
export const heartbeatResponse = v.object({
  waiting: v.pipe(
    v.array(v.object({ ticket: environmentKey, kind: shortText(64), by: requester, since: time, why: prose(1_000) })),
    v.maxLength(MAX_WAITING_ACTIONS),
  ),
  recorded: v.optional(v.nullable(shortText(64)), null),
  leftOut: v.optional(v.pipe(v.array(environmentKey), v.maxLength(10_000)), []),
})
export type HeartbeatResponse = v.InferOutput<typeof heartbeatResponse>

/** A list of the operator's has at most 100 members. */
const MAX_PROJECTS = 100
/**
 * A runner asks for access to one repository, for one ticket that is pinned to it; or (`ticket` null) to read one that the operator's
 * `pool` names. The answer is 403 (refusedResponse) when the
 * repository does not serve the ticket's project, the ticket is another runner's or has no machine, or there is no credential that
 * may leave the bot. `to: write` needs a token that can write the contents; a token to read may be null: the repository is public.
 */
export const gitTokenRequest = v.object({
  ...{ runnerId, ticket: v.nullable(environmentKey), repo: repository },
  to: v.picklist(['read', 'write']),
})
export type GitTokenRequest = v.InferOutput<typeof gitTokenRequest>
export const gitTokenResponse = v.object({
  /** For HTTP basic authentication with the user `x-access-token`. */
  token: v.nullable(shortText(2_000)),
  /** The web address of the host, for example `https://github.com`. */
  host: shortText(500),
  expiresAt: time,
  /** The projects that the repository serves: by them, a branch names its ticket. Missing: an earlier bot, which does not say. */
  projects: v.optional(v.pipe(v.array(project), v.maxLength(MAX_PROJECTS))),
})
export type GitTokenResponse = v.InferOutput<typeof gitTokenResponse>

/** Any runner may ask where the machine of a ticket is: the answer names a host, and gives access to nothing. */
export const whereRequest = v.object({ runnerId, ticket: environmentKey })
const whereabouts = v.object({
  /** The present key of the ticket. */
  ticket: environmentKey,
  provider: providerName,
  status: environment.entries.status,
  /** The name of its token; null: it has none. */
  runner: v.nullable(shortText(64)),
  host: v.nullable(shortText(255)),
  /** When its runner last reported it. */
  heardAt: time,
  /** Whether the runner that asks has it. Null: an earlier bot, which does not say. */
  yours: v.optional(v.nullable(v.boolean()), null),
})
export type Whereabouts = v.InferOutput<typeof whereabouts>
export const whereResponse = v.object({ machine: v.nullable(whereabouts) })
