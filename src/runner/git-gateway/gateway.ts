/** Lets a machine fetch the repositories of its ticket's project, and push to its ticket's branches, without any credential in it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { atMost, type Clock, isWithin } from '../../clock.ts'
import { fail, failureOf, isFailure } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { openMachineLogs } from '../link/machine-log.ts'
import { type BackendRequest, serveBackend } from './backend.ts'
import { explainRemote, type Git, openGit, REPOSITORY_LIMITS, type RepositoryLimits } from './git.ts'
import { type Mirrors, openMirrors, type Remote } from './mirrors.ts'
import { type PushRules, poolRepository } from './policy.ts'
import type { Answer, Question } from './pre-receive.ts'
import { decidePush, type PushContext, type PushRecord, recordInterrupted } from './push.ts'
import { type Route, readRoute } from './route.ts'
import { openSlots, type SlotLimits } from './slots.ts'
import { openTokens, type TokenSource, type Tokens } from './tokens.ts'

/** Whose connection it is. The link knows it from the socket; a request says nothing about it. `ticket`: or the key of a pool. */
export type Machine = { ticket: string; vmId: string }

export type GitGatewayOptions = {
  home: string
  environment: Readonly<Record<string, string | undefined>>
  clock: Clock
  log: Log
  tokens: TokenSource
  record: PushRecord
  /** Whether the repository serves the ticket's project. `repo` is in lower case, here and below. */
  mayFetch(ticket: string, repo: string): boolean | Promise<boolean>
  /** Where the repository is when the source of tokens does not say so. */
  remoteOf(repo: string): string
  /** For the names of branches. `told`: the projects that the repository serves, where the source of tokens says so. */
  rulesOf(
    ticket: string,
    repo: string,
    told: readonly string[] | undefined,
  ): Pick<PushRules, 'projects' | 'attempts' | 'currentKey'>
  /** Whether this is the run of the ticket's agent that is at work. */
  isAgentRun(ticket: string, run: string): boolean
  /** Of all machines: their mirrors stay. */
  repositories(): readonly string[]
  /** Whether the ticket's machine has this repository as its project already. */
  isProjectOf(ticket: string, repo: string): boolean
  /** The operator's for this repository. */
  limitsOf?(repo: string): RepositoryLimits
  slots?: SlotLimits
  /** Milliseconds: how long a guest may send or take nothing, and for a whole request. */
  stallMs?: number
  deadlineMs?: number
}
type Context = Omit<GitGatewayOptions, 'tokens'> & {
  limitsOf(repo: string): RepositoryLimits
  push: PushContext
  mirrors: Mirrors
  tokens: Tokens
  slot: ReturnType<typeof openSlots>
  signal: AbortSignal
  /** Tickets that were last allowed a repository: `DROP-1 acme/shop`. */
  allowed: Set<string>
}

const SLOTS: SlotLimits = { total: 32, each: 2, waiting: 16 }
const CLOSE_MS = 5_000
/** A machine may wait between its two requests of a push. What came to the remote meanwhile is not its own. */
const PUSH_FRESH_MS = 30_000

/** Only where the repository itself is: the address may come from the bot. */
const checkRemote = (text: string, repo: string): string => {
  const url = URL.parse(text)
  const isLoopback = url !== null && /^(?:127\.0\.0\.1|localhost|\[::1\])$/.test(url.hostname)
  const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopback)
  const isPlain = url !== null && `${url.username}${url.password}${url.search}${url.hash}` === ''
  const path = url?.pathname.toLowerCase().replace(/\.git$/, '') ?? ''
  if (url !== null && isSafe && isPlain && path.endsWith(`/${repo}`)) return url.href
  throw fail('refused', `the address of ${repo} is not an https address of this repository`)
}

/** Throws `refused` or `permission` when the machine may not do this. Asked for each request: rights may have ended. */
const authorize = async (
  context: Context,
  ticket: string,
  { repo, need }: { repo: string; need: 'read' | 'write' },
): Promise<Remote & { projects: readonly string[] | undefined }> => {
  const pool = poolRepository(ticket)
  if (pool !== null && need === 'write')
    throw fail('refused', 'a machine that has no ticket yet pushes nothing', 'It may when a create has taken it.')
  if (pool !== null && pool !== repo) throw fail('refused', `a ready machine of ${pool} fetches nothing else`)
  if (!(await context.mayFetch(ticket, repo)))
    throw fail(
      'refused',
      `${repo} does not serve the project of ${ticket}`,
      'Ask the operator to list it for this project.',
    )
  if (need === 'write' && !context.limitsOf(repo).push)
    throw fail('refused', `machines may not push to ${repo}`, 'Ask the operator: `git` in config.yaml says so.')
  const given = await context.tokens.tokenFor({ repo, ticket, need })
  const token = given === null || given.token === null ? null : { ...given, token: given.token }
  if (token === null && need === 'write')
    throw fail(
      'refused',
      `no token can be had for pushes to ${repo}`,
      'Check the GitHub settings of the bot, and that agent-swarm up runs.',
    )
  return { url: checkRemote(given?.remoteUrl ?? context.remoteOf(repo), repo), token, projects: given?.projects }
}

