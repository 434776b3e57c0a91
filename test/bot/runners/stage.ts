/** The runner API over a store in memory, with a clock that a test moves. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import { openMetrics } from '../../../src/bot/http/metrics.ts'
import { respond } from '../../../src/bot/http/respond.ts'
import { tokenHash } from '../../../src/bot/http/signature.ts'
import { LOOK_MS, openRunnerApi, type RunnerApiOptions } from '../../../src/bot/runners/api.ts'
import type { Action, ActionKind } from '../../../src/schema/action.ts'
import type { Environment } from '../../../src/schema/environment.ts'
import type { HeartbeatRequest, Lease, Offer } from '../../../src/schema/runner-protocol.ts'
import type { NewRequest, StoreLimits } from '../../../src/store/port.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import * as fixtures from '../../store/fixtures.ts'

const TOKEN = 'the-right-token'
export const { START, dev } = fixtures

export const offer = (more: Partial<Offer> = {}): Offer => ({ ...fixtures.offer, ...more })
export const actionOn = (
  ticket: string,
  kind: Extract<ActionKind, 'create' | 'start' | 'stop' | 'restore' | 'delete' | 'status' | 'fork' | 'tell'>,
  more: Partial<Action> = {},
): Action => ({ kind, ticket, by: dev, replyTo: null, ...more }) as Action

export const openRunnerStage = async (options: Partial<RunnerApiOptions> = {}, limits: StoreLimits = {}) => {
  let now = START
  const clock = () => now
  const lines: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  const store = openStore(':memory:', clock, undefined, limits)
  const metrics = openMetrics({ store, rate: () => null, clock })
  const context: RunnerApiOptions = {
    ...{
      store,
      metrics,
      clock,
      sharedToken: TOKEN,
      ownToken: null,
      toJira: true,
      secrets: ['hunter22'],
      log: log as never,
    },
    whyOutdated: async () => null,
    onMessages: () => {},
    git: {
      ...{ access: () => null, projectsNow: async () => [], isPooled: async () => false },
      webUrl: 'https://github.com',
    },
    ...options,
  }
  const api = openRunnerApi(context)
  const server = createServer(async (request, response) => {
    try {
      await api.routes[request.url ?? '']?.(request, response)
    } catch {
      // As the bot's server does.
      respond(response)(503)
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(async () => {
    api.close()
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
    await store.close().catch(() => {})
  })
  const { port } = server.address() as AddressInfo
  /** Runners with a token of their own: every one but `one`, which has the shared token. */
  const tokens = new Map([['one', TOKEN]])
  const tokenOf = async (runner: unknown): Promise<string> => {
    if (typeof runner !== 'string' || !/^[a-z][a-z0-9]*$/.test(runner)) return TOKEN
    const known = tokens.get(runner)
    if (known !== undefined) return known
    const token = `the-token-of-${runner}`
    tokens.set(runner, token)
    const before = now
    now = 0
    await store.runners.heartbeat(fixtures.heartbeatOf([], { runnerId: runner, host: 'new' }))
    now = before
    await store.runnerTokens.add({ name: runner, hash: tokenHash(token), as: runner })
    return token
  }
  type Sent = { token?: string; signal?: AbortSignal }
  const ask = async (name: string, body: unknown, { token, signal }: Sent = {}) =>
    fetch(`http://127.0.0.1:${port}/runner/v1/${name}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token ?? (await tokenOf(typeof body === 'object' && body !== null && 'runnerId' in body ? body.runnerId : null))}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    })
  return {
    url: `http://127.0.0.1:${port}`,
    context,
    store,
    api,
    ask,
    lines,
    messages: () => lines.map(line => JSON.parse(line).msg as string),
    heartbeat: (environments: Environment[] = [], more: Partial<HeartbeatRequest> = {}) =>
      ask('heartbeat', { runnerId: 'one', host: 'studio', version: '1', offer: offer(), environments, ...more }),
    acquire: async (runnerId = 'one', offered = offer()): Promise<Lease> =>
      (await ask('acquire', { runnerId, offer: offered })).json() as Promise<Lease>,
    enqueue: (id: string, action: Action) => store.queue.enqueue({ id, correlation: 'd', action }),
    /** Records the requests of a comment, as deciding its delivery does. */
    record: async (...requests: NewRequest[]) => {
      const id = requests.map(request => request.id).join()
      await store.inbox.accept([{ source: 'github', id, event: 'x', lane: id, body: '{}', receivedAt: now }])
      const [delivery] = await store.inbox.due(1)
      const settlement = { verdict: 'actions', reason: null, actions: [], messages: [], effects: [] } as const
      await store.inbox.settle([{ seq: delivery?.seq ?? 0, ...settlement, requests }])
    },
    pass: (ms: number) => {
      now += ms
    },
    /** Time passes, and the schedule calls the API as it does. */
    looks: async (seconds: number) => {
      for (let passed = 0; passed < seconds * 1000; passed += LOOK_MS) {
        now += LOOK_MS
        await api.look()
      }
    },
  }
}
