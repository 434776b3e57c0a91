/** The runner's side of the bot: work by long-poll, leases, outcomes and heartbeats. Bodies are hostile until parsed, token or not. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import * as v from 'valibot'
import type { Ticket } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { Action, Progress } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { Failure } from '../../schema/failure.ts'
import type { Outcome } from '../../schema/outcome.ts'
import {
  ACQUIRE_WAIT_MS,
  type HeartbeatRequest,
  type HeartbeatResponse,
  LEASE_MS,
  type LeaseResponse,
  MAX_MANUAL_OPERATIONS,
  MAX_WAITING_ACTIONS,
  type ManualOperation,
} from '../../schema/runner-protocol.ts'
import type { ActionRow, Lease, Message, Queue } from '../../store/port.ts'
import { RUNNER_AWAY_MS } from '../../store/sqlite/runners.ts'
import { isToken, jsonObject, readBody, refuse, respond } from '../http/body.ts'
import type { Metrics } from '../http/metrics.ts'
import { openProblemLog } from '../poll-loop.ts'

const LIMIT = 5 * 1024 * 1024
const COMPLAIN_EVERY_MS = 10_000
/** A bot that looked for leases so long ago was away meanwhile. Milliseconds. */
const GAP_MS = LEASE_MS / 2

const text = (most: number) => v.pipe(v.string(), v.maxLength(most))
/** What is told at length is cut: never a reason to lose an outcome. */
const prose = (most: number) =>
  v.pipe(
    v.string(),
    v.transform(told => told.slice(0, most)),
  )
const nullable = <Schema extends v.GenericSchema>(schema: Schema) => v.nullable(schema)
const ssh = v.object({
  host: text(255),
  port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535)),
  user: text(64),
})
const checkpoint = v.object({
  name: v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9-]{0,40}$/)),
  why: v.picklist(['push', 'command', 'before restore']),
  commit: nullable(v.pipe(v.string(), v.regex(/^[0-9a-f]{7,64}$/i))),
  createdAt: text(40),
  withMemory: v.boolean(),
  // A runner of an older version does not tell it.
  sizeBytes: v.optional(nullable(v.pipe(v.number(), v.integer(), v.minValue(0))), null),
})
const requester = v.object({ via: v.picklist(['github', 'jira', 'cli', 'clock']), who: nullable(text(255)) })
const count = v.pipe(v.number(), v.integer(), v.minValue(0))
const ticketKey = v.pipe(v.string(), v.regex(/^[A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6}$/))
const askedByHand: v.GenericSchema<unknown, ManualOperation> = v.object({
  id: count,
  ticket: ticketKey,
  kind: v.picklist(['create', 'start', 'stop', 'restore', 'delete']),
  by: requester,
  at: text(40),
})
const workAtRisk = v.union([
  v.object({
    known: v.literal(true),
    repositories: v.pipe(
      v.array(v.object({ path: text(500), uncommitted: count, untracked: count, stashes: count, unpushed: count })),
      v.maxLength(200),
    ),
  }),
  v.object({ known: v.literal(false), because: prose(2_000) }),
])
const environment: v.GenericSchema<unknown, Environment> = v.object({
  ticket: ticketKey,
  provider: v.picklist(['kvm', 'tart', 'hyperv', 'aws', 'synthetic']),
  vmId: v.pipe(v.string(), v.regex(/^[A-Za-z0-9-]{1,63}$/)),
  ip: nullable(text(64)),
  status: v.picklist(['creating', 'running', 'stopped', 'deleting', 'failed', 'lost']),
  baseImage: text(64),
  createdAt: text(40),
  createdBy: v.optional(requester, { via: 'cli', who: null }),
  ssh: nullable(ssh),
  // Oldest first.
  checkpoints: v.pipe(
    v.array(checkpoint),
    v.transform(all => all.slice(-1_000)),
  ),
  workAtRisk: nullable(workAtRisk),
  observedAt: text(40),
})
// A kind that a newer runner knows and we do not is unknown: never a reason to lose an outcome.
const failure = v.object({
  kind: v.string(),
  message: prose(20_000),
  remedy: nullable(prose(5_000)),
}) as unknown as v.GenericSchema<unknown, Failure>
const outcome: v.GenericSchema<unknown, Outcome> = v.union([
  v.object({
    result: v.literal('done'),
    said: prose(5_000),
    environment: nullable(environment),
    seconds: v.number(),
    kept: v.optional(prose(5_000)),
  }),
  v.object({ result: v.literal('skipped'), because: prose(5_000), environment: nullable(environment) }),
  v.object({ result: v.literal('failed'), failure, environment: nullable(environment) }),
])
const progress: v.GenericSchema<unknown, Progress> = v.object({ phase: prose(200), at: text(40) })
const runnerId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9-]{1,64}$/))
// It holds the id of a delivery, which may hold the name of a branch.
const lease = { id: text(1_000), token: text(64) }