const isAway = (error: unknown) => isFailure(error) && ['network', 'timeout'].includes(error.failure.kind)

/** Access and an up-to-date mirror. A fetch gets what the mirror has when the remote, or who gives tokens, is away. */
const prepare = async (
  context: Context,
  machine: Pick<Machine, 'ticket'>,
  route: Pick<Route, 'repo' | 'service' | 'isDiscovery'>,
): Promise<Awaited<ReturnType<typeof authorize>> | null> => {
  const { repo, service, isDiscovery } = route
  const { ticket } = machine
  const pair = `${ticket} ${repo}`
  try {
    const need = service === 'git-receive-pack' ? 'write' : 'read'
    const remote = await authorize(context, ticket, { repo, need })
    context.allowed.add(pair)
    if (isDiscovery) await context.mirrors.update(repo, remote)
    return remote
  } catch (error) {
    const asOf = context.mirrors.updatedAt(repo)
    if (isFailure(error) && error.failure.kind === 'permission') context.tokens.forget(other => other === ticket)
    if (!isAway(error)) context.allowed.delete(pair)
    if (!isAway(error) || asOf === null || service === 'git-receive-pack') throw error
    // Who gives tokens may be the only one who knows what serves a project. Another ticket's mirror is not for this one.
    if (!context.allowed.has(pair) && !context.isProjectOf(ticket, repo)) throw error
    context.log.warn({ ...machine, repo, asOf, err: error }, 'the remote is away: the mirror is served as it was')
    return null
  }
}

