/**
 * The HTTP front before the simulator `emulate`. It adds what the simulator lacks (reactions, the App's deliveries, comments of a
 * whole repository, conditional requests, rate limits), and uses GitHub's own words for permissions.
 */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { agentAnswer, openAgentState } from './github-agents.ts'
import type { GitSide } from './github-git.ts'
import { answerGraphql } from './github-graphql.ts'
import { faultsOfRequest } from './github-requests.ts'
import { type Json, WEBHOOK_SECRET, type Webhooks } from './github-webhooks.ts'
import { askSimulator } from './simulator.ts'

const MANIFEST_CODE = 'a-code-for-once'
const PAGE = 100

export type Permission = 'admin' | 'push' | 'pull'
/** A permission in the words of GitHub's API; null: not a collaborator. */
export type Role = 'admin' | 'maintain' | 'write' | 'triage' | 'read' | 'none' | null
type App = { id: number; privateKey: string; installation: number }
/** `status` is 0 until there is a response. */
type ReceivedRequest = { method: string; path: string; body: unknown; at: number; status: number }
/** `cut`: the connection breaks. `do-and-cut`: it breaks after the request took effect. */
type Fault = {
  match: RegExp
  answer: { status: number; headers?: Record<string, string>; body?: unknown } | 'cut' | 'do-and-cut'
}

/** What tests read and change. */
export const openFrontState = () => ({
  requests: [] as ReceivedRequest[],
  /** What GitHub's own description of its API finds wrong in the requests. */
  invalid: [] as string[],
  /** Answers to the next requests that match, in place of GitHub's. Each is used once. */
  faults: [] as Fault[],
  reactions: new Map<number, string[]>(),
  /** The comments that are minimized, by node id. */
  minimized: new Set<string>(),
  /** `no-rights`: this account may not minimize. `no-schema`: an old GitHub Enterprise Server. */
  graphql: { answers: 'as usual' as 'as usual' | 'no-rights' | 'no-schema' },
  /** Permissions by login, in place of the simulator's. */
  roles: new Map<string, Role>(),
  /** Reviews and checks. */
  agents: openAgentState(),
  /** Whether the plan of the repository allows drafts. */
  drafts: { allowed: true },
  /** The tokens that were given, with what each may do with the contents of repositories. */
  gitTokens: new Map<string, 'read' | 'write'>(),
  /** Pull requests that come from another repository, with the commit that is their head there. */
  forks: new Map<number, string>(),
  budget: {
    limit: 5_000,
    remaining: 5_000,
    /** Epoch seconds. */
    reset: Math.floor(Date.now() / 1000) + 3_600,
    pollInterval: null as number | null,
    /** GitHub's clock is this far behind ours, ms. */
    behind: 0,
  },
  /** Where the App's deliveries go, according to its settings page. */
  hook: { url: 'https://swarm.example.org/api/github/webhooks', content_type: 'json', insecure_ssl: '0' },
  /** The manifests of Apps that were created. */
  manifests: [] as Json[],
})
type FrontState = ReturnType<typeof openFrontState>

export type FrontContext = {
  state: FrontState
  webhooks: Webhooks
  app: App
  owner: string
  people: Readonly<Record<string, Permission | null>>
  /** The names of the owner's repositories; the first is the one that people work in. */
  repositories: readonly string[]
  emulatorUrl: string
  git: Pick<GitSide, 'handle'>
  /** A request to the simulator as somebody. */
  api: (login: string, method: string, path: string, body?: unknown) => Promise<Json>
  frontUrl: () => string
}
type Incoming = { request: IncomingMessage; note: ReceivedRequest; url: URL; raw: Buffer; login: string }
type Answer = { status: number; body: unknown; headers?: Record<string, string> }

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
const sendJson = (response: ServerResponse, { status, body, headers = {} }: Answer): void =>
  void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))

