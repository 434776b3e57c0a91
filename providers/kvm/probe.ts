/** Whether the filter's rules are on the host. Only root can read them; a connection shows them. */
import { randomInt } from 'node:crypto'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** Nothing listens there, and a refusal is an answer as good as any. */
const PORT = 9
const ANSWER_MS = 1_000
/** A guest answers two packets of the same moment at nearly the same time. */
const LATER_MS = 100

/** Of this host: the connection never began, so nothing can answer. A low port may be of root alone, or in use. */
const NOT_BEGUN = ['EACCES', 'EPERM', 'EADDRINUSE', 'EADDRNOTAVAIL']

/** Resolves with whether the guest answered: it accepted, or refused. Null: it was not asked. */
const answers = (host: string, from: { localAddress: string; localPort?: number }, signal: AbortSignal) =>
  new Promise<boolean | null>(resolve => {
    const socket = connect({ host, port: PORT, ...from })
    const end = (answered: boolean | null) => {
      socket.destroy()
      resolve(answered)
    }
    socket.once('connect', () => end(true))
    socket.once('error', ({ code = '' }: NodeJS.ErrnoException) =>
      end(NOT_BEGUN.includes(code) ? null : code === 'ECONNREFUSED'),
    )
    signal.addEventListener('abort', () => end(false), { once: true })
  })

/**
 * Whether the guest's answers reach a port of the gateway that the filter closes. Two connections of the host begin at the
 * same time: one at a port whose answers the filter lets through, to see that the guest answers at all, and one at a port
 * below those. Null: unknown, since the guest did not answer, or this host could not ask.
 */
export const isUnfiltered = async (
  host: string,
  { gateway, ephemeral }: { gateway: string; ephemeral: { from: number } },
): Promise<boolean | null> => {
  const end = new AbortController()
  const timer = setTimeout(() => end.abort(), ANSWER_MS)
  try {
    const low = randomInt(Math.min(20_000, Math.floor(ephemeral.from / 2)), ephemeral.from)
    const closed = answers(host, { localAddress: gateway, localPort: low }, end.signal)
    if (!(await answers(host, { localAddress: gateway }, end.signal))) return null
    return await Promise.race([closed, delay(LATER_MS, false)])
  } finally {
    clearTimeout(timer)
    end.abort()
  }
}