const STATUS: Readonly<Record<string, number>> = {
  ...{ usage: 400, refused: 403, permission: 403, 'not-configured': 403 },
  ...{ busy: 503, network: 503, timeout: 503, capacity: 503, 'disk-full': 503, cancelled: 503 },
}
/** Plain text, which git prints for the person. Never 401: git would ask for a password. */
const answerFailure = (context: Context, machine: Machine, response: ServerResponse, error: unknown, repo: string) => {
  const { kind, message, remedy } = failureOf(error, 'the git gateway')
  context.log.warn({ ...machine, repo, kind, reason: message }, 'request of git refused')
  if (response.headersSent || response.destroyed) return response.destroy()
  const isTold = kind !== 'unknown'
  const text = isTold
    ? [message, remedy].filter(part => part !== null).join('. ')
    : 'an error of the runner: see its log'
  response.writeHead(STATUS[kind] ?? 500, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
  return response.end(`agent-swarm: ${text.replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ').slice(0, 2_000)}\n`)
}

/** Whether the remote refused the token: git's own line says so, which no name of a branch can. */
const isDenied = ({ lines }: Answer): boolean =>
  lines.some(
    line => line.startsWith('agent-swarm: fatal: ') && explainRemote('pushing', line).failure.kind === 'permission',
  )

const serve = async (context: Context, machine: Machine, exchange: BackendRequest): Promise<void> => {
  const { mirrors, rulesOf, isAgentRun, signal, log } = context
  const { route, request } = exchange
  const { repo } = route
  const remote = await prepare(context, machine, route)
  if (mirrors.updatedAt(repo) === null) throw fail('refused', `there is no mirror of ${repo}`, 'Run git fetch first.')
  if (route.isDiscovery) log.debug({ ...machine, repo, service: route.service }, 'refs of a mirror')
  const isPush = route.service === 'git-receive-pack' && !route.isDiscovery
  const ended = new AbortController()
  let release = () => {}
  const decide = async (question: Question): Promise<Answer> => {
    if (remote === null) return { isAllowed: false, lines: ['agent-swarm: the remote is away. Try again.'] }
    if (!isWithin(mirrors.updatedAt(repo)?.getTime() ?? 0, PUSH_FRESH_MS, context.clock())) {
      mirrors.expire(repo)
      await mirrors.update(repo, remote)
    }
    const unlock = await mirrors.lock(repo, ended.signal)
    if (ended.signal.aborted) {
      // git ended while this waited: nobody releases the lock later.
      unlock()
      throw fail('cancelled', `deciding a push to ${repo}: git has ended`)
    }
    release = unlock
    const run = request.headers['x-agent-swarm-run']
    const byAgent = typeof run === 'string' && isAgentRun(machine.ticket, run)
    const names = rulesOf(machine.ticket, repo, remote.projects)
    const rules = { ...names, key: machine.ticket, defaultBranch: mirrors.defaultBranch(repo) }
    const push = { machine, repo, mirror: mirrors.path(repo), remote, byAgent, rules }
    const answer = await decidePush(context.push, push, question)
    // The remote may have something newer, or refuse the token.
    if (!answer.isAllowed) mirrors.expire(repo)
    if (isDenied(answer)) context.tokens.forget(ticket => ticket === machine.ticket)
    return answer
  }
  const endPush = isPush ? mirrors.beginPush(repo) : async () => {}
  try {
    await serveBackend(context, exchange, signal, decide)
  } finally {
    ended.abort()
    release()
    await endPush().catch(error => log.warn({ err: error, repo }, 'removing what a push left failed'))
  }
}

type InRepository = { ticket: string; repo: string }
type ReadFile = InRepository & { path: string; most: number }

const readDefault = async (git: Git, mirror: string, path: string, most: number): Promise<string | null> => {
  const blob = `HEAD:${path}`
  const found = await git(`looking for ${path}`, mirror, ['cat-file', '-s', blob], { answers: [128] })
  if (found.exitCode !== 0) return null
  // Whoever reads it would take it for a file that is not there.
  if (Number(found.stdout) > most) throw fail('refused', `reading ${path}: it is larger than ${most} bytes`)
  return (await git(`reading ${path}`, mirror, ['cat-file', 'blob', blob])).stdout
}

export const openGitGateway = (options: GitGatewayOptions) => {
  const { home, environment, clock, log, record, limitsOf = () => REPOSITORY_LIMITS, slots = SLOTS } = options
  const closing = new AbortController()
  const { signal } = closing
  const git = openGit(home, environment)
  const push: PushContext = { git, clock, log, record }
  const mirrors: Mirrors = openMirrors(
    {
      ...{ home, git, clock, log, mirrorBytes: (repo: string) => limitsOf(repo).mirrorBytes },
      onUpdated: repo => recordInterrupted(push, mirrors.path(repo)),
    },
    signal,
  )
  const tokens = openTokens(options.tokens, clock)
  const context: Context = {
    ...options,
    limitsOf,
    push,
    mirrors,
    tokens,
    slot: openSlots(slots),
    signal,
    allowed: new Set(),
  }
  const running = new Set<Promise<void>>()
  const logOf = openMachineLogs(log)

  const handleRequest = async (machine: Machine, request: IncomingMessage, response: ServerResponse) => {
    const machineLog = logOf(machine.vmId)
    const own: Context = { ...context, log: machineLog, push: { ...push, log: machineLog } }
    const route = readRoute(request.method, request.url)
    request.on('error', () => {})
    response.on('error', () => {})
    if (route === null) {
      response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
      return void response.end('agent-swarm: not a request that this gateway serves\n')
    }
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    try {
      const exchange = { route, vmId: machine.vmId, limits: limitsOf(route.repo), request, response }
      const stop = AbortSignal.any([gone.signal, signal])
      await context.slot(machine.vmId, stop, () => serve(own, machine, exchange))
    } catch (error) {
      answerFailure(own, machine, response, error, route.repo)
    }
  }
  return {
    /** Never throws. The caller knows the machine from its socket. */
    handle: (machine: Machine, request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const work = handleRequest(machine, request, response)
      running.add(work)
      return work.finally(() => running.delete(work))
    },
    /** Tickets were deleted, or may no longer have what they had. */
    forget: tokens.forget,
    /** Removes the mirrors that no machine uses, and what killed processes left. Call it now and then. */
    sweep: async (): Promise<void> => {
      const used = new Set(options.repositories().map(repo => repo.toLowerCase()))
      return mirrors.sweep(async repo => used.has(repo))
    },
    /** The newest commit of the default branch, as the remote has it now; null in an empty repository. */
    headOf: async ({ ticket, repo: typed }: InRepository): Promise<string | null> => {
      const repo = typed.toLowerCase()
      mirrors.expire(repo)
      await mirrors.update(repo, await authorize(context, ticket, { repo, need: 'read' }))
      const answer = await git('reading HEAD', mirrors.path(repo), ['rev-parse', '-q', '--verify', 'HEAD'], {
        answers: [1, 128],
      })
      return answer.exitCode === 0 ? answer.stdout.trim() : null
    },
    /** The projects by which branches of the repository name their tickets. */
    projectsOf: async ({ ticket, repo: typed }: InRepository): Promise<readonly string[]> => {
      const repo = typed.toLowerCase()
      const { projects } = await authorize(context, ticket, { repo, need: 'read' })
      return options.rulesOf(ticket, repo, projects).projects
    },
    /**
     * A file of the default branch, as the remote has it now, or, while the remote or who gives tokens is away, as the mirror has it.
     * Null when there is none. Throws when it is longer than `most` bytes.
     */
    readFile: async ({ ticket, repo: typed, path, most }: ReadFile): Promise<string | null> => {
      const repo = typed.toLowerCase()
      await prepare(context, { ticket }, { repo, service: 'git-upload-pack', isDiscovery: true })
      return readDefault(git, mirrors.path(repo), path, most)
    },
    /** Ends what is under way; a push that is being forwarded may end by itself. */
    close: async (): Promise<void> => {
      closing.abort()
      await atMost(CLOSE_MS, [...running])
    },
  }
}
export type GitGateway = ReturnType<typeof openGitGateway>