/** Whose token it is; empty for an App, an installation or nobody. Null: unknown, which the simulator would take for its owner's. */
const loginOf = ({ owner, people }: FrontContext, authorization = ''): string | null => {
  const [, token = ''] = authorization.match(/^(?:token|bearer) (.*)$/i) ?? []
  const login = token.match(/^token-(.*)$/)?.[1]
  if (login !== undefined) return login === owner || Object.hasOwn(people, login) ? login : null
  return token === '' || /^gh[sp]_|^eyJ/.test(token) ? '' : null
}

// ── What the simulator lacks: each answers a request, or null when it is about something else ──

/** The page on which somebody creates an App: whoever is signed in agrees at once. */
const createApp = ({ state }: FrontContext, { request, url, raw }: Incoming): Answer | null => {
  const form = url.pathname.match(/^(?:\/organizations\/[^/]+)?\/settings\/apps\/new$/)
  if (form === null || request.method !== 'POST') return null
  const manifest = JSON.parse(new URLSearchParams(raw.toString('utf8')).get('manifest') ?? 'null')
  state.manifests.push(manifest)
  state.hook.url = manifest.hook_attributes.url
  const location = `${manifest.redirect_url}?code=${MANIFEST_CODE}&state=${url.searchParams.get('state')}`
  return { status: 302, body: null, headers: { location } }
}

const appAnswer = ({ state, app, frontUrl }: FrontContext, { request, url }: Incoming): Answer | null => {
  if (url.pathname === '/app/hook/config') return { status: 200, body: state.hook }
  if (url.pathname !== `/app-manifests/${MANIFEST_CODE}/conversions` || request.method !== 'POST') return null
  const html_url = `${frontUrl()}/apps/agent-swarm`
  const { id, privateKey: pem } = app
  return { status: 201, body: { id, slug: 'agent-swarm', pem, webhook_secret: WEBHOOK_SECRET, html_url } }
}

const deliveriesAnswer = ({ webhooks, app }: FrontContext, { request, url }: Incoming): Answer | null => {
  const { deliveries, send } = webhooks
  if (request.method === 'GET' && url.pathname === '/app/hook/deliveries') {
    const before = Number(url.searchParams.get('cursor')?.slice(3) ?? Number.POSITIVE_INFINITY)
    const older = deliveries.toReversed().filter(({ id }) => id < before)
    const page = older.slice(0, Math.min(PAGE, Number(url.searchParams.get('per_page') ?? 30)))
    const next = `<http://127.0.0.1/app/hook/deliveries?per_page=100&cursor=v1_${page.at(-1)?.id}>; rel="next"`
    const body = page.map(({ payload, ...delivery }) => ({
      ...delivery,
      ...{ duration: 0.1, installation_id: app.installation, repository_id: 1, throttled_at: null },
      action: Buffer.isBuffer(payload) ? null : (payload.action ?? null),
    }))
    const date = new Date(Date.now()).toUTCString()
    return { status: 200, body, headers: older.length > page.length ? { date, link: next } : { date } }
  }
  const id = url.pathname.match(/^\/app\/hook\/deliveries\/(\d+)\/attempts$/)?.[1]
  if (request.method !== 'POST' || id === undefined) return null
  const sent = deliveries.find(delivery => delivery.id === Number(id))
  if (sent === undefined) return { status: 404, body: { message: 'Not Found' } }
  // GitHub answers before it sends.
  setImmediate(() => send(sent.event, sent.payload, sent.guid).catch(() => {}))
  return { status: 202, body: {} }
}

const roleAnswer = ({ state }: FrontContext, { url }: Incoming): Answer | null => {
  const login = url.pathname.match(/\/collaborators\/([^/]+)\/permission$/)?.[1]
  const role = login === undefined ? undefined : state.roles.get(decodeURIComponent(login))
  if (role === undefined) return null
  if (role === null) return { status: 404, body: { message: 'Not Found' } }
  const words: Partial<Record<NonNullable<Role>, string>> = { maintain: 'write', triage: 'read' }
  return { status: 200, body: { permission: words[role] ?? role, role_name: role, user: null } }
}

