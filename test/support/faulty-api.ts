/** An HTTP server on loopback that answers as no API should. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Fault =
  | 'hangs'
  | 'drips'
  | 'is reset'
  | 'is cut off'
  | 'is cut off, and its length fits'
  | 'is empty'
  | 'is a page'
  | 'is a page that calls itself JSON'
  | 'is an error with status 200'
  | 'is null'
  | 'is a list of numbers'
  | 'is endless'
  | `${500 | 503 | 429 | 403 | 404 | 401} ${'of its own' | 'of a proxy'}`

const LOGIN = '<!doctype html><title>Log in</title><p>Log in to the network'

/** Answers with a fault. `own`: how this API writes a refusal. */
const answer = (fault: Fault, response: ServerResponse, right: string, own: object): unknown => {
  const json = (text: string, status = 200): void => {
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': text.length }).end(text)
  }
  if (fault === 'hangs') return null
  if (fault === 'is reset') return response.socket?.resetAndDestroy()
  if (fault === 'is empty') return json('')
  if (fault === 'is cut off, and its length fits') return json(right.slice(0, -2))
  if (fault === 'is a page that calls itself JSON') return json(LOGIN)
  if (fault === 'is an error with status 200') return json(JSON.stringify(own))
  if (fault === 'is null') return json('null')
  if (fault === 'is a list of numbers') return json('[1,2]')
  if (fault === 'is a page') return response.writeHead(200, { 'content-type': 'text/html' }).end(LOGIN)
  if (fault === 'is cut off') {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': right.length })
    return response.write(right.slice(0, Math.ceil(right.length / 2)), () => response.socket?.end())
  }
  if (fault === 'drips' || fault === 'is endless') {
    response.writeHead(200, { 'content-type': 'application/json' })
    const piece = fault === 'drips' ? ' ' : ' '.repeat(4 * 1024 * 1024)
    const timer = setInterval(() => response.write(piece), fault === 'drips' ? 20 : 1)
    return response.on('close', () => clearInterval(timer))
  }
  const status = Number(fault.slice(0, 3))
  if (fault.endsWith('of its own')) return json(JSON.stringify(own), status)
  return response.writeHead(status, { 'content-type': 'text/html' }).end(LOGIN)
}

/** `right`: what a working API answers, by the request. */
export const startFaultyApi = async (own: object, right: (request: IncomingMessage) => unknown) => {
  let fault: Fault | null = null
  const requests: string[] = []
  const server = createServer((request, response) => {
    request.resume()
    requests.push(`${request.method} ${request.url}`)
    const text = JSON.stringify(right(request))
    if (fault !== null) answer(fault, response, text, own)
    else response.writeHead(200, { 'content-type': 'application/json' }).end(text)
  })
  await new Promise<void>(listening => server.listen(0, '127.0.0.1', listening))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    answerWith: (next: Fault | null) => {
      fault = next
    },
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}