const bodies = {
  acquire: v.object({ runnerId }),
  renew: v.object({ ...lease, progress: nullable(progress) }),
  complete: v.object({ ...lease, outcome }),
  fail: v.object({ ...lease, failure, retry: v.boolean(), environment: nullable(environment) }),
  heartbeat: v.object({
    runnerId,
    host: text(255),
    version: text(64),
    providers: v.pipe(
      v.array(v.object({ name: v.picklist(['kvm', 'tart', 'hyperv', 'aws', 'synthetic']), live: v.boolean() })),
      v.maxLength(10),
    ),
    environments: v.pipe(v.array(environment), v.maxLength(10_000)),
    asked: v.optional(v.pipe(v.array(askedByHand), v.maxLength(MAX_MANUAL_OPERATIONS)), []),
  }),
}

export type RunnerApi = ReturnType<typeof openRunnerApi>

export const openRunnerApi = ({
  queue,
  token,
  clock,
  metrics,
  onOutcome,
  onHeartbeat,
  heldByOther,
  mayNotBegin,
  onMessages,
  dryRun = false,
  log,
}: {
  queue: Queue
  token: string
  clock: () => number
  metrics: Metrics
  /** The messages that an ended action makes: stored with its end, in one transaction. */
  onOutcome: (row: ActionRow, outcome: Outcome) => Message[]
  onHeartbeat: (heartbeat: HeartbeatRequest) => Message[]
  /** The host of the other runner that has the ticket's machine and is not away; null: none. */
  heldByOther: (ticket: Ticket, runnerId: string) => string | null
  /** Asked before an action on the commit of a fork goes out: why it must not, or null. */
  mayNotBegin: (action: Action) => Promise<Failure | null>
  /** There is something to publish. */
  onMessages: () => void
  /** No work is given and none is taken back: a runner that is at it waits for a bot that runs in earnest. */
  dryRun?: boolean
  log: Log
}) => {
  const troubles = openProblemLog(log)
  type Waiting = { runnerId: string; response: ServerResponse; timer: NodeJS.Timeout }
  const waiting = new Set<Waiting>()

  const forget = (one: Waiting) => {
    clearTimeout(one.timer)
    waiting.delete(one)
  }
  /** Gives work to those who wait. A runner that is gone gets none: its lease would only run out. */
  const dispatch = () => {
    for (const one of waiting) {
      if (one.response.destroyed || one.response.socket?.destroyed !== false) {
        forget(one)
        continue
      }
      const lease = queue.claim({ runnerId: one.runnerId })
      if (lease === null) continue
      forget(one)
      const { correlation, id, attempt } = lease
      log.debug({ correlation, action: id, attempt, runner: one.runnerId }, 'leased')
      if (lease.action.onlyAt === undefined) respond(one.response)(200, lease)
      else handOut(lease, one.response).catch(error => log.error({ err: error }, 'an action could not be handed out'))
    }
  }
  /** What hangs on something that others may change is looked at once more, before it goes out. */
  const handOut = async (lease: Lease, response: ServerResponse) => {
    const { id, token } = lease
    const end = (failure: Failure, retry: boolean) => {
      const row = queue.get(id)
      const messages = () => (row === null ? [] : ended(row, { result: 'failed', failure, environment: null }))
      queue.fail(id, token, failure, { retry, environment: null, messages })
      onMessages()
      respond(response)(204)
    }
    try {
      const failure = await mayNotBegin(lease.action)
      if (failure !== null) end(failure, false)
      else if (queue.renew(id, token, null) === 'ok') respond(response)(200, lease)
      else respond(response)(204)
    } catch (error) {
      const failure = failureOf(error, `${lease.action.kind} of ${lease.action.ticket}`)
      log.warn({ correlation: lease.correlation }, failure.message)
      end(failure, true)
    }
  }
  /** Since when the bot is here without a gap: while it was down, or asleep with its machine, nobody could renew a lease. */
  let [hereSince, looked] = [clock(), clock()]
  const reap = () => {
    const now = clock()
    if (now < looked || now - looked > GAP_MS) hereSince = now
    looked = now
    if (now - hereSince >= LEASE_MS && queue.reap(ended) > 0) onMessages()
    if (waiting.size > 0) dispatch()
    for (const [runner, { host, at }] of heard) {
      if (now - Math.max(at, hereSince) <= RUNNER_AWAY_MS) continue
      heard.delete(runner)
      const waits = queue.list({ state: 'pending' }).length
      log.warn({ host, waiting: waits }, 'a runner does not answer any more: what it has to do begins when it is back')
    }
  }

  /** The runners that are here, and when each was heard last. */
  const heard = new Map<string, { host: string; at: number }>()
  const hear = ({ runnerId, host, version }: v.InferOutput<typeof bodies.heartbeat>) => {
    if (!heard.has(runnerId)) log.info({ host, version }, 'a runner is here')
    heard.set(runnerId, { host, at: clock() })
  }
  let refused = { said: Number.NEGATIVE_INFINITY, count: 0 }
  const wrongToken = (request: IncomingMessage) => {
    refused.count += 1
    if (performance.now() - refused.said < COMPLAIN_EVERY_MS) return
    const { count } = refused
    log.warn({ from: request.socket.remoteAddress, count }, 'requests with a wrong runner token were refused')
    refused = { said: performance.now(), count: 0 }
  }

  const ended = (row: ActionRow, result: Outcome): Message[] => {
    metrics.action(row.action.kind, result.result, clock() - row.createdAt)
    const { correlation, id, action } = row
    const because =
      result.result === 'skipped' ? result.reason : result.result === 'failed' ? result.failure.message : null
    log.info(
      { correlation, action: id, kind: action.kind, ticket: action.ticket, result: result.result, because },
      'has its outcome',
    )
    return onOutcome(row, result)
  }

  /** What is queued for a runner, or for any, and why it is not under way. */
  const waitingFor = (runnerId: string): HeartbeatResponse['waiting'] => {
    const active = new Map(queue.list({ state: 'active' }).map(({ action }) => [action.ticket, action]))
    const now = clock()
    return queue
      .list({ state: 'pending' })
      .filter(({ action }) => [null, runnerId].includes(queue.pinnedTo(action.ticket)))
      .slice(0, MAX_WAITING_ACTIONS)
      .map(({ action, createdAt, notBefore }) => {
        const ahead = active.get(action.ticket)
        const why =
          ahead !== undefined
            ? `${ahead.kind} of the same ticket is under way`
            : notBefore > now
              ? `it is tried again at ${new Date(notBefore).toISOString()}`
              : 'everything that may run at once is running'
        return {
          ticket: action.ticket,
          kind: action.kind,
          by: action.by,
          since: new Date(createdAt).toISOString(),
          why,
        }
      })
  }

  /** A ticket stays with its runner: what another one tells of it is left out, and told in the log. */
  const ofItsOwn = ({ runnerId, host, environments, asked }: v.InferOutput<typeof bodies.heartbeat>) => {
    const holders = new Map([...environments, ...asked].map(({ ticket }) => [ticket, heldByOther(ticket, runnerId)]))
    const isIts = ({ ticket }: { ticket: Ticket }) => holders.get(ticket) === null
    for (const { ticket, vmId } of environments) {
      const holder = holders.get(ticket) ?? null
      const doing = `${ticket} on ${host}`
      troubles(
        doing,
        holder === null
          ? null
          : {
              message: `${doing}: ${vmId} is left alone, since the runner on ${holder} has the machine of this ticket`,
              remedy: `Delete one of the two, on its own host: agent-swarm delete ${ticket}`,
            },
      )
    }
    return { environments: environments.filter(isIts), asked: asked.filter(isIts) }
  }

  /** Refuses what an outcome tells of a ticket that its action is not about. */
  const isOfOther = (row: ActionRow | null, environment: Environment | null, response: ServerResponse): boolean => {
    if (row === null || environment === null || environment.ticket === row.action.ticket) return false
    respond(response)(400, { error: `an action on ${row.action.ticket} has no outcome for ${environment.ticket}` })
    return true
  }

  const routes = {
    acquire: (body: v.InferOutput<typeof bodies.acquire>, response: ServerResponse) => {
      const one: Waiting = {
        runnerId: body.runnerId,
        response,
        timer: setTimeout(() => {
          forget(one)
          respond(response)(204)
        }, ACQUIRE_WAIT_MS),
      }
      response.on('close', () => forget(one))
      waiting.add(one)
      dispatch()
    },
    renew: (body: v.InferOutput<typeof bodies.renew>, response: ServerResponse) =>
      respond(response)(200, { lease: queue.renew(body.id, body.token, body.progress) } satisfies LeaseResponse),
    complete: (body: v.InferOutput<typeof bodies.complete>, response: ServerResponse) => {
      const row = queue.get(body.id)
      if (isOfOther(row, body.outcome.environment, response)) return
      const lease =
        row === null ? 'lost' : queue.complete(body.id, body.token, body.outcome, () => ended(row, body.outcome))
      respond(response)(200, { lease } satisfies LeaseResponse)
      onMessages()
      dispatch()
    },
    fail: (body: v.InferOutput<typeof bodies.fail>, response: ServerResponse) => {
      const row = queue.get(body.id)
      if (isOfOther(row, body.environment, response)) return
      const { failure, retry, environment } = body
      const result: Outcome = { result: 'failed', failure, environment }
      const lease =
        row === null
          ? 'lost'
          : queue.fail(body.id, body.token, failure, { retry, environment, messages: () => ended(row, result) })
      respond(response)(200, { lease } satisfies LeaseResponse)
      onMessages()
      dispatch()
    },
    heartbeat: (told: v.InferOutput<typeof bodies.heartbeat>, response: ServerResponse) => {
      hear(told)
      const body = { ...told, ...ofItsOwn(told) }
      const tickets = new Set(body.environments.map(one => one.ticket))
      for (const ticket of tickets) if (queue.pinnedTo(ticket) !== body.runnerId) queue.pin(ticket, body.runnerId)
      // A ticket whose machine is gone may be made anew anywhere, once nothing of it is under way.
      for (const ticket of queue.pinsOf(body.runnerId)) {
        if (
          !tickets.has(ticket) &&
          !queue.list({ ticket }).some(row => row.state === 'pending' || row.state === 'active')
        )
          queue.unpin(ticket)
      }
      const messages = onHeartbeat(body)
      if (messages.length > 0) {
        queue.outbox.put(messages)
        onMessages()
      }
      const waits = waitingFor(body.runnerId)
      if (waits.length === 0) respond(response)(204)
      else respond(response)(200, { waiting: waits } satisfies HeartbeatResponse)
    },
  }

  const handle =
    <Name extends keyof typeof bodies>(name: Name) =>
    (request: IncomingMessage, response: ServerResponse) => {
      const given = request.headers.authorization?.match(/^Bearer (\S{1,512})$/)?.[1]
      if (given === undefined || !isToken(token, given)) {
        wrongToken(request)
        refuse(request, response, 401, 'the runner token is not the one that the bot knows')
        return
      }
      if (dryRun && name !== 'heartbeat') {
        refuse(request, response, 503, 'this bot runs with --dry-run: it gives no work and takes none back')
        return
      }
      readBody(
        request,
        response,
        LIMIT,
        body => {
          const parsed = v.safeParse(bodies[name], jsonObject(body.toString('utf8')))
          if (!parsed.success) {
            const [issue] = parsed.issues
            respond(response)(400, { error: `${name}: ${v.getDotPath(issue) ?? 'body'}: ${issue.message}` })
            return
          }
          const route = routes[name] as (body: unknown, response: ServerResponse) => void
          route(parsed.output, response)
        },
        error => log.error({ err: error }, `${name} of a runner could not be done; it was told so`),
      )
    }

  return {
    handle,
    names: Object.keys(bodies) as (keyof typeof bodies)[],
    dispatch,
    reap,
    /** Lets the pollers go. */
    close: () => {
      for (const one of waiting) {
        forget(one)
        respond(one.response)(204)
      }
    },
  }
}
