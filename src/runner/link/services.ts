/** The runner's ends of a link: one HTTP server for each service, on a Unix socket of this machine alone. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { LINK_PORTS, LinkService } from '../../schema/link.ts'
import { openMachineLogs } from './machine-log.ts'
import type { LinkedMachine, LinkHandler, LinkServices } from './types.ts'

const MINUTE = 60_000
/**
 * What one machine may hold open. `connections` at once; `requestMs`: from the first byte of a request to the last of its
 * body; `idleMs`: without a byte in either direction, while the handler works too.
 */
const BOUNDS: Record<LinkService, { connections: number; requestMs: number; idleMs: number }> = {
  // A first push brings a whole history.
  git: { connections: 16, requestMs: 60 * MINUTE, idleMs: 10 * MINUTE },
  // A model may think for minutes before its first word.
  model: { connections: 32, requestMs: 5 * MINUTE, idleMs: 15 * MINUTE },
  // A checkpoint with memory takes minutes.
  requests: { connections: 8, requestMs: 15_000, idleMs: 15 * MINUTE },
}
const HEADERS_MS = 10_000
const KEEP_ALIVE_MS = 5_000
const MAX_HEADER_BYTES = 32 * 1024
/** Connections and requests of one machine in one period: no program needs as many, and more would keep the runner from others. */
const FLOOD = { most: 2_000, periodMs: 10_000 }
/** OpenSSH splits a forwarding at `:` and expands `%`; a socket's path has 103 bytes on macOS. */
const PLAIN_PATH = /^[A-Za-z0-9/._-]{1,90}$/

/** The machine's own folder below `links`, with a name that keeps the path of a socket short. */
export const linkFolder = (home: string, vmId: string): string =>
  join(home, 'links', createHash('sha256').update(vmId).digest('hex').slice(0, 16))

/** In the machine's own folder: the folder of the sockets, where that is another one. */
const ELSEWHERE = 'sockets'

/** Another user may have made a folder of the same name, when ours was cleared away. */
const isOurFolder = (path: string): boolean => {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  return stats?.isDirectory() === true && (process.geteuid === undefined || stats.uid === process.geteuid())
}

/** Removes the folders of a link, also those that a killed process left. The caller holds the link's lock. */
const removeFolders = (home: string, vmId: string): void => {
  const folder = linkFolder(home, vmId)
  const note = join(folder, ELSEWHERE)
  const elsewhere = existsSync(note) ? readFileSync(note, 'utf8') : null
  if (elsewhere !== null && isOurFolder(elsewhere)) rmSync(elsewhere, { recursive: true, force: true })
  rmSync(folder, { recursive: true, force: true })
}

const socketFolder = (home: string, vmId: string): string => {
  const folder = linkFolder(home, vmId)
  removeFolders(home, vmId)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (PLAIN_PATH.test(folder)) return folder
  const temporary = PLAIN_PATH.test(tmpdir()) ? tmpdir() : '/tmp'
  // Its name is noted before it is made. The folder of temporary files is everybody's: nobody else may guess it.
  const made = join(temporary, `agent-swarm-${randomBytes(8).toString('hex')}`)
  writeFileSync(join(folder, ELSEWHERE), made, { mode: 0o600 })
  mkdirSync(made, { mode: 0o700 })
  return made
}

/** Calls `onFlood` once when there are too many of what is counted. */
const openMeter = (onFlood: () => void) => {
  let since = performance.now()
  let counted = 0
  return () => {
    if (performance.now() - since > FLOOD.periodMs) {
      since = performance.now()
      counted = 0
    }
    counted += 1
    if (counted === FLOOD.most) onFlood()
  }
}

type Serving = {
  vmId: string
  services: LinkServices
  /** The machine as the registry has it now; null when it has none. */
  machine: () => LinkedMachine | null
  prefix: string
  log: Log
}

const listener = ({ vmId, machine, services, prefix, log }: Serving, service: LinkService): RequestListener => {
  const handler: LinkHandler = services[service]
  const machineLog = openMachineLogs(log)(vmId)
  return async (request, response) => {
    const refuse = (status: number, text: string) => {
      response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' })
      response.end(`${text}\n`)
    }
    const url = request.url ?? ''
    // Whoever else found the port learns nothing.
    if (!url.startsWith(`${prefix}/`)) return refuse(404, 'not found')
    request.url = url.slice(prefix.length)
    const linked = machine()
    if (linked === null) return refuse(503, 'this machine is no longer known to the runner')
    try {
      await handler(linked, request, response)
    } catch (error) {
      machineLog.warn(
        { vmId, service, err: error },
        `a request of a machine failed: ${failureOf(error, service).message}`,
      )
      if (response.headersSent) response.destroy()
      else refuse(500, 'the runner failed to answer; its log says why')
    }
  }
}

const listen = async (server: Server, at: { path: string } | { host: string; port: number }): Promise<void> => {
  server.listen(at)
  await once(server, 'listening')
}

export type Services = {
  prefix: string
  /** Where the machine reaches each. */
  addresses: Readonly<Record<LinkService, string>>
  /** Arguments of ssh. */
  forwards: string[]
  close(): void
}
type ServicesOptions = Omit<Serving, 'prefix'> & {
  home: string
  ports: Readonly<Record<keyof typeof LINK_PORTS, number>>
  /**
   * Loopback ports behind a secret: `forwarded` where ssh reaches no Unix socket of Node's, `direct` for a machine that is a part of
   * this system.
   */
  loopback: { kind: 'forwarded' | 'direct'; secret: string } | null
  onFlood: () => void
}

export const openServices = async (options: ServicesOptions): Promise<Services> => {
  const { home, vmId, services, machine, log, ports, loopback, onFlood } = options
  const prefix = loopback === null ? '' : `/${loopback.secret}`
  const folder = loopback !== null ? null : socketFolder(home, vmId)
  const meter = openMeter(onFlood)
  const servers: Server[] = []
  const close = () => {
    for (const server of servers) {
      server.close()
      server.closeAllConnections()
    }
    removeFolders(home, vmId)
  }
  try {
    const forwards: string[] = []
    const addresses = { git: '', model: '', requests: '' }
    for (const service of ['git', 'model', 'requests'] as const) {
      const { connections, requestMs, idleMs } = BOUNDS[service]
      const server = createServer(
        {
          ...{ requestTimeout: requestMs, headersTimeout: HEADERS_MS, keepAliveTimeout: KEEP_ALIVE_MS },
          ...{ maxHeaderSize: MAX_HEADER_BYTES, connectionsCheckingInterval: HEADERS_MS / 2 },
        },
        listener({ vmId, services, machine, prefix, log }, service),
      )
      server.maxConnections = connections
      server.timeout = idleMs
      server.on('connection', meter)
      server.on('drop', meter)
      server.on('request', meter)
      servers.push(server)
      const path = folder === null ? null : join(folder, `${service === 'requests' ? 'swarm' : service}.sock`)
      await listen(server, path === null ? { host: '127.0.0.1', port: 0 } : { path })
      if (path !== null) chmodSync(path, 0o600)
      const end = path ?? `127.0.0.1:${(server.address() as AddressInfo).port}`
      addresses[service] = `http://${loopback?.kind === 'direct' ? end : `127.0.0.1:${ports[service]}`}${prefix}`
      forwards.push('-R', `127.0.0.1:${ports[service]}:${end}`)
    }
    return { prefix, addresses, forwards, close }
  } catch (error) {
    close()
    throw error
  }
}
