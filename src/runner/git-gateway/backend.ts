/** The bridge between an HTTP request and `git http-backend`: streams both ways, and bounds on what a guest can make git do. */
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable, Writable } from 'node:stream'
import { fail } from '../../errors.ts'
import { type StreamedProgram, streamProgram } from '../../exec.ts'
import { gitEnvironment, mirrorsFolder, pushLimits, type RepositoryLimits } from './git.ts'
import { type Answer, answerHook, type Question } from './pre-receive.ts'
import type { Route } from './route.ts'

/** For a whole fetch or push. */
const DEADLINE_MS = 30 * 60_000
/**
 * How long git may take to end after its input has, before a signal ends it. Longer than the processor time of one git process:
 * git removes what it has of a push unless a signal ends it.
 */
const LEFT_GRACE_MS = 5 * 60_000
/** The same, when the gateway closes. */
const CLOSING_GRACE_MS = 2_000
/** How long a guest may send nothing that it owes, or take nothing that is ready. */
const STALL_MS = 60_000
/** The commits that a machine has, in a fetch: git unpacks at most 10 MiB of them. */
const MAX_FETCH_REQUEST = 10 * 1024 * 1024
/** How long a guest that still sends may read the answer. */
const LINGER_MS = 5_000
const MAX_HEAD = 16 * 1024
const PASSED_ON = ['content-type', 'cache-control', 'expires', 'pragma']

export type BackendRequest = {
  route: Route
  vmId: string
  limits: RepositoryLimits
  request: IncomingMessage
  response: ServerResponse
}
export type BackendContext = {
  home: string
  environment: Readonly<Record<string, string | undefined>>
  /** Milliseconds. */
  stallMs?: number | undefined
  deadlineMs?: number | undefined
}
const PUSH = 'git-receive-pack'

/** The variables of CGI. Only checked values of the request get there. Throws when it is not a request of git. */
const cgiEnvironment = ({ route, vmId, request }: BackendRequest): Record<string, string> => {
  const { headers } = request
  const { repo, service, isDiscovery } = route
  const type = isDiscovery ? undefined : `application/x-${service}-request`
  const encoding = headers['content-encoding']
  if (!isDiscovery && headers['content-type'] !== type) throw fail('usage', `the body is not ${type}`)
  // git never sends a push in gzip (2.39).
  if (encoding !== undefined && service === PUSH) throw fail('usage', 'the body of a push has an encoding')
  if (encoding !== undefined && !/^(?:x-)?gzip$/.test(encoding)) throw fail('usage', 'the body is not in gzip')
  const protocol = String(headers['git-protocol'] ?? '')
  const length = headers['content-length'] ?? ''
  return {
    GIT_HTTP_EXPORT_ALL: '1',
    GIT_HTTP_MAX_REQUEST_BUFFER: String(MAX_FETCH_REQUEST),
    PATH_INFO: `/${repo}.git/${isDiscovery ? 'info/refs' : service}`,
    QUERY_STRING: isDiscovery ? `service=${service}` : '',
    REQUEST_METHOD: isDiscovery ? 'GET' : 'POST',
    REMOTE_USER: vmId,
    REMOTE_ADDR: '127.0.0.1',
    ...(type === undefined ? {} : { CONTENT_TYPE: type }),
    // Without a length, receive-pack itself reads a push, and http-backend ends with it. With one, http-backend waits for a byte
    // that never comes, also when receive-pack has answered, and reads the end of a body that is too short without end (2.39).
    ...(service !== PUSH && /^\d{1,12}$/.test(length) ? { CONTENT_LENGTH: length } : {}),
    ...(encoding === undefined ? {} : { HTTP_CONTENT_ENCODING: 'gzip' }),
    ...(/^version=[0-2]$/.test(protocol) ? { GIT_PROTOCOL: protocol } : {}),
  }
}

/** Passes the body on. What git no longer reads is dropped, so that the guest reads the answer. */
const sendBody = (request: IncomingMessage, stdin: Writable, limit: number, onExcess: () => void): void => {
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > limit) onExcess()
  })
  stdin.on('error', () => {
    request.unpipe(stdin)
    request.resume()
  })
  // A body that ends early is no end of the body.
  request.on('close', () => (request.complete ? undefined : stdin.destroy()))
  request.pipe(stdin)
}

/** Calls `onStall` when the guest owes something for too long. Returns how to end the watch. */
const watchStall = (
  { request, response }: Pick<BackendRequest, 'request' | 'response'>,
  stallMs: number,
  onStall: () => void,
): (() => void) => {
  let last = performance.now()
  const moved = () => {
    last = performance.now()
  }
  request.on('data', moved)
  response.on('drain', moved)
  const timer = setInterval(() => {
    if (request.complete && !response.writableNeedDrain) moved()
    else if (performance.now() - last > stallMs) onStall()
  }, stallMs / 10)
  return () => clearInterval(timer)
}

