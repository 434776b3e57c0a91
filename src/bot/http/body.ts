/** The little of HTTP that the routes share: a body with a limit, a deadline and a digest; answers; a token compared in constant time. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'

export type Respond = (status: number, body?: unknown) => void

export const respond =
  (response: ServerResponse): Respond =>
  (status, body) => {
    if (response.headersSent || response.destroyed) return
    if (body === undefined) {
      response.writeHead(status).end()
      return
    }
    const text = JSON.stringify(body)
    response
      .writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
      .end(text)
  }

/** Ends the connection with its answer: what still comes on it is not wanted. */
export const refuse = (request: IncomingMessage, response: ServerResponse, status: number, error: string): void => {
  if (!response.headersSent && !response.destroyed) {
    const text = JSON.stringify({ error })
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      connection: 'close',
    })
    response.end(text, () => request.destroy())
  }
}

/**
 * Room for bodies that nobody has verified yet, in bytes: whoever sends many large ones at once fills it, and not the
 * memory. A small body needs none, so that those of others still come through.
 */
export type BodyBudget = { left: number }
const SMALL = 64 * 1024

/**
 * Calls back with the whole body. When that throws (the store cannot be written), `failed` hears of it and the sender is
 * answered 503; nobody else would catch it. A body longer than `limit` bytes is answered 413 and its connection ended; one
 * that `room` has no place for, 503.
 */
export const readBody = (
  request: IncomingMessage,
  response: ServerResponse,
  limit: number,
  done: (body: Buffer) => void,
  failed: (error: unknown) => void,
  room: BodyBudget = { left: Number.POSITIVE_INFINITY },
): void => {
  if (Number(request.headers['content-length'] ?? 0) > limit) {
    refuse(request, response, 413, `the body may have ${limit} bytes`)
    return
  }
  // One buffer that grows: a body in crumbs would cost hundreds of bytes for each, were they kept.
  let body: Buffer = Buffer.alloc(0)
  let [size, taken] = [0, 0]
  const giveBack = () => {
    room.left += taken
    taken = 0
  }
  const stop = (status: number, error: string) => {
    request.removeAllListeners('data')
    request.removeAllListeners('end')
    body = Buffer.alloc(0)
    giveBack()
    refuse(request, response, status, error)
  }
  request.on('close', giveBack)
  request.on('data', (chunk: Buffer) => {
    const before = size
    size += chunk.length
    if (size > limit) return stop(413, `the body may have ${limit} bytes`)
    if (size > body.length) {
      const length = before === 0 ? size : Math.min(limit, Math.max(size, 2 * body.length))
      const more = length > SMALL ? length - taken : 0
      if (more > room.left) return stop(503, 'too many large bodies come in at once; send it again')
      room.left -= more
      taken += more
      // Most come in one piece.
      if (before === 0) {
        body = chunk
        return
      }
      const larger = Buffer.allocUnsafe(length)
      body.copy(larger, 0, 0, before)
      body = larger
    }
    chunk.copy(body, before)
  })
  request.on('end', () => {
    try {
      done(body.subarray(0, size))
    } catch (error) {
      failed(error)
      respond(response)(503, { error: 'this could not be done just now; send it again' })
    }
  })
  request.on('error', () => {})
}

const SIGNATURE = /^sha256=([0-9a-f]{64})$/

/** Whether `header` is the HMAC-SHA256 of `body` under `secret`. An empty secret proves nothing. */
export const isSigned = (secret: string, header: string | string[] | undefined, body: Buffer): boolean => {
  const given = typeof header === 'string' ? header.match(SIGNATURE)?.[1] : undefined
  if (secret === '' || given === undefined) return false
  return timingSafeEqual(createHmac('sha256', secret).update(body).digest(), Buffer.from(given, 'hex'))
}

/** Compares under a keyed hash: the lengths are equal then, and the time tells nothing. */
export const isToken = (expected: string, given: string): boolean => {
  const digest = (text: string) => createHmac('sha256', 'agent-swarm').update(text).digest()
  return expected !== '' && timingSafeEqual(digest(expected), digest(given))
}

/** The JSON object in a body, or null. */
export const jsonObject = (text: string): Record<string, unknown> | null => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}
