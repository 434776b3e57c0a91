/**
 * Keeps strangers from using up the connections: one that has proven nothing keeps an idle connection for a few seconds, and one
 * address has a share of them. Exempt are loopback and the operator's proxies, through which everybody comes.
 */
import type { IncomingMessage, Server } from 'node:http'
import { BlockList, isIP, isIPv6, type Socket } from 'node:net'
import type { Log } from '../../log.ts'
import type { Metrics } from './metrics.ts'

const MAX_CONNECTIONS = 2_000
const MAX_PER_ADDRESS = 100
/** From the connection, or the end of an answer, to the next request. Milliseconds. */
const IDLE_MS = 5_000
const WARN_EVERY_MS = 60_000

/** Connections that carried a valid signature or token. */
const proven = new WeakSet<Socket>()
/** The request carries a valid signature or token: its connection may stay open. */
export const prove = (request: IncomingMessage): void => void proven.add(request.socket)

const familyOf = (address: string) => (isIPv6(address) ? 'ipv6' : 'ipv4')
/** IPv4 in IPv6 (`::ffff:192.0.2.1`) is IPv4. */
const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, '')

/** Whether an address is loopback or one of these addresses and ranges. */
export const exemptFrom = (proxies: readonly string[]): ((address: string) => boolean) => {
  const list = new BlockList()
  for (const range of ['127.0.0.0/8', '::1/128', ...proxies]) {
    const [address = '', prefix] = range.split('/')
    if (prefix === undefined) list.addAddress(address, familyOf(address))
    else list.addSubnet(address, Number(prefix), familyOf(address))
  }
  return address => isIP(address) !== 0 && list.check(address, familyOf(address))
}

/** What one client has: an IPv4 address, or the /64 of an IPv6 address. */
export const clientOf = (address: string): string => {
  if (!isIPv6(address)) return address
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::')
  const before = head.split(':').filter(group => group !== '')
  const after = (tail ?? '').split(':').filter(group => group !== '')
  const zeros = Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0')
  return [...before, ...zeros, ...after].slice(0, 4).join(':')
}

export type ConnectionLimits = {
  /** Whether the limits do not hold for an address. */
  isExempt: (address: string) => boolean
  metrics: Pick<Metrics, 'connectionRefused'>
  log: Log
  /** Milliseconds. */
  idleMs?: number
}

/** Counts what is refused, and logs it once a minute. */
const openRefusals = ({ metrics, log }: Pick<ConnectionLimits, 'metrics' | 'log'>) => {
  const counts = { address: 0, total: 0 }
  const message = {
    address: `connections were refused: one address may have ${MAX_PER_ADDRESS}`,
    total: `connections were refused: there are ${MAX_CONNECTIONS}`,
  }
  const remedy = 'If these come through a reverse proxy, list its address in AGENT_SWARM_PROXIES. See docs/security.md.'
  const warnedAt = { address: Number.NEGATIVE_INFINITY, total: Number.NEGATIVE_INFINITY }
  return (limit: 'address' | 'total', from: string | undefined): void => {
    metrics.connectionRefused(limit)
    counts[limit] += 1
    if (performance.now() - warnedAt[limit] < WARN_EVERY_MS) return
    log.warn({ from, count: counts[limit], ...(limit === 'address' ? { remedy } : {}) }, message[limit])
    warnedAt[limit] = performance.now()
    counts[limit] = 0
  }
}

/** Ends a connection that stays idle and has proven nothing. */
const limitIdle = (server: Server, isExempt: (address: string) => boolean, idleMs: number): void => {
  const timers = new WeakMap<Socket, NodeJS.Timeout>()
  const wait = (socket: Socket) => {
    if (proven.has(socket) || socket.destroyed || isExempt(plain(socket.remoteAddress ?? ''))) return
    clearTimeout(timers.get(socket))
    timers.set(
      socket,
      setTimeout(() => socket.destroy(), idleMs),
    )
  }
  server.on('connection', socket => {
    wait(socket)
    socket.once('close', () => clearTimeout(timers.get(socket)))
  })
  server.on('request', ({ socket }, response) => {
    clearTimeout(timers.get(socket))
    response.once('close', () => wait(socket))
  })
}

/** Call it before the server listens. */
export const limitConnections = (server: Server, limits: ConnectionLimits): void => {
  const { isExempt, idleMs = IDLE_MS } = limits
  const refused = openRefusals(limits)
  const open = new Map<string, number>()
  server.maxConnections = MAX_CONNECTIONS
  server.on('drop', data => refused('total', data?.remoteAddress))
  server.prependListener('connection', socket => {
    const address = plain(socket.remoteAddress ?? '')
    if (isExempt(address)) return
    const client = clientOf(address)
    const count = (open.get(client) ?? 0) + 1
    open.set(client, count)
    socket.once('close', () => {
      const left = (open.get(client) ?? 1) - 1
      if (left === 0) open.delete(client)
      else open.set(client, left)
    })
    if (count <= MAX_PER_ADDRESS) return
    refused('address', address)
    socket.destroy()
  })
  limitIdle(server, isExempt, idleMs)
}
