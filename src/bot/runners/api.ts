/** The runner API: work by long poll, leases, outcomes and heartbeats. Bodies are hostile until they are parsed, token or not. */
import type { ServerResponse } from 'node:http'
import * as v from 'valibot'
import type { Ticket } from '../../domain.ts'
import type { Environment } from '../../schema/environment.ts'
import {
  acquireRequest,
  completeRequest,
  failRequest,
  type HeartbeatRequest,
  type HeartbeatResponse,
  heartbeatRequest,
  type LeaseResponse,
  renewRequest,
} from '../../schema/runner-protocol.ts'
import type { ActionRow } from '../../store/port.ts'
import { jsonObject, readBody } from '../http/body.ts'
import { openRefusalLog } from '../http/refusal-log.ts'
import { type Handle, refuse, respond } from '../http/respond.ts'
import { isBearer } from '../http/signature.ts'
import { type DispatchContext, type Dispatcher, openDispatcher } from './dispatch.ts'
import { openLeaseWatch } from './leases.ts'
import { completeAction, failAction } from './outcomes.ts'
import { openPresence, waitingFor } from './presence.ts'

const BODY_LIMIT = 5 * 1024 * 1024

export const LOOK_MS = 500

export type RunnerApi = {
  /** By path. */
  routes: Readonly<Record<string, Handle>>
  /** There may be work for a runner that waits. */
  dispatch(): void
  /** Looks after leases and runners. The schedule calls it every LOOK_MS. */
  look(): Promise<void>
  /** Lets waiting runners go. */
  close(): void
}
export type RunnerApiOptions = DispatchContext & {
  /** The runners' bearer token. */
  token: string
  /** No work is given, and none is taken back: a runner that is at work waits for a real bot. */
  dryRun?: boolean
}
type Context = RunnerApiOptions & { dispatcher: Dispatcher; presence: ReturnType<typeof openPresence> }

// ── The end of a lease ──

/** An outcome is about its action's ticket, which may have another key since the issue was moved. */
const isAbout = async ({ store }: Context, row: ActionRow, ticket: Ticket): Promise<boolean> =>
  row.action.ticket === ticket ||
  (await store.tickets.current(row.action.ticket)) === (await store.tickets.current(ticket))

/** Answers with what `end` gives. An unknown action is `lost`. */
const endLease = async (
  context: Context,
  { id, environment }: { id: string; environment: Environment | null },
  response: ServerResponse,
  end: (row: ActionRow) => Promise<LeaseResponse['lease']>,
): Promise<void> => {
  const row = await context.store.queue.get(id)
  if (row !== null && environment !== null && !(await isAbout(context, row, environment.ticket)))
    return respond(response)(400, {
      error: `an action on ${row.action.ticket} cannot have an outcome for ${environment.ticket}`,
    })
  const lease = row === null ? 'lost' : await end(row)
  respond(response)(200, { lease } satisfies LeaseResponse)
  context.dispatcher.dispatch()
}

const heartbeat = async (context: Context, body: HeartbeatRequest, response: ServerResponse): Promise<void> => {
  const { store, presence, dispatcher, clock, onMessages } = context
  presence.record(body, clock())
  const { changed, heldElsewhere } = await store.runners.heartbeat(body)
  presence.conflicts(body, heldElsewhere)
  if (changed.length > 0) onMessages()
  dispatcher.update(body.runnerId, body.offer)
  const waiting = await waitingFor(store, body, clock())
  if (waiting.length === 0) respond(response)(204)
  else respond(response)(200, { waiting } satisfies HeartbeatResponse)
}

// ── Routes ──

const routesOf = (context: Context): Record<string, Handle> => {
  const { token, dryRun = false, store, dispatcher, log } = context
  const warnRefused = openRefusalLog(log, 'requests with a wrong runner token were refused')
  const warnUnknown = openRefusalLog(
    log,
    'requests of a runner were not understood; nothing of them was taken. Install the same version of agent-swarm on its host',
  )
  const route =
    <Schema extends v.GenericSchema>(
      schema: Schema,
      run: (body: v.InferOutput<Schema>, response: ServerResponse) => void | Promise<void>,
      inDryRun = false,
    ): Handle =>
    async (request, response) => {
      if (!isBearer(token, request.headers.authorization)) {
        warnRefused(request)
        return refuse(request, response, 401, "the runner token differs from the bot's")
      }
      if (dryRun && !inDryRun)
        return refuse(request, response, 503, 'this bot runs with --dry-run: it gives no work and takes none back')
      const body = await readBody(request, response, BODY_LIMIT)
      if (body === null) return
      const parsed = v.safeParse(schema, jsonObject(body.toString('utf8')))
      if (parsed.success) return run(parsed.output, response)
      const [issue] = parsed.issues
      warnUnknown(request, { path: request.url, member: v.getDotPath(issue) ?? 'body' })
      respond(response)(400, { error: `${v.getDotPath(issue) ?? 'body'}: ${issue.message}` })
    }
  return {
    '/runner/v1/acquire': route(acquireRequest, (body, response) => dispatcher.wait(body, response)),
    '/runner/v1/renew': route(renewRequest, async ({ id, token, progress }, response) => {
      const lease = await store.queue.renew(id, token, progress)
      respond(response)(200, { lease } satisfies LeaseResponse)
    }),
    '/runner/v1/complete': route(completeRequest, ({ id, token, outcome }, response) =>
      endLease(context, { id, environment: outcome.environment }, response, row =>
        completeAction(context, row, token, outcome),
      ),
    ),
    '/runner/v1/fail': route(failRequest, ({ id, token, ...failed }, response) =>
      endLease(context, { id, environment: failed.environment }, response, row =>
        failAction(context, row, token, failed),
      ),
    ),
    '/runner/v1/heartbeat': route(heartbeatRequest, (body, response) => heartbeat(context, body, response), true),
  }
}

export const openRunnerApi = (options: RunnerApiOptions): RunnerApi => {
  const { store, clock, log } = options
  const dispatcher = openDispatcher(options)
  const presence = openPresence(log)
  const leases = openLeaseWatch(options)
  return {
    routes: routesOf({ ...options, dispatcher, presence }),
    dispatch: dispatcher.dispatch,
    look: async () => {
      await leases.look()
      await presence.look(store, clock(), leases.hereSince())
      dispatcher.dispatch()
    },
    close: dispatcher.close,
  }
}
