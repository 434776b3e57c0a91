/**
 * GitHub, stood in for: the simulator `emulate`, and a thin front for what it lacks (reactions, GitHub's own words for
 * permissions). What people do here is done over its REST API; what GitHub would send of it is sent signed, as GitHub does.
 */
import { createHash, createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { createEmulator } from 'emulate'
import { parse } from 'yaml'
import { faultsOfPayload } from './github-payloads.ts'
import { faultsOfRequest } from './github-requests.ts'

const APP_ID = 7
const INSTALLATION = 100
const OWNER = 'acme'
/** An organisation, for its teams. */
const GUILD = 'guild'
const root = resolve(import.meta.dirname, '../..')
/** What an App of ours may do and hear. */
const { default_permissions, default_events } = parse(readFileSync(join(root, 'app.yml'), 'utf8'))
const CODE = 'a-code-for-once'
export const WEBHOOK_SECRET = 'a secret between GitHub and the bot'

/** The simulator ends connections that rest for 5 s: on a busy machine, just when they are used again. */
const ANEW = { connection: 'close' }
/** What GitHub names where no commit was. */
const NO_COMMIT = '0'.repeat(40)

export type Permission = 'admin' | 'push' | 'pull'
/** What GitHub says that somebody may do, by its own names; null: it knows no such collaborator. */
export type Role = 'admin' | 'maintain' | 'write' | 'triage' | 'read' | 'none' | null
type Json = Record<string, unknown>
export type Comment = { id: number; body: string; author: string; authorType: string }
type Sent = {
  id: number
  guid: string
  delivered_at: string
  redelivery: boolean
  status: string
  status_code: number
  event: string
  payload: Json | Buffer
}
/** `status` is 0 until it is answered. */
type Asked = { method: string; path: string; body: unknown; at: number; status: number }

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** `people`: logins with their permission in the repositories; null: no collaborator. `more` are repositories beside `repo`. */
export const startGitHub = async ({
  repo = 'shop',
  more = [] as string[],
  people = { dev: 'push' } as Record<string, Permission | null>,
} = {}) => {
  const full = `${OWNER}/${repo}`
  const logins = Object.keys(people)
  const emulator = await createEmulator({
    service: 'github',
    port: 0,
    seed: {
      tokens: Object.fromEntries([OWNER, ...logins].map(login => [`token-${login}`, { login, scopes: ['repo'] }])),
      github: {
        users: [OWNER, ...logins].map(login => ({ login })),
        orgs: [{ login: GUILD }],
        repos: [repo, ...more].map(name => ({ owner: OWNER, name, auto_init: true })),
        apps: [
          {
            app_id: APP_ID,
            slug: 'agent-swarm',
            name: 'agent-swarm',
            permissions: default_permissions,
            events: default_events,
            installations: [{ installation_id: INSTALLATION, account: OWNER, repository_selection: 'all' }],
          },
        ],
      },
    },
  })
  const privateKey = emulator.generatedSecrets.find(secret => secret.kind === 'github.app_private_key')?.value ?? ''

  // ── The front: what the bot talks to ──
  const reactions = new Map<number, string[]>()
  const asked: Asked[] = []
  /** What GitHub's own description finds wrong in the requests that came. */
  const invalid: string[] = []
  /** Answers that a test puts in the way of the next requests that match; each is used once. */
  const faults: {
    match: RegExp
    answer: { status: number; headers?: Record<string, string>; body?: unknown } | 'cut' | 'do-and-cut'
  }[] = []

  /** What is said of these instead of what the simulator knows. */
  const roles = new Map<string, Role>()
  /** Pull requests that come from another repository, with the commit that is their head there. */
  const forks = new Map<number, string>()

  const budget = {
    limit: 5_000,
    remaining: 5_000,
    /** Epoch seconds. */
    reset: Math.floor(Date.now() / 1000) + 3_600,
    pollInterval: null as number | null,
    /** What GitHub's clock is behind ours, ms. */
    behind: 0,
  }
  /**
   * The comments of a whole repository, which the simulator does not list: those of its pull requests together, where they
   * link to pull requests as GitHub's do.
   */
  const allComments = async (name: string, query: URLSearchParams): Promise<{ text: string; next: boolean }> => {
    type Listed = { html_url: string; updated_at: string }
    const list = async <T>(path: string) => (await api(OWNER, 'GET', path)) as unknown as T[]
    const pulls = await list<{ number: number; comments?: number }>(`/repos/${name}/pulls?state=all&per_page=100`)
    const found = (
      await Promise.all(
        pulls.map(({ number }) => list<Listed>(`/repos/${name}/issues/${number}/comments?per_page=100`)),
      )
    ).flat()
    const since = query.get('since') ?? ''
    const sorted = found
      .filter(one => Date.parse(one.updated_at) >= (Date.parse(since) || 0))
      .map(one => ({ ...one, html_url: one.html_url.replace('/issues/', '/pull/') }))
      .sort((a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at))
    const size = Number(query.get('per_page') ?? 30)
    const from = (Number(query.get('page') ?? 1) - 1) * size
    return { text: JSON.stringify(sorted.slice(from, from + size)), next: sorted.length > from + size }
  }

  const own = () => `http://127.0.0.1:${(front.address() as AddressInfo).port}`
  /** Where the App's deliveries go, as its settings page has it. */
  const hook = { url: 'https://swarm.example.org/api/github/webhooks', content_type: 'json', insecure_ssl: '0' }
  /** What Apps were asked for. */
  const manifests: Json[] = []
  /** Whose token it is; empty for an App, an installation or nobody. Null: it is not known. */
  const loginOf = (authorization = ''): string | null => {
    const [, token = ''] = authorization.match(/^(?:token|bearer) (.*)$/i) ?? []
    const login = token.match(/^token-(.*)$/)?.[1]
    if (login !== undefined) return [OWNER, ...logins].includes(login) ? login : null
    return token === '' || /^gh[sp]_|^eyJ/.test(token) ? '' : null
  }
  /** What was sent, oldest first, as GitHub keeps it. The bot was away where the status is 502. */
  const deliveries: Sent[] = []
  const PAGE = 100
  /** The App's own deliveries, which the simulator lacks. Null: it is something else that is asked. */
  const aboutDeliveries = (method: string, url: URL): { status: number; body: unknown; next?: string } | null => {
    if (method === 'GET' && url.pathname === '/app/hook/deliveries') {
      const newest = deliveries.toReversed()
      const before = Number(url.searchParams.get('cursor')?.slice(3) ?? Number.POSITIVE_INFINITY)
      const found = newest.filter(one => one.id < before)
      const page = found.slice(0, Math.min(PAGE, Number(url.searchParams.get('per_page') ?? 30)))
      const next = found.length > page.length ? { next: `v1_${page.at(-1)?.id}` } : {}
      const listed = page.map(({ payload, ...one }) => ({
        ...one,
        action: Buffer.isBuffer(payload) ? null : (payload.action ?? null),
        duration: 0.1,
        installation_id: INSTALLATION,
        repository_id: 1,
        throttled_at: null,
      }))
      return { status: 200, body: listed, ...next }
    }
    const id = url.pathname.match(/^\/app\/hook\/deliveries\/(\d+)\/attempts$/)?.[1]
    if (method !== 'POST' || id === undefined) return null
    const sent = deliveries.find(one => one.id === Number(id))
    if (sent === undefined) return { status: 404, body: { message: 'Not Found' } }
    // Answered before it is sent.
    setImmediate(() => send(sent.event, sent.payload, sent.guid).catch(() => {}))
    return { status: 202, body: {} }
  }

  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await bodyOf(request)
    const path = request.url ?? '/'
    const form = path.match(/^(?:\/organizations\/[^/]+)?\/settings\/apps\/new\?state=([^&]+)$/)
    if (form !== null && request.method === 'POST') {
      // A page, and no part of the API. Whoever is logged in agrees at once, and is sent back with a code.
      const given = JSON.parse(new URLSearchParams(body.toString('utf8')).get('manifest') ?? 'null')
      manifests.push(given)
      hook.url = given.hook_attributes.url
      const back = `${given.redirect_url}?code=${CODE}&state=${form[1]}`
      response.writeHead(302, { location: back }).end()
      return
    }
    const line = `${request.method} ${path}`
    const note: Asked = {
      method: request.method ?? '',
      path,
      body: body.length === 0 ? null : JSON.parse(body.toString('utf8')),
      at: performance.now(),
      status: 0,
    }
    asked.push(note)
    invalid.push(...faultsOfRequest({ method: note.method, path, headers: request.headers, body: note.body }))
    response.on('finish', () => {
      note.status = response.statusCode
    })
    const at = faults.findIndex(one => one.match.test(line))
    const [fault] = at < 0 ? [] : faults.splice(at, 1)
    if (fault !== undefined && fault.answer !== 'do-and-cut') {
      if (fault.answer === 'cut') request.socket.destroy()
      else
        response
          .writeHead(fault.answer.status, { 'content-type': 'application/json', ...fault.answer.headers })
          .end(JSON.stringify(fault.answer.body ?? { message: 'no' }))
      return
    }
    const json = (status: number, told: unknown) =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(told))
    const login = loginOf(request.headers.authorization)
    // The simulator takes any token for its owner's.
    if (login === null) return json(401, { message: 'Bad credentials' })
    if (path === '/app/hook/config') return json(200, hook)
    if (path === `/app-manifests/${CODE}/conversions` && request.method === 'POST') {
      const html_url = `${own()}/apps/agent-swarm`
      return json(201, { id: APP_ID, slug: 'agent-swarm', pem: privateKey, webhook_secret: WEBHOOK_SECRET, html_url })
    }
    const [, somebody = ''] = path.match(/\/collaborators\/([^/]+)\/permission$/) ?? []
    const role = roles.get(decodeURIComponent(somebody))
    if (role === null) return json(404, { message: 'Not Found' })
    if (role !== undefined) {
      const words: Partial<Record<NonNullable<Role>, string>> = { maintain: 'write', triage: 'read' }
      return json(200, { permission: words[role] ?? role, role_name: role, user: null })
    }
    const reaction = path.match(/^\/repos\/[^/]+\/[^/]+\/issues\/comments\/(\d+)\/reactions/)
    if (reaction !== null) {
      const id = Number(reaction[1])
      const known = reactions.get(id) ?? []
      if (request.method === 'POST') {
        const { content } = JSON.parse(body.toString('utf8')) as { content: string }
        if (!['+1', '-1', 'laugh', 'confused', 'heart', 'hooray', 'rocket', 'eyes'].includes(content)) {
          response
            .writeHead(422, { 'content-type': 'application/json' })
            .end(JSON.stringify({ message: 'Validation Failed' }))
          return
        }
        // One of a kind from one author, as GitHub has it.
        if (!known.includes(content)) reactions.set(id, [...known, content])
        response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ id: id * 10, content }))
        return
      }
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify(known.map((content, n) => ({ id: n, content }))))
      return
    }
    const answered = aboutDeliveries(note.method, new URL(path, 'http://front'))
    if (answered !== null) {
      const more = `<http://127.0.0.1/app/hook/deliveries?per_page=100&cursor=${answered.next}>; rel="next"`
      response
        .writeHead(answered.status, {
          'content-type': 'application/json',
          date: new Date(Date.now()).toUTCString(),
          ...(answered.next === undefined ? {} : { link: more }),
        })
        .end(JSON.stringify(answered.body))
      return
    }
    const { host: _, connection: __, 'content-length': ___, ...headers } = request.headers
    const { 'if-none-match': validator, ...rest } = headers as Record<string, string>
    const whole = path.match(/^\/repos\/([^/]+\/[^/]+)\/issues\/comments\?(.*)$/)
    const [, name = '', query = ''] = whole ?? []
    // The simulator lists no installation's repositories, and has those of its user.
    const installed = path.startsWith('/installation/repositories')
    const asks = whole !== null ? `/repos/${name}` : installed ? `/repos/${full}` : path
    const answer = await fetch(new URL(asks, emulator.url), {
      method: request.method ?? 'GET',
      headers: { ...rest, ...ANEW },
      ...(body.length === 0 ? {} : { body }),
    })
    let text = await answer.text()
    let next: string | null = null
    if (answer.ok && whole !== null) {
      const page = await allComments(name, new URLSearchParams(query))
      text = page.text
      if (page.next) next = `<${path}>; rel="next"`
    }
    if (answer.ok && installed) {
      const repositories = await Promise.all([repo, ...more].map(one => api(OWNER, 'GET', `/repos/${OWNER}/${one}`)))
      text = JSON.stringify({ total_count: repositories.length, repositories })
    }
    if (answer.ok && path.startsWith('/user/repos')) {
      text = JSON.stringify((JSON.parse(text) as object[]).map(one => ({ ...one, permissions: { push: true } })))
    }
    if (answer.ok && request.method === 'GET' && /^\/repos\/[^/]+\/[^/]+$/.test(path)) {
      const may = login === OWNER ? 'admin' : people[login]
      text = JSON.stringify({
        ...JSON.parse(text),
        permissions: { pull: true, push: may === 'admin' || may === 'push' },
      })
    }
    const away = forks.get(Number(path.match(/^\/repos\/[^/]+\/[^/]+\/pulls\/(\d+)$/)?.[1]))
    if (answer.ok && away !== undefined) {
      const told = JSON.parse(text) as { head: { repo: object } }
      const head = { ...told.head, sha: away, repo: { ...told.head.repo, full_name: `mallory/${repo}` } }
      text = JSON.stringify({ ...told, head })
    }
    if (/\/collaborators\/[^/]+\/permission$/.test(path) && answer.ok) {
      const told = JSON.parse(text) as { permission: string }
      const words: Record<string, string> = { push: 'write', pull: 'read', maintain: 'write', triage: 'read' }
      text = JSON.stringify({ ...told, permission: words[told.permission] ?? told.permission })
    }
    if (fault !== undefined) {
      request.socket.destroy()
      return
    }
    const link = (next ?? answer.headers.get('link'))?.replaceAll(emulator.url, own())
    // A tag for each answer, and no budget spent by one that is not changed.
    const etag = `W/"${createHash('sha256').update(text).digest('hex')}"`
    const unchanged = answer.ok && request.method === 'GET' && validator === etag
    if (!unchanged) budget.remaining -= 1
    response
      .writeHead(unchanged ? 304 : answer.status, {
        'content-type': answer.headers.get('content-type') ?? 'application/json',
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
      .end(unchanged || answer.status === 204 ? undefined : text)
  }
  const front = createServer((request, response) => {
    respond(request, response).catch(error => {
      // While it is asked, the simulator behind it ends, or whoever asked is gone.
      const gone = ending || response.destroyed
      request.socket.destroy()
      if (!gone) throw error
    })
  })
  let ending = false
  await new Promise<void>(resolve => front.listen(0, '127.0.0.1', resolve))

  // ── What people do ──
  const api = async (login: string, method: string, path: string, body?: unknown): Promise<Json> => {
    const response = await fetch(new URL(path, emulator.url), {
      method,
      headers: { authorization: `token token-${login}`, 'content-type': 'application/json', ...ANEW },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 300)}`)
    return text === '' ? {} : (JSON.parse(text) as Json)
  }
  for (const [login, permission] of Object.entries(people)) {
    for (const name of permission === null ? [] : [repo, ...more])
      await api(OWNER, 'PUT', `/repos/${OWNER}/${name}/collaborators/${login}`, { permission })
  }

  let bot: string | null = null
  let tip = 0
  /** `failed`: nothing arrives. `untold`: GitHub itself does not know that there was something to send. */
  let losing: 'failed' | 'untold' | null = null
  const untold: Json[] = []
  const post = async (
    url: string,
    event: string,
    payload: Json | Buffer,
    id: string,
    secret: string,
  ): Promise<number> => {
    const body = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload))
    const response = await fetch(new URL('/api/github/webhooks', url), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-github-event': event,
        'x-github-delivery': id,
        'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
      },
      body,
    })
    return response.status
  }
  const send = async (
    event: string,
    payload: Json | Buffer,
    id: string,
    secret: string = WEBHOOK_SECRET,
  ): Promise<number> => {
    if (losing === 'untold') {
      if (!Buffer.isBuffer(payload)) untold.push(payload)
      return 0
    }
    const at = new Date(Date.now()).toISOString()
    let status = 502
    try {
      if (bot !== null && losing === null) status = await post(bot, event, payload, id, secret)
    } finally {
      const redelivery = deliveries.some(one => one.guid === id)
      const kept = { id: deliveries.length + 1_000, guid: id, delivered_at: at, redelivery, event, payload }
      const said = status < 300 ? 'OK' : 'failed to connect to host'
      deliveries.push({ ...kept, status: said, status_code: status })
    }
    return status
  }
  /** Sends what GitHub never would: for what is broken on purpose. Returns the bot's status. */
  const deliverBroken = async (
    event: string,
    payload: Json | Buffer,
    id: string = randomUUID(),
    secret: string = WEBHOOK_SECRET,
  ): Promise<number> =>
    // Nobody is told: whoever polls finds it.
    bot === null && losing === null ? 0 : send(event, payload, id, secret)
  /** Sends as GitHub does, and only what GitHub would. The same id again is a redelivery. */
  const deliver = async (event: string, payload: Json, id?: string, secret?: string): Promise<number> => {
    const faults = faultsOfPayload(event, payload)
    if (faults.length > 0) throw new Error(`GitHub would not send this ${event}:\n${faults.join('\n')}`)
    return deliverBroken(event, payload, id, secret)
  }
  const persons = new Map<string, Promise<Json>>()
  const personOf = (login: string): Promise<Json> => {
    const found = persons.get(login) ?? api(OWNER, 'GET', `/users/${login}`)
    persons.set(login, found)
    return found
  }
  const common = async (login: string) => ({
    repository: await api(OWNER, 'GET', `/repos/${full}`),
    sender: await personOf(login),
    installation: { id: INSTALLATION, node_id: 'MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9uMTAw' },
  })
  const pushEvent = async (
    branch: string,
    before: string,
    { sha, message }: { sha: string; message: string },
    login: string,
  ) => {
    const url = `https://github.com/${full}`
    const person = { name: login, email: `${login}@example.org`, username: login }
    const commit = {
      id: sha,
      tree_id: sha,
      distinct: true,
      message,
      timestamp: new Date().toISOString(),
      url: `${url}/commit/${sha}`,
      author: person,
      committer: person,
      added: [],
      removed: [],
      modified: [],
    }
    return deliver('push', {
      ref: `refs/heads/${branch}`,
      before,
      after: sha,
      base_ref: null,
      created: before === NO_COMMIT,
      deleted: false,
      forced: false,
      compare: `${url}/compare/${branch}`,
      commits: [commit],
      head_commit: commit,
      pusher: { name: login, email: person.email },
      ...(await common(login)),
    })
  }
  const pull = (number: number) => api(OWNER, 'GET', `/repos/${full}/pulls/${number}`)
  const pullEvent = async (action: string, number: number, login: string) =>
    deliver('pull_request', { action, number, pull_request: await pull(number), ...(await common(login)) })

  /** The issue that GitHub has behind a pull request, as it is told with a comment. */
  const issueOf = async (number: number) => {
    // The simulator has none.
    const { head: _, base: __, ...shared } = await pull(number)
    const [api_, web] = [`https://api.github.com/repos/${full}`, `https://github.com/${full}/pull/${number}`]
    return {
      ...shared,
      active_lock_reason: null,
      repository_url: api_,
      labels_url: `${api_}/issues/${number}/labels{/name}`,
      events_url: `${api_}/issues/${number}/events`,
      pull_request: {
        url: `${api_}/pulls/${number}`,
        html_url: web,
        diff_url: `${web}.diff`,
        patch_url: `${web}.patch`,
      },
      reactions: {
        url: `${api_}/issues/${number}/reactions`,
        ...{ total_count: 0, '+1': 0, '-1': 0, laugh: 0, hooray: 0, confused: 0, heart: 0, rocket: 0, eyes: 0 },
      },
    }
  }

  return {
    url: own(),
    repo: full,
    app: { id: APP_ID, privateKey, installation: INSTALLATION },
    /** Of a bot that is its App. */
    settings: { APP_ID: String(APP_ID), PRIVATE_KEY: privateKey, WEBHOOK_SECRET, GITHUB_API_URL: own() },
    asked,
    invalid,
    faults,
    budget,
    roles,
    forks,
    hook,
    manifests,
    api,
    deliver,
    deliverBroken,
    common,
    pull,
    deliveries,
    /** What nobody was told of. */
    lost: () => untold,
    lose: (how: 'failed' | 'untold' | null) => {
      losing = how
    },
    sendTo: (url: string) => {
      bot = url
    },
    /** A new commit on `branch` (made of main when it is not there), and its push event. Returns the commit. */
    push: async (branch: string, login = 'dev'): Promise<string> => {
      const ref = (await api(OWNER, 'GET', `/repos/${full}/git/ref/heads/main`)) as { object: { sha: string } }
      const made = await api(OWNER, 'POST', `/repos/${full}/git/refs`, {
        ref: `refs/heads/${branch}`,
        sha: ref.object.sha,
      }).catch(() => null)
      tip += 1
      const message = `change ${tip}`
      const { commit } = (await api(OWNER, 'PUT', `/repos/${full}/contents/file-${tip}.txt`, {
        message,
        content: Buffer.from(String(tip)).toString('base64'),
        branch,
      })) as { commit: { sha: string } }
      await pushEvent(branch, made === null ? ref.object.sha : NO_COMMIT, { sha: commit.sha, message }, login)
      return commit.sha
    },
    /** Writes a file on a branch that is there, and sends its push event. */
    write: async (branch: string, path: string, content: string, login = 'dev'): Promise<void> => {
      const ref = (await api(OWNER, 'GET', `/repos/${full}/git/ref/heads/${branch}`)) as { object: { sha: string } }
      const known = await api(OWNER, 'GET', `/repos/${full}/contents/${path}?ref=${branch}`).catch(() => null)
      const message = `change ${path}`
      const { commit } = (await api(OWNER, 'PUT', `/repos/${full}/contents/${path}`, {
        message,
        content: Buffer.from(content).toString('base64'),
        branch,
        ...(known === null ? {} : { sha: known.sha }),
      })) as { commit: { sha: string } }
      await pushEvent(branch, ref.object.sha, { sha: commit.sha, message }, login)
    },
    /** Opens a pull request of `branch`, and its event. Returns the number. */
    open: async (branch: string, title: string, login = 'dev'): Promise<number> => {
      const made = (await api(OWNER, 'POST', `/repos/${full}/pulls`, {
        title,
        head: branch,
        base: 'main',
        body: '',
      })) as { number: number }
      await pullEvent('opened', made.number, login)
      return made.number
    },
    merge: async (number: number, login = 'dev') => {
      await api(OWNER, 'PUT', `/repos/${full}/pulls/${number}/merge`, {})
      return pullEvent('closed', number, login)
    },
    close: async (number: number, login = 'dev') => {
      await api(OWNER, 'PATCH', `/repos/${full}/pulls/${number}`, { state: 'closed' })
      return pullEvent('closed', number, login)
    },
    reopen: async (number: number, login = 'dev') => {
      await api(OWNER, 'PATCH', `/repos/${full}/pulls/${number}`, { state: 'open' })
      return pullEvent('reopened', number, login)
    },
    /** A comment on a pull request, and its event. Returns the comment's id. */
    comment: async (
      number: number,
      body: string,
      login = 'dev',
      action: 'created' | 'edited' = 'created',
    ): Promise<number> => {
      const comment = (await api(login, 'POST', `/repos/${full}/issues/${number}/comments`, { body })) as { id: number }
      await deliver('issue_comment', { action, issue: await issueOf(number), comment, ...(await common(login)) })
      return comment.id
    },
    issueOf,
    comments: async (number: number): Promise<Comment[]> => {
      const found = (await api(OWNER, 'GET', `/repos/${full}/issues/${number}/comments?per_page=100`)) as unknown as {
        id: number
        body: string
        user: { login: string; type: string }
      }[]
      return found.map(one => ({ id: one.id, body: one.body, author: one.user.login, authorType: one.user.type }))
    },
    /** Makes a team of the organisation, with these people in it. Returns its name in a rule. */
    team: async (name: string, ...members: string[]): Promise<string> => {
      await api(OWNER, 'POST', `/orgs/${GUILD}/teams`, { name })
      for (const login of members) await api(OWNER, 'PUT', `/orgs/${GUILD}/teams/${name}/memberships/${login}`, {})
      return `${GUILD}/${name}`
    },
    reactions: (commentId: number): string[] => reactions.get(commentId) ?? [],
    /** Throws when a request was none that GitHub's description knows: every test that uses this proves the requests. */
    stop: async () => {
      ending = true
      front.closeAllConnections()
      await new Promise(resolve => front.close(resolve))
      await emulator.close()
      if (invalid.length > 0) throw new Error(`GitHub would not take what it was asked:\n${invalid.join('\n')}`)
    },
  }
}
export type GitHubStandIn = Awaited<ReturnType<typeof startGitHub>>
