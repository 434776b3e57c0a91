/** Waits for an SSH server without a process, which would take processor time from the guest that boots. */
import { connect, isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { SshInfo } from '../../../providers/provider.ts'

type Address = Pick<SshInfo, 'host' | 'port'>

/** Between two questions for an address, and before a server that is there and refuses is tried again. */
const ASK_MS = 2_000
/** Longest time between two tries of ssh: this process may be kept from connections that ssh may make, as by macOS. */
const TRY_MS = 15_000
/** Between two tries of a port. One where nothing listens costs the guest one packet. */
const POLL_MS = 100
/** A server that has accepted gets so long: under emulation on a busy host it takes seconds, and another try would cost it as many. */
const HELLO_MS = 15_000
/** RFC 4253, 4.2: the server's version line, which other lines may precede. */
const HELLO = /^SSH-(?:2\.0|1\.99)-/m
const MAX_HELLO = 8 * 1024

/** `ending` ends only the wait for a connection. */
const saysHello = (
  { host, port }: Address,
  ending: AbortSignal,
  signal: AbortSignal,
  helloMs: number,
): Promise<boolean> =>
  new Promise(resolve => {
    let timer: NodeJS.Timeout | undefined
    const socket = connect({ host, port, signal })
    const end = () => socket.destroy()
    ending.addEventListener('abort', end, { once: true })
    let words = ''
    socket.on('connect', () => {
      ending.removeEventListener('abort', end)
      // Not the socket's own timeout, which each byte of a server that never comes to its version starts anew.
      timer = setTimeout(end, helloMs)
    })
    socket.on('data', chunk => {
      words += chunk.toString('latin1')
      if (HELLO.test(words)) resolve(true)
      if (HELLO.test(words) || words.length > MAX_HELLO) end()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      ending.removeEventListener('abort', end)
      resolve(false)
    })
  })

/**
 * Returns whether a server said hello, which must accept within so many milliseconds; after that it has `helloMs`. An aborted wait
 * ends early, without an error.
 */
export const waitForHello = async (
  address: Address,
  milliseconds: number,
  signal: AbortSignal = new AbortController().signal,
  helloMs = HELLO_MS,
): Promise<boolean> => {
  const over = new AbortController()
  const ending = AbortSignal.any([signal, over.signal])
  const end = () => over.abort()
  delay(Math.max(0, milliseconds), undefined, { signal: ending }).then(end, () => {})
  // ssh refuses any other host, and says so.
  const canAsk = isIP(address.host) !== 0 || address.host === 'localhost'
  try {
    while (!ending.aborted) {
      if (canAsk && (await saysHello(address, ending, signal, helloMs))) return true
      await delay(POLL_MS, undefined, { signal: ending }).catch(() => {})
    }
    return false
  } finally {
    end()
  }
}

/**
 * Waits for the moment to try again: no process runs meanwhile. `most`: milliseconds; a server that accepts at their end has HELLO_MS
 * more. `helloed`: the last try failed although a server had said hello. Returns whether one says it now.
 */
export const untilNextTry = async (
  ssh: SshInfo | null,
  helloed: boolean,
  most: number,
  signal: AbortSignal | undefined,
): Promise<boolean> => {
  const until = performance.now() + most
  if (ssh === null || helloed) await delay(Math.min(ASK_MS, most), undefined, { signal }).catch(() => {})
  return ssh !== null && waitForHello(ssh, Math.min(TRY_MS, until - performance.now()), signal)
}
