/**
 * The way to a model, behind the link: what a machine asks for on its port 17702. The key is added here, tokens are counted here
 * from what the maker reports, and the budget holds here, whatever the machine does. Bodies are neither kept nor logged.
 */
import { type IncomingMessage, request as openRequest, type ServerResponse } from 'node:http'
import { request as openTlsRequest } from 'node:https'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { failureOf } from '../../errors.ts'
import type { AgentRow, AgentUse, Registry } from '../../registry/registry.ts'
import type { OperatorAgent } from '../../schema/workspace.ts'
import type { LinkedMachine } from '../link/types.ts'
import { type Api, anthropic, apisOf, openai, type Route, requestHeaders, responseHeaders, routeOf } from './apis.ts'
import { keyFile, modelKey } from './keys.ts'
import { costOf } from './prices.ts'
import { mostOutput, openUsageCounter, totalTokens, type Usage } from './usage.ts'

/** Requests of one machine at once. */
const MAX_CONCURRENT = 8
/** Bytes; what Anthropic takes at most. */
const MAX_REQUEST = 32 * 1024 * 1024
/** Milliseconds for one answer, from its request to its last byte. */
const DEADLINE_MS = 10 * 60_000

export type ModelGatewayContext = {
  home: string
  registry: Pick<Registry, 'agent' | 'agentUse' | 'payAgent' | 'restoredSince'>
  config: { agent: OperatorAgent | null }
  /** Why no agent of this runner may use a model now; null: they may. */
  closed?: () => string | null
  /** Called when a run may have used up its budget. */
  onUse?: () => void
  /** For a report without bodies and keys. */
  warn?: (fields: { ticket: string; status: number }, message: string) => void
}

/** What a run's programs send instead of a key. It names the run and is no secret: a request without it is not the agent's. */
export const placeholderKey = (run: string): string => `agent-swarm-run-${run}`

type Refusal = { status: number; message: string; after?: number }

export const overBudget = ({ tokens, usd }: AgentUse, limits: AgentRow['progress']['limits']): string | null => {
  if (limits === null) return null
  if (tokens >= limits.tokens)
    return `the agents of this ticket have used ${tokens} tokens, and their budget is ${limits.tokens}`
  if (limits.usd !== null && usd >= limits.usd)
    return `the agents of this ticket have cost ${usd.toFixed(2)} US dollars, and their budget is ${limits.usd}`
  return null
}

const sentKey = ({ headers }: IncomingMessage): string | null => {
  const apiKey = headers['x-api-key']
  if (typeof apiKey === 'string') return apiKey
  return /^Bearer (.{1,500})$/i.exec(headers.authorization ?? '')?.[1] ?? null
}

/** Null: this request may pass. */
const refusalOf = (
  { registry, closed = () => null }: ModelGatewayContext,
  { ticket }: LinkedMachine,
  request: IncomingMessage,
  route: Route | null,
): Refusal | null => {
  const why = closed()
  if (why !== null) return { status: 403, message: why }
  const row = registry.agent(ticket)
  if (row === null || row.state !== 'running' || row.progress.ending !== null)
    return { status: 403, message: 'no agent is at work in this machine, and the model is there for its agent alone' }
  // A restore brings back a program that does not know it was restored. The runner replaces it by one that does.
  if (registry.restoredSince(ticket, row.progress.operation) !== null)
    return { status: 403, message: 'the machine was restored, and its agent is started again' }
  if (sentKey(request) !== placeholderKey(row.run))
    return { status: 403, message: `this is not a request of the agent's present run (${row.run})` }
  if (route === null) return { status: 404, message: 'the gateway of agent-swarm does not pass this request on' }
  if (!apisOf[row.use].includes(route.api.name))
    return {
      status: 403,
      message: `the agent of this machine is ${row.use}: it may not use the API of ${route.api.name}`,
    }
  const over = overBudget(registry.agentUse(ticket), row.progress.limits)
  // 400: both agents take it for final. They try again after most others.
  return over === null ? null : { status: 400, message: `out of budget: ${over}` }
}

