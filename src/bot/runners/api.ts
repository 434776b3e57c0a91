/** The runner API: work by long poll, leases, outcomes and heartbeats. Bodies are hostile until they are parsed, token or not. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import * as v from 'valibot'
import type { Ticket } from '../../domain.ts'
import type { Environment } from '../../schema/environment.ts'
import {
  acquireRequest,
  completeRequest,
  failRequest,
  gitTokenRequest,
  type HeartbeatRequest,
  type HeartbeatResponse,
  heartbeatRequest,
  type LeaseResponse,
  renewRequest,
  whereRequest,
  type whereResponse,
} from '../../schema/runner-protocol.ts'
import type { ActionRow } from '../../store/port.ts'
import { jsonObject, readBody } from '../http/body.ts'
import { openRefusalLog } from '../http/refusal-log.ts'
import { type Handle, refuse, respond } from '../http/respond.ts'
import { whereIs } from '../whereabouts.ts'
import { type DispatchContext, type Dispatcher, openDispatcher } from './dispatch.ts'
import { type GitTokenOptions, giveGitToken } from './git-token.ts'
import { type IdentityOptions, openIdentity } from './identity.ts'
import { openLeaseWatch } from './leases.ts'
import { completeAction, failAction } from './outcomes.ts'
import { openPresence, waitingFor } from './presence.ts'

const BODY_LIMIT = 5 * 1024 * 1024
/** A heartbeat of 10,000 environments with fifteen checkpoints each. */
const HEARTBEAT_LIMIT = 32 * 1024 * 1024
/** Bytes for all bodies that are arriving and are not small. */
const BUDGET = 128 * 1024 * 1024

export const LOOK_MS = 500
/** The newest tokens that were given: their texts are taken out of what runners report. */
const MAX_HIDDEN = 200

export type RunnerApi = {
  /** By path. */
  routes: Readonly<Record<string, Handle>>
  /** There may be work for a runner that waits. */
  dispatch(): void
  /** Looks after leases and runners. Returns when it has to be called again, in milliseconds, unless `lookSoon` is called. */
  look(): Promise<number>
  /** A runner's token was revoked: its open requests end at once. */
  revoke(runnerId: string): void
  /** Since when every runner that is there could report: the bot has run without a gap, epoch ms. */
  hereSince(): number
  /** Lets waiting runners go. */
  close(): void
}
export type RunnerApiOptions = DispatchContext &
  IdentityOptions & {
    /** No work is given, and none is taken back: a runner that is at work waits for a real bot. */
    dryRun?: boolean
    git: GitTokenOptions
    /** A look is due within LOOK_MS: a lease was given or has ended, or a runner has come. */
    lookSoon?: () => void
  }
type Context = RunnerApiOptions & {
  dispatcher: Dispatcher
  presence: ReturnType<typeof openPresence>
  /** Runners whose heartbeat is being written; the signal aborts when the token is revoked. */
  beating: Map<string, AbortController>
  hide: (secret: string) => void
}

// ── The end of a lease ──

/** An outcome is about its action's ticket, which may have another key since the issue was moved. */
const isAbout = async ({ store }: Context, row: ActionRow, ticket: Ticket): Promise<boolean> =>
  row.action.ticket === ticket ||
  (await store.tickets.current(row.action.ticket)) === (await store.tickets.current(ticket))

/** The action that this runner holds a lease of, or held; null when it is another runner's, or nobody's. */
const heldBy = async ({ store }: Context, runnerId: string, id: string): Promise<ActionRow | null> => {
  const row = await store.queue.get(id)
  return row?.runnerId === runnerId ? row : null
}

/** Answers with what `end` gives. The action of another runner is `lost`, and so is an unknown one. */
const endLease = async (
  context: Context,
  runnerId: string,
  { id, environment }: { id: string; environment: Environment | null },
  response: ServerResponse,
  end: (row: ActionRow) => Promise<LeaseResponse['lease']>,
): Promise<void> => {
  const row = await heldBy(context, runnerId, id)
  if (row !== null && environment !== null && !(await isAbout(context, row, environment.ticket)))
    return respond(response)(400, {
      error: `an action on ${row.action.ticket} cannot have an outcome for ${environment.ticket}`,
    })
  const lease = row === null ? 'lost' : await end(row)
  respond(response)(200, { lease } satisfies LeaseResponse)
  context.dispatcher.dispatch()
}

const heartbeat = async (context: Context, body: HeartbeatRequest, response: ServerResponse): Promise<void> => {
  const { store, presence, dispatcher, clock, onMessages, beating, lookSoon } = context
  const { runnerId } = body
  if (beating.has(runnerId))
    return respond(response)(429, { error: 'the previous heartbeat of this runner is still being written' })
  const controller = new AbortController()
  beating.set(runnerId, controller)
  try {
    if (!presence.follows(body))
      return respond(response)(200, { waiting: [], recorded: null, leftOut: [] } satisfies HeartbeatResponse)
    if (presence.record(body, clock())) lookSoon?.()
    presence.recorded(runnerId, null)
    const isStopped = () => controller.signal.aborted
    const { changed, heldElsewhere, tooMany, isUnsure } = await store.runners.heartbeat(body, isStopped)
    presence.conflicts(body, heldElsewhere)
    presence.tooMany(body, tooMany)
    if (changed.length > 0) onMessages()
    if (controller.signal.aborted) return respond(response)(401, { error: 'the token was revoked' })
    dispatcher.update(runnerId, body.offer)
    const waiting = await waitingFor(store, body, clock())
    // It is looked at again when its other holder is gone: the runner sends it again and again.
    const leftOut = [...heldElsewhere.map(({ ticket }) => ticket), ...tooMany]
    // The runner sends all of it again: what is missing in that one too is gone.
    const recorded = isUnsure ? null : (body.id ?? null)
    presence.recorded(runnerId, recorded)
    if (waiting.length === 0 && body.id === undefined) respond(response)(204)
    else respond(response)(200, { waiting, recorded, leftOut } satisfies HeartbeatResponse)
  } finally {
    beating.delete(runnerId)
  }
}

