/**
 * Posts JSON over node:http. The built-in fetch wakes its process twice a second while a request is open, and a runner always has
 * one open: the one that waits for work.
 */
import { Agent as HttpAgent, type IncomingMessage, request } from 'node:http'
import { Agent as HttpsAgent, request as requestTls } from 'node:https'

// A connection that the bot lets go of is closed first; without a time limit of our own, no timer runs for it.
const agents = { 'http:': new HttpAgent({ keepAlive: true }), 'https:': new HttpsAgent({ keepAlive: true }) }

export type Posted = { status: number; text: string }

const readText = async (response: IncomingMessage, maxBytes: number): Promise<string> => {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new Error(`the response is larger than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Follows no redirect: no credential, and no body, goes where a response says. */
export const post = async (
  url: URL,
  body: string,
  { headers, signal, maxBytes }: { headers: Record<string, string>; signal: AbortSignal; maxBytes: number },
): Promise<Posted> => {
  const isTls = url.protocol === 'https:'
  const options = {
    ...{ method: 'POST', signal, agent: agents[isTls ? 'https:' : 'http:'] },
    headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
  }
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const sent = (isTls ? requestTls : request)(url, options, resolve)
  sent.on('error', reject)
  sent.end(body)
  const response = await promise
  try {
    const status = response.statusCode ?? 0
    const { location } = response.headers
    if (status >= 300 && status < 400 && location !== undefined) throw new Error(`it redirects to ${location}`)
    return { status, text: await readText(response, maxBytes) }
  } catch (error) {
    sent.destroy()
    throw error
  }
}
