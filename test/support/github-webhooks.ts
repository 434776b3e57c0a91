/** The webhooks of the GitHub stand-in: what was sent, to whom, and what got lost. */
import { createHmac, randomUUID } from 'node:crypto'
import { faultsOfPayload } from './github-payloads.ts'

export const WEBHOOK_SECRET = 'a secret between GitHub and the bot'

export type Json = Record<string, unknown>
/** A delivery as GitHub lists it, with its payload. */
type SentDelivery = {
  id: number
  guid: string
  delivered_at: string
  redelivery: boolean
  status: string
  status_code: number
  event: string
  payload: Json | Buffer
}
/** Takes a delivery in place of a server, and returns the HTTP status. */
export type WebhookReceiver = (event: string, payload: Json, id: string) => Promise<number>

/** `failed`: nothing arrives. `untold`: GitHub does not even know that there was something to send. */
export type Losing = 'failed' | 'untold' | null

const post = async (url: string, event: string, body: Buffer, id: string, secret: string): Promise<number> => {
  const { status } = await fetch(new URL('/api/github/webhooks', url), {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-github-event': event,
      'x-github-delivery': id,
      'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    },
    body,
  })
  return status
}

export const openWebhooks = () => {
  const deliveries: SentDelivery[] = []
  const lost: Json[] = []
  let target: string | WebhookReceiver | null = null
  let losing: Losing = null

  const transmit = (event: string, payload: Json | Buffer, id: string, secret: string): Promise<number> => {
    if (typeof target === 'function') {
      const parsed = Buffer.isBuffer(payload) ? JSON.parse(payload.toString('utf8')) : payload
      return target(event, parsed, id)
    }
    const body = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload))
    return target === null ? Promise.resolve(502) : post(target, event, body, id, secret)
  }
  const send = async (
    event: string,
    payload: Json | Buffer,
    guid: string,
    secret: string = WEBHOOK_SECRET,
  ): Promise<number> => {
    if (losing === 'untold') {
      if (!Buffer.isBuffer(payload)) lost.push(payload)
      return 0
    }
    const delivered_at = new Date(Date.now()).toISOString()
    let status_code = 502
    try {
      if (losing === null) status_code = await transmit(event, payload, guid, secret)
    } finally {
      const redelivery = deliveries.some(delivery => delivery.guid === guid)
      const status = status_code < 300 ? 'OK' : 'failed to connect to host'
      const id = deliveries.length + 1_000
      deliveries.push({ id, guid, delivered_at, redelivery, event, payload, status, status_code })
    }
    return status_code
  }
  /** Sends what GitHub never would. Returns the bot's status; without a receiver nothing is sent. */
  const deliverBroken = async (
    event: string,
    payload: Json | Buffer,
    id: string = randomUUID(),
    secret: string = WEBHOOK_SECRET,
  ): Promise<number> => (target === null && losing === null ? 0 : send(event, payload, id, secret))

  return {
    /** Oldest first, as GitHub keeps them. The status is 502 when the bot was away. */
    deliveries,
    send,
    deliverBroken,
    /** Sends only what GitHub would. The same id again is a redelivery. */
    deliver: async (event: string, payload: Json, id?: string, secret?: string): Promise<number> => {
      const faults = faultsOfPayload(event, payload)
      if (faults.length > 0) throw new Error(`GitHub would not send this ${event}:\n${faults.join('\n')}`)
      return deliverBroken(event, payload, id, secret)
    },
    /** The payloads that were lost `untold`. */
    lost: (): Json[] => lost,
    lose: (how: Losing) => {
      losing = how
    },
    /** `to`: the bot's address, or a receiver in this process. */
    sendTo: (to: string | WebhookReceiver) => {
      target = to
    },
  }
}
export type Webhooks = ReturnType<typeof openWebhooks>
