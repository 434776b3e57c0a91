/** The webhooks of GitHub and Jira: a delivery is verified over its raw body, written to the inbox, and then answered. */
import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../clock.ts'
import type { Log } from '../../log.ts'
import type { Delivery, Store } from '../../store/port.ts'
import { openAutomation } from './automation.ts'
import { type BodyBudget, jsonObject, readBody } from './body.ts'
import { prove } from './connections.ts'
import type { Metrics } from './metrics.ts'
import { openRefusalLog } from './refusal-log.ts'
import { type Handle, refuse, respond } from './respond.ts'
import { isSigned } from './signature.ts'

/** GitHub caps its payloads at 25 MB. */
const GITHUB_LIMIT = 25 * 1024 * 1024
const JIRA_LIMIT = 5 * 1024 * 1024
/** Deliveries that arrive this close together are a flood. Milliseconds. */
const FLOOD_GAP_MS = 20
const FLOOD_SIZE = 4
const HEADER = /^[\x21-\x7e]{1,200}$/

export type WebhookOptions = {
  /** Null: this side has no webhook. */
  github: { secret: string } | null
  jira: { secret: string } | null
  /** Rules of Jira automation. */
  automation: { secret: string } | null
  /** The lane of a delivery, from its parsed payload. */
  lanes: { github: (event: string, payload: unknown) => string; jira: (payload: unknown) => string }
  store: Store
  metrics: Metrics
  clock: Clock
  log: Log
  /** New deliveries are in the inbox. */
  onAccepted: () => void
}

/** Group commit: the deliveries of one turn of the event loop are one transaction, and so one fsync. */
const openAcceptor = ({ store, metrics, log, onAccepted }: WebhookOptions) => {
  type Accept = { delivery: Delivery; response: ServerResponse }
  let batch: Accept[] = []
  let recent = { since: 0, count: 0 }

  const commit = async () => {
    const all = batch
    batch = []
    try {
      await store.inbox.accept(all.map(({ delivery }) => delivery))
    } catch (error) {
      log.error({ err: error }, 'deliveries could not be stored; they were answered with 503')
      for (const { delivery, response } of all) {
        metrics.delivery(delivery.source, 'store_failed')
        respond(response)(503, { error: 'the delivery could not be stored; send it again' })
      }
      return
    }
    const now = performance.now()
    const goesOn = now - recent.since <= FLOOD_GAP_MS
    recent = goesOn ? { ...recent, count: recent.count + all.length } : { since: now, count: all.length }
    for (const { delivery, response } of all) {
      metrics.delivery(delivery.source, 'accepted')
      log.debug({ correlation: delivery.id, source: delivery.source, event: delivery.event }, 'accepted')
      respond(response)(202)
    }
    onAccepted()
  }
  return {
    accept: (delivery: Delivery, response: ServerResponse) => {
      if (batch.length === 0) setImmediate(commit)
      batch.push({ delivery, response })
    },
    /** Many deliveries are arriving: other work may wait a little. */
    isBusy: () => performance.now() - recent.since < FLOOD_GAP_MS && recent.count >= FLOOD_SIZE,
  }
}

const header = (request: IncomingMessage, name: string): string | null => {
  const value = request.headers[name]
  return typeof value === 'string' && HEADER.test(value) ? value : null
}

type Side = {
  source: 'github' | 'jira'
  secret: string
  signatureHeader: string
  limit: number
  read: (
    request: IncomingMessage,
    payload: Record<string, unknown>,
    body: Buffer,
  ) => Pick<Delivery, 'event' | 'id' | 'lane'> | { error: string }
}
const githubSide = (secret: string, { lanes }: WebhookOptions): Side => ({
  source: 'github',
  secret,
  signatureHeader: 'x-hub-signature-256',
  limit: GITHUB_LIMIT,
  read: (request, payload) => {
    const [id, event] = [header(request, 'x-github-delivery'), header(request, 'x-github-event')]
    if (id === null || event === null) return { error: 'X-GitHub-Delivery or X-GitHub-Event is missing' }
    return { id, event, lane: lanes.github(event, payload) }
  },
})
const jiraSide = (secret: string, { lanes }: WebhookOptions): Side => ({
  source: 'jira',
  secret,
  signatureHeader: 'x-hub-signature',
  limit: JIRA_LIMIT,
  read: (request, payload, body) => ({
    // The same for all retries. Without it, a delivery is identified by its content.
    id: header(request, 'x-atlassian-webhook-identifier') ?? createHash('sha256').update(body).digest('hex'),
    event: typeof payload.webhookEvent === 'string' ? payload.webhookEvent.slice(0, 100) : 'update',
    lane: lanes.jira(payload),
  }),
})

type Receiver = {
  accept: (delivery: Delivery, response: ServerResponse) => void
  warnUnsigned: ReturnType<typeof openRefusalLog>
  budget: BodyBudget
}
const receive = async (
  { source, secret, signatureHeader, limit, read }: Side,
  { metrics, clock }: WebhookOptions,
  { accept, warnUnsigned, budget }: Receiver,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
    metrics.delivery(source, 'bad_request')
    return refuse(request, response, 415, 'the content type must be application/json')
  }
  if (header(request, signatureHeader) === null) {
    metrics.delivery(source, 'bad_signature')
    warnUnsigned(request, { source })
    return refuse(request, response, 401, `${signatureHeader} is missing`)
  }
  if (Number(request.headers['content-length'] ?? 0) > limit) metrics.delivery(source, 'too_large')
  const body = await readBody(request, response, limit, budget)
  if (body === null) return
  if (!isSigned(secret, request.headers[signatureHeader], body)) {
    metrics.delivery(source, 'bad_signature')
    warnUnsigned(request, { source })
    return respond(response)(401, { error: 'the signature is wrong' })
  }
  prove(request)
  const text = body.toString('utf8')
  const payload = jsonObject(text)
  const delivery = payload === null ? { error: 'the body is not a JSON object' } : read(request, payload, body)
  if ('error' in delivery) {
    metrics.delivery(source, 'bad_request')
    return respond(response)(400, delivery)
  }
  accept({ source, ...delivery, body: text, receivedAt: clock() }, response)
}

/** `budget` is shared by all bodies that are arriving. */
export const openWebhooks = (options: WebhookOptions, budget: BodyBudget) => {
  const { accept, isBusy } = openAcceptor(options)
  const receiver = {
    accept,
    budget,
    warnUnsigned: openRefusalLog(options.log, 'deliveries without a valid signature were refused'),
  }
  const handle =
    (side: Side): Handle =>
    (request, response) =>
      receive(side, options, receiver, request, response)
  return {
    isBusy,
    github: options.github === null ? null : handle(githubSide(options.github.secret, options)),
    jira: options.jira === null ? null : handle(jiraSide(options.jira.secret, options)),
    automation: openAutomation(options, accept, budget),
  }
}