const answer = (response: ServerResponse, api: Api, { status, message, after }: Refusal): void => {
  if (response.headersSent) return void response.destroy()
  response.writeHead(status, {
    'content-type': 'application/json',
    // The body of the request may not have been read.
    connection: 'close',
    ...(after === undefined ? {} : { 'retry-after': String(after) }),
  })
  response.end(JSON.stringify(api.error(status, `agent-swarm: ${message}`)))
}

/** Passes bytes on and counts them; more than `limit` is an error. */
const counted = (limit: number, onBytes: (chunk: Buffer) => void) => {
  let bytes = 0
  const stream = new Transform({
    transform: (chunk: Buffer, _, done) => {
      bytes += chunk.length
      if (bytes > limit) return done(new Error(`more than ${limit} bytes`))
      onBytes(chunk)
      done(null, chunk)
    },
  })
  return { stream, bytes: () => bytes }
}

const record = ({ registry, onUse }: ModelGatewayContext, { ticket }: LinkedMachine, api: Api, usage: Usage): void => {
  registry.payAgent(ticket, {
    tokens: totalTokens(usage),
    usd: api.name === 'anthropic' ? costOf(usage) : null,
  })
  onUse?.()
}

/** An answer of the maker that the machine gets in other words: it may quote the key, or lead elsewhere. */
const replaced = (home: string, api: Api, status: number): Refusal | null => {
  if (status === 401 || status === 403)
    return {
      status,
      message: `the API of ${api.name} does not accept this host's key. The operator has to look at ${keyFile(home, api.name)}`,
    }
  return status >= 300 && status < 400
    ? { status: 502, message: `the API of ${api.name} redirects to another address, which is refused` }
    : null
}

/** Bytes of a maker's error that are passed on. */
const MAX_ERROR = 64 * 1024

/** The start of an error's text. Whatever quotes the key, a server at `agent.modelUrl` for example, quotes it no further. */
const errorText = async (upstream: IncomingMessage, key: string): Promise<string> => {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of upstream) {
    parts.push(part)
    bytes += part.length
    if (bytes > MAX_ERROR) break
  }
  return Buffer.concat(parts).toString('utf8').replaceAll(key, '[redacted]').slice(0, MAX_ERROR)
}

/** Bytes of a request that are kept until its answer is whole; of a longer one, its own bound is not known. */
const MAX_KEPT = 1024 * 1024

/** Keeps the start of a request. */
const openKept = () => {
  let parts: Buffer[] = []
  let bytes = 0
  return {
    add: (chunk: Buffer): void => {
      bytes += chunk.length
      if (bytes <= MAX_KEPT) parts.push(chunk)
      else parts = []
    },
    /** Empty when it was too long. */
    text: () => Buffer.concat(parts).toString('utf8'),
  }
}

/**
 * Tokens that the model may write after an answer was cut off, as `openUsageCounter` takes them. OpenAI's model goes on in the
 * background when the request says so. The answer repeats that: without it, it may be so.
 */
const outOfSight = ({ api, path }: Route, request: IncomingMessage, isBegun: boolean, text: () => string) => {
  // A maker answers no request that did not arrive as a whole.
  if (api.name !== 'openai' || !request.complete) return null
  const isResponse = path.startsWith('/v1/responses')
  if (isBegun && !isResponse) return null
  return mostOutput(isResponse ? text() : '')
}

/**
 * Resolves when the answer begins. Not by the built-in fetch: that gives up after 300 s without a byte (`headersTimeout` and
 * `bodyTimeout` of its undici), while the maker still works, and bills.
 */
const send = (
  context: ModelGatewayContext,
  { api, path }: Route,
  request: IncomingMessage,
  key: string,
  body: Transform | null,
  signal: AbortSignal,
): Promise<IncomingMessage> => {
  const url = new URL(path, context.config.agent?.modelUrl ?? api.origin)
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const options = {
    ...{ method: request.method ?? 'GET', signal },
    headers: { ...requestHeaders(request.headers), 'accept-encoding': 'identity', ...api.credential(key) },
    // A connection of its own: the maker may close one that was kept at the moment of its next use.
    agent: false,
  }
  const upstream = (url.protocol === 'https:' ? openTlsRequest : openRequest)(url, options, resolve)
  // Says whether the machine left or the deadline came.
  upstream.on('error', error => reject(signal.aborted ? signal.reason : error))
  if (body === null) upstream.end()
  else pipeline(body, upstream).catch(reject)
  return promise
}