// ── Routes ──

/** The installation that a body names. */
const instanceIn = (body: unknown): string | null =>
  typeof body === 'object' && body !== null && 'runnerId' in body && typeof body.runnerId === 'string'
    ? body.runnerId
    : null

type Run<Schema extends v.GenericSchema> = (
  body: v.InferOutput<Schema>,
  runnerId: string,
  response: ServerResponse,
  request: IncomingMessage,
) => void | Promise<void>

const routesOf = (context: Context): Record<string, Handle> => {
  const { dryRun = false, store, dispatcher, log } = context
  const { admit, identify, isOwn } = openIdentity(context)
  const budget = { left: BUDGET }
  const warnUnknown = openRefusalLog(
    log,
    'requests of a runner were not understood; nothing of them was taken. Install the same version of agent-swarm on its host',
  )
  const route =
    <Schema extends v.GenericSchema>(
      schema: Schema,
      run: Run<Schema>,
      { inDryRun = false, limit = BODY_LIMIT } = {},
    ): Handle =>
    async (request, response) => {
      // Node keeps the text of the date for the rest of its second, and wakes up at the end of that.
      response.sendDate = false
      if (!(await admit(request, response))) return
      if (dryRun && !inDryRun)
        return refuse(request, response, 503, 'this bot runs with --dry-run: it gives no work and takes none back')
      const body = await readBody(request, response, limit, budget)
      if (body === null) return
      const parsed = v.safeParse(schema, jsonObject(body.toString('utf8')), { abortEarly: true })
      if (!parsed.success) {
        const [issue] = parsed.issues
        warnUnknown(request, { path: request.url, member: v.getDotPath(issue) ?? 'body' })
        return respond(response)(400, { error: `${v.getDotPath(issue) ?? 'body'}: ${issue.message}`.slice(0, 1_000) })
      }
      // After the body has arrived: a token that was revoked meanwhile counts no more.
      const runnerId = await identify(request, response, instanceIn(parsed.output))
      if (runnerId !== null) return run(parsed.output, runnerId, response, request)
    }
  return {
    '/runner/v1/acquire': route(acquireRequest, (body, runnerId, response) =>
      dispatcher.wait({ ...body, runnerId }, response),
    ),
    '/runner/v1/renew': route(renewRequest, async ({ id, token, progress }, runnerId, response) => {
      const isHeld = (await heldBy(context, runnerId, id)) !== null
      const lease = isHeld ? await store.queue.renew(id, token, progress) : 'lost'
      respond(response)(200, { lease } satisfies LeaseResponse)
    }),
    '/runner/v1/complete': route(completeRequest, ({ id, token, outcome }, runnerId, response) =>
      endLease(context, runnerId, { id, environment: outcome.environment }, response, row =>
        completeAction(context, row, token, outcome),
      ),
    ),
    '/runner/v1/fail': route(failRequest, ({ id, token, ...failed }, runnerId, response) =>
      endLease(context, runnerId, { id, environment: failed.environment }, response, row =>
        failAction(context, row, token, failed),
      ),
    ),
    '/runner/v1/git-token': route(gitTokenRequest, (body, runnerId, response, request) =>
      giveGitToken({ ...context, ...context.git }, body, runnerId, isOwn(request), response),
    ),
    '/runner/v1/where': route(
      whereRequest,
      async ({ ticket }, runnerId, response) => {
        const machine = await whereIs(store, ticket, runnerId)
        respond(response)(200, { machine } satisfies v.InferOutput<typeof whereResponse>)
      },
      { inDryRun: true },
    ),
    '/runner/v1/heartbeat': route(
      heartbeatRequest,
      (body, runnerId, response) => heartbeat(context, { ...body, runnerId }, response),
      { inDryRun: true, limit: HEARTBEAT_LIMIT },
    ),
  }
}

export const openRunnerApi = (given: RunnerApiOptions): RunnerApi => {
  const secrets = [...given.secrets]
  const hide = (secret: string) => {
    if (secrets.includes(secret)) return
    secrets.push(secret)
    if (secrets.length > given.secrets.length + MAX_HIDDEN) secrets.splice(given.secrets.length, 1)
  }
  const options = { ...given, secrets }
  const { store, clock, log } = options
  const lookSoon = options.lookSoon ?? (() => {})
  const inner = openDispatcher({ ...options, onLease: lookSoon })
  const dispatcher: Dispatcher = {
    ...inner,
    dispatch: () => {
      inner.dispatch()
      lookSoon()
    },
  }
  const presence = openPresence(log)
  const leases = openLeaseWatch(options)
  const beating = new Map<string, AbortController>()
  return {
    routes: routesOf({ ...options, dispatcher, presence, beating, hide }),
    dispatch: dispatcher.dispatch,
    hereSince: leases.hereSince,
    look: async () => {
      await leases.look()
      await presence.look(store, clock(), leases.hereSince())
      inner.dispatch()
      return leases.nextLook(presence.nextLook(clock()))
    },
    revoke: runnerId => {
      beating.get(runnerId)?.abort()
      dispatcher.drop(runnerId)
    },
    close: dispatcher.close,
  }
}
