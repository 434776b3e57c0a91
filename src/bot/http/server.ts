/** The bot's HTTP server: webhooks, health, metrics, and the runner API. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import FindMyWay from 'find-my-way'
import { fail, failureOf } from '../../errors.ts'
import { type ConnectionLimits, limitConnections } from './connections.ts'
import { type Handle, respond } from './respond.ts'
import { openWebhooks, type WebhookOptions } from './webhooks.ts'

/** Bytes for all bodies that are arriving and are not small. */
const BUDGET = 128 * 1024 * 1024
const HEADERS_MS = 10_000
/** Deadline for the whole request. Milliseconds. */
const REQUEST_MS = 30_000
/** How long a question whether the bot is ready waits for the store. Milliseconds. */
const PROBE_MS = 1_000
/** After this, connections that are still open are cut. Milliseconds. */
const CLOSE_MS = 500

export type ServerOptions = WebhookOptions &
  Pick<ConnectionLimits, 'isExempt' | 'idleMs'> & {
    host: string
    port: number
    /** Routes of the runner API, by path. */
    runnerRoutes: Readonly<Record<string, Handle>>
    /** The databases are looked at as a whole: until this resolves, the bot is not ready. */
    checked?: Promise<unknown>
    /** Deadline for a request's headers. Milliseconds. */
    headersMs?: number
  }
export type Server = {
  url: string
  port: number
  /** Many deliveries are arriving: other work may wait a little. */
  isBusy(): boolean
  close(): Promise<void>
}

/** Ready: the databases are whole, and the store can be written now. */
const readiness = ({ store, log, checked = Promise.resolve() }: ServerOptions): Handle => {
  let isChecked = false
  checked.then(
    () => {
      isChecked = true
    },
    () => {},
  )
  return async (_request, response) => {
    const answer = respond(response)
    if (!isChecked) return answer(503, { status: 'the databases are being checked' })
    const late = setTimeout(() => answer(503, { status: 'another process has locked the store' }), PROBE_MS)
    try {
      await store.probe()
      answer(200, { status: 'ready' })
    } catch (error) {
      log.error({ err: error }, 'the store cannot be written')
      answer(503, { status: 'the store cannot be written' })
    } finally {
      clearTimeout(late)
    }
  }
}
const metricsPage =
  ({ metrics }: ServerOptions): Handle =>
  async (_request, response) => {
    const text = await metrics.text()
    response.writeHead(200, { 'content-type': metrics.contentType }).end(text)
  }

const routerOf = (options: ServerOptions, webhooks: ReturnType<typeof openWebhooks>) => {
  const router = FindMyWay({
    defaultRoute: (request, response) => {
      request.resume()
      respond(response)(404, { error: 'no such route' })
    },
  })
  if (webhooks.github !== null) router.on('POST', '/api/github/webhooks', webhooks.github)
  if (webhooks.jira !== null) router.on('POST', '/jira/webhook', webhooks.jira)
  if (webhooks.automation !== null) router.on('POST', '/jira/automation', webhooks.automation)
  router.on('GET', '/healthz', (_request, response) => respond(response)(200, { status: 'alive' }))
  router.on('GET', '/readyz', readiness(options))
  router.on('GET', '/metrics', metricsPage(options))
  for (const [path, handle] of Object.entries(options.runnerRoutes)) router.on('POST', path, handle)
  return router
}

export const openServer = async (options: ServerOptions): Promise<Server> => {
  const { log, headersMs = HEADERS_MS } = options
  const webhooks = openWebhooks(options, { left: BUDGET })
  const router = routerOf(options, webhooks)
  const server = createServer({
    headersTimeout: headersMs,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: 75_000,
    // An idle bot wakes up for this, too. Until then, the limits for connections hold.
    connectionsCheckingInterval: 3 * headersMs,
    maxHeaderSize: 16 * 1024,
  })
  limitConnections(server, options)
  server.on('request', async (request, response) => {
    try {
      await router.lookup(request, response)
    } catch (error) {
      log.error({ err: error, path: request.url?.slice(0, 100) }, 'a request failed; it was answered with 503')
      respond(response)(503, { error: 'the request failed; send it again' })
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => {
      const { kind, message } = failureOf(error, 'listening')
      reject(
        fail(
          kind === 'unknown' ? 'not-configured' : kind,
          `listening on ${options.host}:${options.port}: ${message}`,
          'Use another port (--port N or PORT), or stop the process that uses this one.',
        ),
      )
    })
    server.listen(options.port, options.host, resolve)
  })
  const { port } = server.address() as AddressInfo
  const host = options.host.includes(':') ? `[${options.host}]` : options.host
  return {
    url: `http://${host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`,
    port,
    isBusy: webhooks.isBusy,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeIdleConnections()
        setTimeout(() => server.closeAllConnections(), CLOSE_MS).unref()
      }),
  }
}