const REACTIONS = ['+1', '-1', 'laugh', 'confused', 'heart', 'hooray', 'rocket', 'eyes']
const reactionAnswer = ({ state }: FrontContext, { request, note, url }: Incoming): Answer | null => {
  const comment = url.pathname.match(/^\/repos\/[^/]+\/[^/]+\/issues\/comments\/(\d+)\/reactions/)?.[1]
  if (comment === undefined) return null
  const id = Number(comment)
  const known = state.reactions.get(id) ?? []
  if (request.method !== 'POST') return { status: 200, body: known.map((content, n) => ({ id: n, content })) }
  const { content } = note.body as { content: string }
  if (!REACTIONS.includes(content)) return { status: 422, body: { message: 'Validation Failed' } }
  // GitHub keeps one of a kind from one author.
  if (!known.includes(content)) state.reactions.set(id, [...known, content])
  return { status: 201, body: { id: id * 10, content } }
}

const graphqlAnswer = async (context: FrontContext, { note, url }: Incoming): Promise<Answer | null> => {
  if (note.method !== 'POST' || url.pathname !== '/graphql') return null
  const { state, owner, repositories, api } = context
  const exists = async (nodeId: string): Promise<boolean> => {
    // The simulator's node ids.
    const id = Buffer.from(nodeId, 'base64')
      .toString('utf8')
      .match(/IssueComment(\d+)$/)?.[1]
    const found = await Promise.all(
      repositories.map(name => api(owner, 'GET', `/repos/${owner}/${name}/issues/comments/${id}`).catch(() => null)),
    )
    return id !== undefined && found.some(comment => comment?.node_id === nodeId)
  }
  const { answer, minimized } = await answerGraphql(note.body, {
    schema: state.graphql.answers !== 'no-schema',
    mayMinimize: async id => ((await exists(id)) ? state.graphql.answers === 'as usual' : null),
  })
  if (minimized !== null) state.minimized.add(minimized)
  return answer
}

const reviewsAndChecks = ({ state }: FrontContext, { request, url }: Incoming): Answer | null =>
  agentAnswer(state.agents, { method: request.method ?? '', pathname: url.pathname })

const draftAnswer = ({ state }: FrontContext, { note, url }: Incoming): Answer | null => {
  const isCreate = note.method === 'POST' && /^\/repos\/[^/]+\/[^/]+\/pulls$/.test(url.pathname)
  if (!isCreate || state.drafts.allowed || (note.body as { draft?: boolean } | null)?.draft !== true) return null
  // As people quote it: https://github.com/orgs/community/discussions
  const message = 'Draft pull requests are not supported in this repository.'
  return {
    status: 422,
    body: { message: 'Validation Failed', errors: [{ resource: 'PullRequest', code: 'custom', message }] },
  }
}

// ── What the simulator answers differently ──

const COMMENTS_OF_REPOSITORY = /^\/repos\/([^/]+\/[^/]+)\/issues\/comments$/

/** The comments of all pull requests of a repository, with links to pull requests as GitHub has them. */
const commentsOfRepository = async (
  { api, owner }: FrontContext,
  name: string,
  query: URLSearchParams,
): Promise<{ text: string; hasNext: boolean }> => {
  type Listed = { html_url: string; updated_at: string }
  const list = async <T>(path: string) => (await api(owner, 'GET', path)) as unknown as T[]
  const pulls = await list<{ number: number }>(`/repos/${name}/pulls?state=all&per_page=100`)
  const comments = await Promise.all(
    pulls.map(({ number }) => list<Listed>(`/repos/${name}/issues/${number}/comments?per_page=100`)),
  )
  const since = Date.parse(query.get('since') ?? '') || 0
  const sorted = comments
    .flat()
    .filter(({ updated_at }) => Date.parse(updated_at) >= since)
    .map(comment => ({ ...comment, html_url: comment.html_url.replace('/issues/', '/pull/') }))
    .sort((a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at))
  const size = Number(query.get('per_page') ?? 30)
  const start = (Number(query.get('page') ?? 1) - 1) * size
  return { text: JSON.stringify(sorted.slice(start, start + size)), hasNext: sorted.length > start + size }
}

