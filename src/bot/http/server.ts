/**
 * The bot's HTTP server. A webhook is verified over its raw body, written to the inbox with all others that came in the
 * same turn, and answered; everything else happens later. A 2xx means that the delivery is on disk.
 */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import FindMyWay from 'find-my-way'
import { fail, failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { Delivery, Queue } from '../../store/port.ts'
import type { RunnerApi } from '../runners/api.ts'
import { type BodyBudget, isSigned, jsonObject, readBody, refuse, respond } from './body.ts'
import type { Metrics } from './metrics.ts'

/** GitHub caps its payloads at 25 MB. */
const GITHUB_LIMIT = 25 * 1024 * 1024
const JIRA_LIMIT = 5 * 1024 * 1024
/** For all bodies that are coming in and are not small. */
const ROOM = 128 * 1024 * 1024
/** A request's headers, and the whole of it, must be there within. Milliseconds. */
const HEADERS_MS = 10_000
const REQUEST_MS = 30_000
/** One line about bad signatures in this time, however many come. Milliseconds. */
const COMPLAIN_EVERY_MS = 10_000
const HEADER = /^[\x21-\x7e]{1,200}$/

type Accept = { delivery: Delivery; response: ServerResponse }

export type ServerOptions = {
  host: string
  port: number
  /** Null: this side is not configured, and its route is not there. */
  github: { secret: string } | null
  jira: { secret: string } | null
  lanes: { github: (event: string, payload: unknown) => string; jira: (payload: unknown) => string }
  queue: Queue
  runnerApi: RunnerApi
  metrics: Metrics
  clock: () => number
  log: Log
  /** New deliveries are in the inbox. */
  onAccepted: () => void
}

export type Server = {
  url: string
  port: number
  /** Many deliveries are coming in just now: other work may wait a little. */
  busy(): boolean
  close(): Promise<void>
}

export const openServer = async (options: ServerOptions): Promise<Server> => {
  const { queue, metrics, clock, log, runnerApi } = options

  // ── Group commit: what was read in one turn of the event loop is one transaction, and so one fsync ──
  let batch: Accept[] = []
  let lately = { since: 0, count: 0 }
  const commit = () => {
    const all = batch
    batch = []
    try {
      queue.accept(all.map(one => one.delivery))
    } catch (error) {
      log.error({ err: error }, 'deliveries could not be stored; their senders were told so')
      for (const { delivery, response } of all) {
        metrics.delivery(delivery.source, 'store_failed')
        respond(response)(503, { error: 'the delivery could not be stored; send it again' })
      }
      return
    }
    const now = performance.now()
    lately =
      now - lately.since > 20
        ? { since: now, count: all.length }
        : { since: lately.since, count: lately.count + all.length }
    for (const { delivery, response } of all) {
      metrics.delivery(delivery.source, 'accepted')
      log.debug({ correlation: delivery.id, source: delivery.source, event: delivery.event }, 'accepted')
      response.writeHead(202).end()
    }
    options.onAccepted()
  }
  const accept = (delivery: Delivery, response: ServerResponse) => {
    if (batch.length === 0) setImmediate(commit)
    batch.push({ delivery, response })
  }

  const room: BodyBudget = { left: ROOM }
  let complained = Number.NEGATIVE_INFINITY
  let unsaid = 0
  const badSignature = (source: 'github' | 'jira', request: IncomingMessage) => {
    metrics.delivery(source, 'bad_signature')
    unsaid += 1
    if (performance.now() - complained < COMPLAIN_EVERY_MS) return
    complained = performance.now()
    log.warn(
      { source, from: request.socket.remoteAddress, count: unsaid },
      'deliveries without a right signature were refused',
    )
    unsaid = 0
  }

  const header = (request: IncomingMessage, name: string): string | null => {
    const value = request.headers[name]
    return typeof value === 'string' && HEADER.test(value) ? value : null
  }

  /** What both webhooks have in common: type, size, signature, JSON. `name` tells event and id, or what is missing. */
  const webhook =
    (
      source: 'github' | 'jira',
      { secret, signature, limit }: { secret: string; signature: string; limit: number },
      read: (
        request: IncomingMessage,
        payload: Record<string, unknown>,
        body: Buffer,
      ) => { event: string; id: string; lane: string } | { error: string },
    ) =>
    (request: IncomingMessage, response: ServerResponse) => {
      if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
        metrics.delivery(source, 'bad_request')
        refuse(request, response, 415, 'the content type must be application/json')
        return
      }
      if (header(request, signature) === null) {
        badSignature(source, request)
        refuse(request, response, 401, `${signature} is missing`)
        return
      }
      if (Number(request.headers['content-length'] ?? 0) > limit) metrics.delivery(source, 'too_large')
      readBody(
        request,
        response,
        limit,
        body => {
          if (!isSigned(secret, request.headers[signature], body)) {
            badSignature(source, request)
            respond(response)(401, { error: 'the signature is not right' })
            return
          }
          const text = body.toString('utf8')
          const payload = jsonObject(text)
          const told = payload === null ? { error: 'the body is no JSON object' } : read(request, payload, body)
          if ('error' in told) {
            metrics.delivery(source, 'bad_request')
            respond(response)(400, told)
            return
          }
          accept({ source, ...told, body: text, receivedAt: clock() }, response)
        },
        error => log.error({ err: error, source }, 'a delivery could not be taken; its sender was told so'),
        room,
      )
    }

  const router = FindMyWay({
    defaultRoute: (request, response) => {
      request.resume()
      respond(response)(404, { error: 'there is nothing here' })
    },
  })
  if (options.github !== null) {
    const secret = options.github.secret
    router.on(
      'POST',
      '/api/github/webhooks',
      webhook('github', { secret, signature: 'x-hub-signature-256', limit: GITHUB_LIMIT }, (request, payload) => {
        const [id, event] = [header(request, 'x-github-delivery'), header(request, 'x-github-event')]
        if (id === null || event === null) return { error: 'X-GitHub-Delivery or X-GitHub-Event is missing' }
        return { id, event, lane: options.lanes.github(event, payload) }
      }),
    )
  }
  if (options.jira !== null) {
    const secret = options.jira.secret
    router.on(
      'POST',
      '/jira/webhook',
      webhook('jira', { secret, signature: 'x-hub-signature', limit: JIRA_LIMIT }, (request, payload, body) => ({
        // The same through all retries; without it, a delivery is what it says.
        id: header(request, 'x-atlassian-webhook-identifier') ?? createHash('sha256').update(body).digest('hex'),
        event: typeof payload.webhookEvent === 'string' ? payload.webhookEvent.slice(0, 100) : 'unknown',
        lane: options.lanes.jira(payload),
      })),
    )
  }
  router.on('GET', '/healthz', (_request, response) => respond(response)(200, { status: 'alive' }))
  router.on('GET', '/readyz', (_request, response) => {
    try {
      queue.probe()
      respond(response)(200, { status: 'ready' })
    } catch (error) {
      log.error({ err: error }, 'the store cannot be written')
      respond(response)(503, { status: 'the store cannot be written' })
    }
  })
  router.on('GET', '/metrics', (_request, response) => {
    metrics.text().then(
      text => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
      error => {
        log.error({ err: error }, 'metrics')
        respond(response)(500, { error: 'the metrics could not be read' })
      },
    )
  })
  for (const name of runnerApi.names) router.on('POST', `/runner/v1/${name}`, runnerApi.handle(name))

  const server = createServer({
    headersTimeout: HEADERS_MS,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: 75_000,
    connectionsCheckingInterval: 1_000,
    maxHeaderSize: 16 * 1024,
  })
  server.maxConnections = 2_000
  server.on('request', (request, response) => {
    try {
      router.lookup(request, response)
    } catch (error) {
      log.error({ err: error, path: request.url?.slice(0, 100) }, 'a request')
      respond(response)(500, { error: 'something went wrong' })
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => {
      const { kind, message } = failureOf(error, 'listening')
      reject(
        fail(
          kind === 'unknown' ? 'not-configured' : kind,
          `listening on ${options.host}:${options.port}: ${message}`,
          'Take another port (--port N or PORT), or end what uses this one.',
        ),
      )
    })
    server.listen(options.port, options.host, resolve)
  })
  const { port } = server.address() as AddressInfo
  const reaper = setInterval(() => {
    try {
      runnerApi.reap()
    } catch (error) {
      log.error({ err: error }, 'leases could not be looked through')
    }
  }, 500)
  reaper.unref()

  const host = options.host.includes(':') ? `[${options.host}]` : options.host
  return {
    url: `http://${host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`,
    port,
    busy: () => performance.now() - lately.since < 20 && lately.count >= 4,
    close: () =>
      new Promise(resolve => {
        clearInterval(reaper)
        runnerApi.close()
        server.close(() => resolve())
        server.closeIdleConnections()
        setTimeout(() => server.closeAllConnections(), 500).unref()
      }),
  }
}