/** The head of a CGI answer, and what follows it in the same bytes; null when it is not complete. */
const parseHead = (bytes: Buffer): { status: number; headers: [string, string][]; rest: Buffer } | null => {
  const end = bytes.indexOf('\r\n\r\n')
  if (end === -1) return null
  const lines = bytes.subarray(0, end).toString('latin1').split('\r\n')
  const headers = lines.map(line => {
    const [name = '', ...value] = line.split(':')
    return [name.toLowerCase(), value.join(':').trim()] as [string, string]
  })
  const status = Number.parseInt(headers.find(([name]) => name === 'status')?.[1] ?? '200', 10)
  return { status, headers: headers.filter(([name]) => PASSED_ON.includes(name)), rest: bytes.subarray(end + 4) }
}

/**
 * Writes git's answer. `mayWait`: whether git waits for a guest that reads slowly. `left` aborts when the guest has left, or is taken
 * for it. False when there was no complete head.
 */
const sendAnswer = async (
  stdout: Readable,
  response: ServerResponse,
  mayWait: () => boolean,
  left: AbortSignal,
): Promise<boolean> => {
  let head = Buffer.alloc(0)
  const write = async (chunk: Buffer) => {
    if (response.destroyed || response.write(chunk) || !mayWait()) return
    await once(response, 'drain', { signal: left }).catch(() => {})
  }
  for await (const chunk of stdout) {
    if (response.headersSent) {
      await write(chunk as Buffer)
      continue
    }
    head = Buffer.concat([head, chunk as Buffer])
    const parsed = parseHead(head)
    if (parsed === null && head.length > MAX_HEAD) return false
    if (parsed === null || response.destroyed) continue
    response.writeHead(parsed.status, Object.fromEntries(parsed.headers))
    if (parsed.rest.length > 0) await write(parsed.rest)
  }
  return response.headersSent
}

/** Ends git before it has answered: a push by the end of its input, and by a signal when it goes on for `graceMs`. */
const openCutOff = ({ route, request }: BackendRequest, stdin: Writable, stop: AbortController) => {
  let soonest = Number.POSITIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  return {
    isDone: () => soonest < Number.POSITIVE_INFINITY,
    cutOff: (graceMs: number): void => {
      if (graceMs >= soonest) return
      soonest = graceMs
      request.unpipe(stdin)
      request.resume()
      stdin.destroy()
      clearTimeout(timer)
      if (route.service === PUSH) timer = setTimeout(() => stop.abort(), graceMs)
      else stop.abort()
    },
    /** git has ended. */
    end: (): void => {
      soonest = 0
      clearTimeout(timer)
    },
  }
}

/**
 * Serves one request from its mirror. `decide` answers the hook of a push; from then on the guest's leaving ends nothing, so that
 * mirror and remote agree. Resolves when git has ended; throws when it gave no answer.
 */
export const serveBackend = async (
  { home, environment, stallMs = STALL_MS, deadlineMs = DEADLINE_MS }: BackendContext,
  exchange: BackendRequest,
  signal: AbortSignal,
  decide: (question: Question) => Promise<Answer>,
): Promise<void> => {
  const { route, limits, request, response } = exchange
  const settings = [['receive.maxInputSize', String(limits.pushBytes)]] as const
  const env = {
    ...gitEnvironment(home, null, settings),
    ...cgiEnvironment(exchange),
    GIT_PROJECT_ROOT: mirrorsFolder(home),
  }
  const stop = new AbortController()
  const left = new AbortController()
  let isDeciding = false
  const program: StreamedProgram = await streamProgram(environment, 'git', ['http-backend'], {
    ...{ env, deadline: deadlineMs, limits: pushLimits(limits), signal: stop.signal },
  })
  const { cutOff, isDone: isCutOff, end: endCutOff } = openCutOff(exchange, program.stdin, stop)
  const endWithin = (graceMs: number) => {
    left.abort()
    // git ends by itself when the hook has its answer, whatever the guest does.
    if (!isDeciding) cutOff(graceMs)
  }
  const leave = () => endWithin(LEFT_GRACE_MS)
  const close = () => endWithin(CLOSING_GRACE_MS)
  response.once('close', leave)
  signal.addEventListener('abort', close, { once: true })
  if (signal.aborted) close()
  if (response.destroyed) leave()
  answerHook(program.channel, async question => {
    if (isCutOff()) return { isAllowed: false, lines: ['agent-swarm: the connection was lost. Try again.'] }
    isDeciding = true
    return decide(question)
  })
  const limit = route.service === PUSH ? limits.pushBytes + MAX_FETCH_REQUEST : MAX_FETCH_REQUEST
  sendBody(request, program.stdin, limit, () => {
    leave()
    // git has answered before the body ended.
    if (response.writableEnded) request.destroy()
  })
  const endWatch = watchStall(exchange, stallMs, leave)
  try {
    const [isAnswered, { stderr, isEnded }] = await Promise.all([
      sendAnswer(program.stdout, response, () => !isDeciding, left.signal).catch(() => false),
      program.ended,
    ])
    const isOurEnd = isEnded || isCutOff()
    if (isAnswered && !isOurEnd) response.end()
    else if (response.headersSent) response.destroy()
    else if (isOurEnd) throw fail('timeout', 'the request took too long, or was too large')
    else throw fail('unknown', `git http-backend: ${stderr || 'it gave no answer'}`)
  } finally {
    endWatch()
    endCutOff()
    response.off('close', leave)
    if (!request.complete) setTimeout(() => request.destroy(), LINGER_MS).unref()
    signal.removeEventListener('abort', close)
  }
}
