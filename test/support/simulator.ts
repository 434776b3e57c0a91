/** Requests to the simulator `emulate`, by connections that are used again: a new one for each costs more than the answer. */
import { once } from 'node:events'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { text as textOf } from 'node:stream/consumers'

/** The simulator ends connections that are idle for 5 s: end them before that. */
const agent = new Agent({ keepAlive: true, timeout: 1_000 })

type Sent = { method: string; headers: Record<string, string>; body?: string | Buffer }
export type SimulatorResponse = { ok: boolean; status: number; headers: IncomingHttpHeaders; text: string }

/** `url` is the simulator's own, which names `localhost`: its number saves looking that up each time. */
export const askSimulator = async (
  path: string,
  url: string,
  { method, headers, body }: Sent,
): Promise<SimulatorResponse> => {
  const target = new URL(path, url)
  const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
  const sent = request({
    ...{ agent, method, host: '127.0.0.1', port: target.port, path: `${target.pathname}${target.search}` },
    headers: { ...headers, host: target.host, ...length },
  }).end(body)
  const [response] = await once(sent, 'response')
  const text = await textOf(response)
  const { statusCode: status } = response
  return { ok: status >= 200 && status < 300, status, headers: response.headers, text }
}