/** The simulator lists no installation's repositories, and no comments of a repository: then it answers about the repository. */
const pathInSimulator = (url: URL, repository: string): string => {
  const name = url.pathname.match(COMMENTS_OF_REPOSITORY)?.[1]
  if (name !== undefined) return `/repos/${name}`
  return url.pathname === '/installation/repositories' ? `/repos/${repository}` : `${url.pathname}${url.search}`
}

/** A successful answer of the simulator, corrected. `next`: there is another page. */
const correct = async (
  context: FrontContext,
  { request, url, login }: Incoming,
  text: string,
): Promise<{ text: string; next?: string }> => {
  const { state, owner, people, repositories, api } = context
  const name = url.pathname.match(COMMENTS_OF_REPOSITORY)?.[1]
  if (name !== undefined) {
    const page = await commentsOfRepository(context, name, url.searchParams)
    return { text: page.text, ...(page.hasNext ? { next: `<${url.pathname}${url.search}>; rel="next"` } : {}) }
  }
  if (url.pathname === '/installation/repositories') {
    const all = await Promise.all(repositories.map(repo => api(owner, 'GET', `/repos/${owner}/${repo}`)))
    return { text: JSON.stringify({ total_count: all.length, repositories: all }) }
  }
  if (/^\/app\/installations\/\d+\/access_tokens$/.test(url.pathname)) {
    const { token, permissions } = JSON.parse(text) as { token: string; permissions?: { contents?: 'read' | 'write' } }
    if (permissions?.contents !== undefined) state.gitTokens.set(token, permissions.contents)
    return { text }
  }
  if (url.pathname === '/user/repos') {
    const all = JSON.parse(text) as object[]
    return { text: JSON.stringify(all.map(repository => ({ ...repository, permissions: { push: true } }))) }
  }
  if (request.method === 'GET' && /^\/repos\/[^/]+\/[^/]+$/.test(url.pathname)) {
    const permission = login === owner ? 'admin' : people[login]
    const permissions = { pull: true, push: permission === 'admin' || permission === 'push' }
    return { text: JSON.stringify({ ...JSON.parse(text), permissions }) }
  }
  const fork = state.forks.get(Number(url.pathname.match(/^\/repos\/[^/]+\/[^/]+\/pulls\/(\d+)$/)?.[1]))
  if (fork !== undefined) {
    const pull = JSON.parse(text) as { head: { repo: object } }
    const repo = { ...pull.head.repo, full_name: `mallory/${repositories[0]}` }
    return { text: JSON.stringify({ ...pull, head: { ...pull.head, sha: fork, repo } }) }
  }
  if (/\/collaborators\/[^/]+\/permission$/.test(url.pathname)) {
    const answer = JSON.parse(text) as { permission: string }
    const words: Record<string, string> = { push: 'write', pull: 'read', maintain: 'write', triage: 'read' }
    return { text: JSON.stringify({ ...answer, permission: words[answer.permission] ?? answer.permission }) }
  }
  return { text }
}

