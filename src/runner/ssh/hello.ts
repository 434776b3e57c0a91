/** Waits for an SSH server without a process, which would take processor time from the guest that boots. */
import { connect, isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { SshInfo } from '../../../providers/provider.ts'

type Address = Pick<SshInfo, 'host' | 'port'>

/** Between two tries. A port where nothing listens costs the guest one packet. */
const POLL_MS = 100
/** A server under emulation says hello within a second or two; a host that only forwards a port may accept and stay silent. */
const HELLO_MS = 5_000
/** RFC 4253, 4.2: the server's version line, which other lines may precede. */
const HELLO = /^SSH-(?:2\.0|1\.99)-/m
const MAX_HELLO = 8 * 1024

const saysHello = ({ host, port }: Address, ending: AbortSignal): Promise<boolean> =>
  new Promise(resolve => {
    const socket = connect({ host, port, signal: AbortSignal.any([ending, AbortSignal.timeout(HELLO_MS)]) })
    let words = ''
    socket.on('data', chunk => {
      words += chunk.toString('latin1')
      if (HELLO.test(words)) resolve(true)
      if (HELLO.test(words) || words.length > MAX_HELLO) socket.destroy()
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(false))
  })

/** Returns whether a server said hello within so many milliseconds. An aborted wait ends early, without an error. */
export const waitForHello = async (
  address: Address,
  milliseconds: number,
  signal: AbortSignal = new AbortController().signal,
): Promise<boolean> => {
  const ending = AbortSignal.any([signal, AbortSignal.timeout(Math.max(0, Math.ceil(milliseconds)))])
  // ssh refuses any other host, and says so.
  const canAsk = isIP(address.host) !== 0 || address.host === 'localhost'
  while (!ending.aborted) {
    if (canAsk && (await saysHello(address, ending))) return true
    await delay(POLL_MS, undefined, { signal: ending }).catch(() => {})
  }
  return false
}
