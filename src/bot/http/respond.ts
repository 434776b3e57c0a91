/** Answers to HTTP requests. */
import type { IncomingMessage, ServerResponse } from 'node:http'

/** Handles a request. What it throws is logged, and answered with 503. */
export type Handle = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>
export type Respond = (status: number, body?: unknown) => void

/** Does nothing when there is an answer already, or the other side is gone. */
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

/** Ends the connection after the answer: the rest of the request is not read. */
export const refuse = (
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  error: string,
  remedy?: string,
): void => {
  if (response.headersSent || response.destroyed) return
  response.setHeader('connection', 'close')
  response.once('finish', () => request.destroy())
  respond(response)(status, { error, ...(remedy === undefined ? {} : { remedy }) })
}