const forward = async (context: FrontContext, incoming: Incoming, isCut: boolean, response: ServerResponse) => {
  const { state, emulatorUrl, frontUrl, owner, repositories } = context
  const { request, url, raw, login } = incoming
  const { host: _, connection: __, 'content-length': ___, ...headers } = request.headers
  const { 'if-none-match': validator, ...rest } = headers as Record<string, string>
  const answer = await askSimulator(pathInSimulator(url, `${owner}/${repositories[0]}`), emulatorUrl, {
    method: request.method ?? 'GET',
    headers: rest,
    ...(raw.length === 0 ? {} : { body: raw }),
  })
  const { text, next } = answer.ok ? await correct(context, incoming, answer.text) : { text: answer.text }
  if (isCut) return void request.socket.destroy()
  const link = (next ?? [answer.headers.link].flat()[0])?.replaceAll(emulatorUrl, frontUrl())
  const etag = `W/"${createHash('sha256').update(text).digest('hex')}"`
  const isUnchanged = answer.ok && request.method === 'GET' && validator === etag
  const { budget } = state
  // A response without news does not count.
  if (!isUnchanged) budget.remaining -= 1
  response
    .writeHead(isUnchanged ? 304 : answer.status, {
      'content-type': answer.headers['content-type'] ?? 'application/json',
      ...(request.method === 'GET' && answer.ok ? { etag } : {}),
      date: new Date(Date.now() - budget.behind).toUTCString(),
      'x-ratelimit-limit': budget.limit,
      'x-ratelimit-remaining': budget.remaining,
      'x-ratelimit-reset': budget.reset,
      'x-ratelimit-resource': 'core',
      ...(login === '' ? {} : { 'x-oauth-scopes': 'repo' }),
      ...(budget.pollInterval === null ? {} : { 'x-poll-interval': budget.pollInterval }),
      ...(link === undefined ? {} : { link }),
    })
    .end(isUnchanged || answer.status === 204 ? undefined : text)
}

const recordRequest = (
  { requests, invalid }: FrontState,
  request: IncomingMessage,
  response: ServerResponse,
  raw: Buffer,
): ReceivedRequest => {
  const { method = '', url: path = '/', headers } = request
  const body = raw.length === 0 ? null : JSON.parse(raw.toString('utf8'))
  const note: ReceivedRequest = { method, path, body, at: performance.now(), status: 0 }
  requests.push(note)
  invalid.push(...faultsOfRequest({ method, path, headers, body }))
  response.on('finish', () => {
    note.status = response.statusCode
  })
  return note
}

const respond = async (context: FrontContext, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const { state } = context
  const raw = await bodyOf(request)
  const url = new URL(request.url ?? '/', 'http://front')
  const isPage = url.pathname.endsWith('/settings/apps/new')
  const { method = '', url: path = '/' } = request
  const note = isPage ? { method, path, body: null, at: 0, status: 0 } : recordRequest(state, request, response, raw)
  const index = state.faults.findIndex(({ match }) => match.test(`${method} ${path}`))
  const [fault] = index < 0 ? [] : state.faults.splice(index, 1)
  if (fault?.answer === 'cut') return void request.socket.destroy()
  if (fault !== undefined && fault.answer !== 'do-and-cut')
    return sendJson(response, { body: { message: 'no' }, ...fault.answer })
  const login = loginOf(context, request.headers.authorization)
  if (login === null) return sendJson(response, { status: 401, body: { message: 'Bad credentials' } })
  const incoming: Incoming = { request, note, url, raw, login }
  const answers = [createApp, appAnswer, roleAnswer, reactionAnswer, graphqlAnswer, deliveriesAnswer]
  for (const answer of [...answers, reviewsAndChecks, draftAnswer]) {
    const found = await answer(context, incoming)
    if (found !== null) return sendJson(response, found)
  }
  await forward(context, incoming, fault?.answer === 'do-and-cut', response)
}

export const startFront = async (context: Omit<FrontContext, 'frontUrl'>) => {
  let ending = false
  const frontUrl = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const server = createServer((request, response) => {
    if (context.git.handle(request, response)) return
    respond({ ...context, frontUrl }, request, response).catch(error => {
      // The simulator ends during a request, or the client is gone.
      const isExpected = ending || response.destroyed
      request.socket.destroy()
      if (!isExpected) throw error
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: frontUrl(),
    stop: async () => {
      ending = true
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