const forward = async (
  context: ModelGatewayContext,
  machine: LinkedMachine,
  route: Route,
  [request, response]: [IncomingMessage, ServerResponse],
  closing: AbortSignal,
): Promise<void> => {
  const { api } = route
  const key = modelKey(context.home, api.name)
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const signal = AbortSignal.any([gone.signal, closing, AbortSignal.timeout(DEADLINE_MS)])
  const kept = openKept()
  const sent = counted(MAX_REQUEST, kept.add)
  const hasBody = request.method === 'POST'
  // How the request's body ends shows in the answer to it.
  if (hasBody) void pipeline(request, sent.stream).catch(() => {})
  const mayCost = hasBody && !route.path.includes('/count_tokens')
  const began = performance.now()
  let usage = openUsageCounter(false)
  let isAnswered: boolean | null = null
  let isWhole = false
  try {
    const upstream = await send(context, route, request, key, hasBody ? sent.stream : null, signal)
    const { statusCode: status = 502, headers } = upstream
    isAnswered = status >= 200 && status < 300
    usage = openUsageCounter(headers['content-type']?.includes('event-stream') ?? false)
    const refusal = replaced(context.home, api, status)
    if (refusal !== null) {
      upstream.destroy()
      context.warn?.({ ticket: machine.ticket, status }, refusal.message)
      return answer(response, api, refusal)
    }
    response.writeHead(status, responseHeaders(headers))
    if (!isAnswered) return void response.end(await errorText(upstream, key))
    const passing = counted(Number.POSITIVE_INFINITY, usage.read)
    await pipeline(upstream, passing.stream, response, { signal })
    isWhole = true
  } finally {
    // A machine that leaves before the answer begins pays, too: the maker has its request, and may be at work on it.
    const isDue = isAnswered ?? (gone.signal.aborted || signal.reason?.name === 'TimeoutError')
    if (mayCost && isDue) {
      const seconds = (performance.now() - began) / 1000
      const unseen = isWhole ? null : outOfSight(route, request, isAnswered !== null, kept.text)
      record(context, machine, api, usage.end({ requestBytes: sent.bytes(), seconds, outOfSight: unseen }))
    }
  }
}

/** `handle` answers everything itself, and throws nothing. `close` ends what is under way. */
export const openModelGateway = (context: ModelGatewayContext) => {
  const closing = new AbortController()
  const active = new Map<string, number>()
  const handle = async (machine: LinkedMachine, request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = 'GET', url = '/' } = request
    // Claude Code asks whether its address answers.
    if ((method === 'HEAD' || method === 'GET') && url === '/') return void response.writeHead(200).end()
    const route = routeOf(method, url, 'anthropic-version' in request.headers)
    const api = route?.api ?? ('anthropic-version' in request.headers ? anthropic : openai)
    const running = active.get(machine.vmId) ?? 0
    const refusal =
      refusalOf(context, machine, request, route) ??
      (running >= MAX_CONCURRENT
        ? { status: 429, message: `${running} requests of this machine are under way`, after: 1 }
        : null)
    if (refusal !== null || route === null)
      return answer(response, api, refusal ?? { status: 404, message: 'unknown request' })
    active.set(machine.vmId, running + 1)
    try {
      await forward(context, machine, route, [request, response], closing.signal)
    } catch (error) {
      const { kind, message, remedy } = failureOf(error, `reaching the API of ${api.name}`)
      const status = kind === 'not-configured' ? 401 : 502
      context.warn?.({ ticket: machine.ticket, status }, message)
      answer(response, api, { status, message: remedy === null ? message : `${message}. ${remedy}` })
    } finally {
      const left = (active.get(machine.vmId) ?? 1) - 1
      if (left > 0) active.set(machine.vmId, left)
      else active.delete(machine.vmId)
    }
  }
  return { handle, close: () => closing.abort() }
}
