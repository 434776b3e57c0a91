import { generateKeyPairSync } from 'node:crypto'
import nock from 'nock'
import { afterEach, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { openGitHub } from '../../../src/bot/github/open.ts'
import { openJira } from '../../../src/bot/jira/client.ts'
import { openPublisher } from '../../../src/bot/publish/publisher.ts'
import { openLog } from '../../../src/log.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { Environment } from '../../../src/schema/environment.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import { jiraNoteMessage, reactionMessages, replyMessage, statusMessage } from '../../../src/store/messages.ts'
import type { JiraNote, Message, NewRequest } from '../../../src/store/port.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { until } from '../../support/wait.ts'
import * as fixtures from './fixtures.ts'

const API = 'http://github.test'
const JIRA = 'http://127.0.0.1:8765'
const APP = 4242
const DAY_MS = 24 * 60 * 60_000
const START = Date.parse('2026-11-24T10:00:00Z')
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const environment = fixtures.environment({ provider: 'synthetic', ip: null, ssh: null })
const stopped: Environment = { ...environment, status: 'stopped', observedAt: '2026-11-24T09:50:00.000Z' }
const to = { repo: 'acme/shop', number: 7, commentId: 500 }
const create: Action = {
  kind: 'create',
  ticket: 'DROP-1',
  by: { via: 'github', who: 'octocat' },
  replyTo: { ...to, line: 0 },
}
const done: Outcome = { result: 'done', summary: 'DROP-1 has a machine', environment, seconds: 2 }
const request = (line: number, more: Partial<NewRequest>): NewRequest => ({
  ...{ id: `github:d:${line}`, at: START, by: create.by, person: true, place: 'acme/shop#7', ticket: 'DROP-1' },
  ...{ command: { comment: to, line }, what: '/swarm create', action: null, verdict: 'allowed', reason: null },
  ...{ answer: null, ok: null },
  ...more,
})
const pullRequest = (repo: string, number: number, ticket = 'DROP-1') => ({
  ...({ repo, number, ticket, branch: ticket.toLowerCase(), state: 'open', closedAt: null } as const),
})

type Comment = {
  id: number
  body: string
  user: { login: string; type: string }
  performed_via_github_app: { id: number } | null
}

beforeAll(() => {
  nock.disableNetConnect()
  return () => {
    nock.enableNetConnect()
    nock.restore()
  }
})
afterEach(() => {
  nock.cleanAll()
})

/** A GitHub with one thread for a repository. Writes get the answers in `faults` first. */
const github = (repo = 'acme/shop') => {
  const comments: Comment[] = []
  const calls: string[] = []
  const faults: { status: number; headers?: Record<string, string>; body?: unknown; after?: boolean }[] = []
  let id = 900
  const scope = nock(API).persist()
  const route = (
    method: 'get' | 'post' | 'patch',
    path: RegExp,
    answer: (
      uri: string,
      body: { body?: string; content?: string },
    ) => [number, unknown] | [number, unknown, Record<string, string>],
  ) =>
    scope[method](path).reply(async (request: Request) => {
      const { pathname } = new URL(request.url)
      calls.push(`${method.toUpperCase()} ${pathname.replace(`/repos/${repo}`, '')}`)
      const fault = method === 'get' ? undefined : faults.shift()
      if (fault !== undefined && fault.after !== true)
        return [fault.status, fault.body ?? { message: 'no' }, fault.headers ?? {}]
      const sent = await request.text()
      const response = answer(request.url, sent === '' ? {} : JSON.parse(sent))
      return fault === undefined ? response : [fault.status, { message: 'the response is lost' }]
    })
  const path = (rest: string) => new RegExp(`^/repos/${repo}${rest}`)
  route('get', path('/issues/\\d+/comments'), uri => {
    const page = Number(new URL(uri).searchParams.get('page') ?? 1)
    const link =
      page * 100 < comments.length
        ? { link: `<${API}/repos/${repo}/issues/7/comments?per_page=100&page=${page + 1}>; rel="next"` }
        : {}
    return [200, comments.slice((page - 1) * 100, page * 100), link as Record<string, string>]
  })
  route('post', path('/issues/\\d+/comments$'), (_uri, { body = '' }) => {
    id += 1
    const user = { login: 'agent-swarm[bot]', type: 'Bot' }
    comments.push({ id, body, user, performed_via_github_app: { id: APP } })
    return [201, { id }]
  })
  route('post', path('/issues/comments/\\d+/reactions'), () => [201, {}])
  route('patch', path('/issues/comments/\\d+'), (uri, { body = '' }) => {
    const comment = comments.find(({ id }) => uri.endsWith(`/${id}`))
    if (comment === undefined) return [404, { message: 'Not Found' }]
    comment.body = body
    return [200, { id: comment.id }]
  })
  return { comments, calls, faults }
}
nock.emitter.setMaxListeners(100)

const stage = async ({ log = openLog('silent') } = {}) => {
  let now = START
  const clock = () => now
  const store = openStore(':memory:', clock)
  nock(API)
    .persist()
    .post(/^\/app\/installations\/\d+\/access_tokens$/)
    .reply(201, { token: 'ghs_installation', expires_at: '2099-01-01T00:00:00Z', permissions: {} })
  const client = await openGitHub(
    {
      via: 'app',
      appId: APP,
      privateKey: pem,
      webhookSecret: 's3cret-of-webhook',
      repositories: ['acme/shop'],
      apiUrl: API,
    },
    { log, paced: false, repositories: store.repositories },
  )
  const jira = openJira({
    url: JIRA,
    email: 'bot@example.com',
    apiToken: 'jira-token-1234',
    webhookSecret: 'x',
    automationSecret: null,
  })
  const heartbeat = (environments: Environment[]) =>
    store.runners.heartbeat({
      ...{ runnerId: 'runner-1', host: 'studio', version: '1', offer: fixtures.offer(8_192), environments },
      manualOperations: [],
    })
  const publish = () =>
    openPublisher({ store, github: client, jira, webUrl: 'https://github.com', jiraUrl: JIRA, clock, log })
  await store.repositories.setInstallation('acme/shop', 1)
  await heartbeat([environment])
  await store.pullRequests.link(pullRequest('acme/shop', 7))
  for (const row of await store.outbox.due(10)) await store.outbox.ack(row)
  const publisher = publish()
  onTestFinished(() => publisher.close())
  const waiting = async () => (await store.counts()).outbox
  return {
    store,
    publish,
    publisher,
    heartbeat,
    later: (ms: number) => {
      now += ms
      publisher.nudge()
    },
    put: async (...messages: Message[]) => {
      await store.outbox.put(messages)
      publisher.nudge()
    },
    /** Queues the command's action, and records its request. */
    command: async (action = create) => {
      await store.queue.enqueue({ id: 'github:d:0', correlation: 'd', action })
      await record(store, request(0, { action }))
    },
    /** A runner does the action, and the reply is due. */
    finish: async (outcome = done) => {
      const lease = await store.queue.claim('runner-1', fixtures.offer(8_192))
      await store.queue.complete(lease?.id ?? '', lease?.token ?? '', outcome, [replyMessage(to)])
      publisher.nudge()
    },
    published: () => until('an empty outbox', async () => (await waiting()) === 0),
    due: async () => (await store.outbox.due(10)).length,
    postponed: () =>
      until('a postponed message', async () => (await waiting()) > 0 && (await store.outbox.due(10)).length === 0),
  }
}
/** What a decided comment leaves behind. */
const record = async (store: ReturnType<typeof openStore>, ...requests: NewRequest[]) => {
  const id = requests.map(({ id }) => id).join()
  await store.inbox.accept([{ source: 'github', id, event: 'issue_comment', lane: id, body: '{}', receivedAt: START }])
  const [delivery] = await store.inbox.due(1)
  await store.inbox.settle([
    { seq: delivery?.seq ?? 0, verdict: 'actions', reason: null, actions: [], messages: [], requests, effects: [] },
  ])
}
const logged = () => {
  const lines: string[] = []
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(line => lines.push(String(line)) > 0)
  onTestFinished(() => write.mockRestore())
  return lines
}
const note = (text: string, about = 'ready:as-drop-1-1a2b3c4d') =>
  jiraNoteMessage('DROP-1', about, { kind: 'text', text } satisfies JiraNote)
const marker = '<!-- agent-swarm:status:DROP-1 -->\n'
const contains = (comments: Comment[], text: string) => comments.map(({ body }) => body.includes(text))

// ── The status comment ──

test('one status comment, edited in place, and left alone while nothing changes', async () => {
  const { comments, calls } = github()
  const lines = logged()
  const { put, published, heartbeat } = await stage({ log: openLog('info') })
  await put(statusMessage('DROP-1'))
  await published()
  expect(comments).toHaveLength(1)
  expect(comments[0]?.body).toContain('### DROP-1: running')
  expect(comments[0]?.body).toContain('synthetic: no real machine')
  await put(statusMessage('DROP-1'))
  await published()
  await heartbeat([stopped])
  await put()
  await published()
  expect(contains(comments, '### DROP-1: stopped')).toEqual([true])
  expect(calls.filter(call => !call.startsWith('GET'))).toEqual([
    'POST /issues/7/comments',
    'PATCH /issues/comments/901',
  ])
  expect(lines.filter(line => line.includes('"published"'))).toHaveLength(2)
})

test('every pull request of the ticket gets the status', async () => {
  const [shop, other] = [github(), github('acme/api')]
  const { put, published, store } = await stage()
  await store.repositories.setInstallation('acme/api', 2)
  await store.pullRequests.link(pullRequest('acme/api', 3))
  await put(statusMessage('DROP-1'))
  await published()
  expect([shop.comments.length, other.comments.length]).toEqual([1, 1])
})

test('a ticket without an environment has no status comment', async () => {
  const { calls } = github()
  const { put, published, store } = await stage()
  await store.pullRequests.link(pullRequest('acme/shop', 8, 'DROP-2'))
  await put(statusMessage('DROP-2'))
  await published()
  expect(calls).toEqual([])
})

test("a stranger's comment with our marker is never touched", async () => {
  const { comments, calls } = github()
  comments.push(
    { id: 1, body: `${marker}mine`, user: { login: 'mallory', type: 'User' }, performed_via_github_app: null },
    { id: 2, body: `${marker}mine`, user: { login: 'other[bot]', type: 'Bot' }, performed_via_github_app: { id: 9 } },
  )
  const { put, published } = await stage()
  await put(statusMessage('DROP-1'))
  await published()
  expect(contains(comments, 'mine')).toEqual([true, true, false])
  expect(calls.filter(call => call.startsWith('PATCH'))).toEqual([])
})

test('where GitHub does not name the app, our login shows that a comment is ours', async () => {
  const { comments } = github()
  nock(API).get('/app').reply(200, { slug: 'agent-swarm', html_url: API, permissions: {}, events: [] })
  const by = (login: string, type: string) => ({ user: { login, type }, performed_via_github_app: null })
  comments.push(
    { id: 1, body: `${marker}old`, ...by('agent-swarm[bot]', 'User') },
    { id: 2, body: `${marker}old`, ...by('agent-swarm[bot]', 'Bot') },
  )
  const { put, published } = await stage()
  await put(statusMessage('DROP-1'))
  await published()
  expect(contains(comments, 'old')).toEqual([true, false])
})

test('our comment is found on a late page', async () => {
  const { comments } = github()
  for (let id = 1; id <= 150; id += 1)
    comments.push({ id, body: 'talk', user: { login: 'octocat', type: 'User' }, performed_via_github_app: null })
  const ours = { user: { login: 'agent-swarm[bot]', type: 'Bot' }, performed_via_github_app: { id: APP } }
  comments.push({ id: 151, body: `${marker}old`, ...ours })
  const { put, published } = await stage()
  await put(statusMessage('DROP-1'))
  await published()
  expect(comments).toHaveLength(151)
  expect(comments[150]?.body).toContain('### DROP-1: running')
})

test('a comment that somebody deleted is posted again', async () => {
  const { comments } = github()
  const { put, published, heartbeat } = await stage()
  await put(statusMessage('DROP-1'))
  await published()
  comments.length = 0
  await heartbeat([stopped])
  await put()
  await published()
  expect(contains(comments, '### DROP-1: stopped')).toEqual([true])
})

test('a comment that replaces a deleted one is not posted twice when its response is lost', async () => {
  const { comments, faults } = github()
  const { put, published, postponed, later, heartbeat } = await stage()
  await put(statusMessage('DROP-1'))
  await published()
  comments.length = 0
  await heartbeat([stopped])
  // The edit goes through to its 404; the post is done, and a gateway answers.
  faults.push({ status: 404 }, { status: 502, after: true })
  await put()
  await postponed()
  later(5_000)
  await published()
  expect(contains(comments, '### DROP-1: stopped')).toEqual([true])
})

test('a machine that is gone is reported where it was shown, and on no other pull request', async () => {
  const { comments } = github()
  const { put, published, heartbeat, store } = await stage()
  await put(statusMessage('DROP-1'))
  await published()
  // A machine is gone when two heartbeats lack it.
  await heartbeat([])
  await heartbeat([])
  await store.pullRequests.link({ ...pullRequest('acme/shop', 8), branch: 'drop-1-again' })
  await put(statusMessage('DROP-1'))
  await published()
  expect(contains(comments, '### DROP-1: deleted')).toEqual([true])
})

test('a change while a comment is on its way is published too', async () => {
  const { comments, calls } = github()
  const { put, published, heartbeat } = await stage()
  const posted = until('the post', () => calls.includes('POST /issues/7/comments'))
  await put(statusMessage('DROP-1'))
  await posted
  await heartbeat([stopped])
  await put()
  await published()
  expect(contains(comments, '### DROP-1: stopped')).toEqual([true])
})

test('a change while the last of several pull requests is published reaches the first too', async () => {
  const [other, shop] = [github('acme/api'), github()]
  const { put, published, store, heartbeat } = await stage()
  await store.repositories.setInstallation('acme/api', 2)
  await store.pullRequests.link(pullRequest('acme/api', 3))
  const last = until('the last post', () => shop.calls.includes('POST /issues/7/comments'))
  await put(statusMessage('DROP-1'))
  await last
  await heartbeat([stopped])
  await put()
  await published()
  for (const { comments } of [other, shop]) expect(contains(comments, '### DROP-1: stopped')).toEqual([true])
})

test('a runner that is away is reported months later, and a note of then is not repeated', async () => {
  const { comments } = github()
  const posted: unknown[] = []
  nock(JIRA)
    .persist()
    .post('/rest/api/3/issue/DROP-1/comment')
    .reply(async (request: Request) => {
      posted.push(await request.json())
      return [201, { id: String(posted.length) }]
    })
  const { put, published, later, store } = await stage()
  await put(note('DROP-1 has its machine'))
  await published()
  later(100 * DAY_MS)
  await store.purge({ queueBefore: START + 1_000, knowledgeBefore: START + 1_000, payloadBytes: 0 })
  await put(note('DROP-1 has its machine'), statusMessage('DROP-1'))
  await published()
  expect(posted).toHaveLength(1)
  expect(contains(comments, 'The runner on `studio` does not respond')).toEqual([true])
})

// ── Replies ──

test.for([
  ['a reply', () => replyMessage(to)],
  ['a status comment', () => statusMessage('DROP-1')],
] as [string, () => Message][])('%s whose response was lost is not posted again', async ([, message]) => {
  const { comments, faults } = github()
  const { put, published, command, later, postponed } = await stage()
  await command()
  faults.push({ status: 502, after: true })
  await put(message())
  await postponed()
  expect(comments).toHaveLength(1)
  later(5_000)
  await published()
  expect(comments).toHaveLength(1)
})

test('a reply first says that the command waits, and is then edited to its result', async () => {
  const { comments } = github()
  const { put, published, postponed, later, command, finish, store } = await stage()
  await command()
  const answer = { text: 'Unknown command `fly`.', help: false }
  await record(store, request(1, { answer, verdict: 'answered', ok: false }))
  // Its runner is away by now.
  later(60_000)
  await put(...reactionMessages(to, 'eyes'), replyMessage(to))
  await published()
  expect(comments[0]?.body).toContain('Waiting for the runner on `studio`')
  expect(comments[0]?.body).toContain('Unknown command `fly`.')
  await finish()
  await postponed()
  expect(comments[0]?.body).not.toContain('DROP-1 has a machine')
  later(5_000)
  await published()
  expect(contains(comments, 'DROP-1 has a machine. It took 2 s')).toEqual([true])
})

test('a command that takes its time gets a reply without a message', async () => {
  const { comments } = github()
  const { command, later } = await stage()
  await command()
  later(5_000)
  await until('the reply', () => comments.length === 1)
  expect(comments[0]?.body).toContain('Next in the queue')
})

test('a command that waited for months is answered, though its reply is late and old rows are purged', async () => {
  const { comments, faults } = github()
  const { put, published, postponed, later, command, finish, store } = await stage()
  await command()
  await put(replyMessage(to))
  await published()
  expect(comments[0]?.body).toContain('Next in the queue')
  later(100 * DAY_MS)
  faults.push({ status: 502 })
  await finish()
  await postponed()
  await store.purge({ queueBefore: START, knowledgeBefore: START + 10 * DAY_MS, payloadBytes: 0 })
  later(5_000)
  await published()
  expect(contains(comments, 'DROP-1 has a machine')).toEqual([true])
})

test('an edit of a reply does not wait for a clock that was set back', async () => {
  const { comments } = github()
  const { put, published, later, command, finish } = await stage()
  await command()
  await put(replyMessage(to))
  await published()
  later(-60 * 60_000)
  await finish()
  await published()
  expect(comments[0]?.body).toContain('DROP-1 has a machine')
})

test('a reply in Jira whose commands are forgotten is done', async () => {
  const { put, published, store } = await stage()
  await store.comments.begin({ side: 'jira', kind: 'reply', ticket: 'DROP-1', about: '77' })
  await put(replyMessage({ ticket: 'DROP-1', commentId: '77' }))
  await published()
})

// ── Failures ──

const limit = (headers: Record<string, string>, message = 'API rate limit exceeded') => ({
  status: 403,
  headers,
  body: { message },
})
const reset = (seconds: number) => String(START / 1000 + seconds)
const SECONDARY = 'You have exceeded a secondary rate limit'
test.for([
  ['the server fails', { status: 500 }, 900, 1_000],
  [
    'the primary limit is used up',
    limit({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset(600) }),
    599_000,
    602_000,
  ],
  ['a secondary limit names a time', limit({ 'retry-after': '90' }, SECONDARY), 89_000, 90_000],
  ['a secondary limit names no time', limit({}, SECONDARY), 59_000, 60_000],
  ['there were too many requests', { status: 429, headers: { 'retry-after': '30' } }, 29_000, 30_000],
  ['it should wait for years', { status: 429, headers: { 'retry-after': '999999999' } }, 3_599_000, 3_600_000],
  [
    "GitHub's clock is years ahead",
    limit({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset(1e9) }),
    3_599_000,
    3_600_000,
  ],
  ['it should wait for no time', { status: 429, headers: { 'retry-after': '0' } }, 900, 1_000],
] as [string, ReturnType<typeof github>['faults'][number], number, number][])(
  'a message waits and is published later when %s',
  async ([, fault, early, late]) => {
    const { comments, faults } = github()
    const { put, published, later, postponed, due } = await stage()
    faults.push(fault)
    await put(statusMessage('DROP-1'))
    await postponed()
    later(early)
    expect(await due()).toBe(0)
    later(late - early)
    await published()
    expect(comments).toHaveLength(1)
  },
)

test('a refused key pauses the whole side for a while, and the log says what to do', async () => {
  const { comments, calls } = github()
  nock(API)
    .post(/access_tokens$/)
    .reply(401, { message: 'A JSON web token could not be decoded' })
  const lines = logged()
  const { put, published, later, postponed } = await stage({ log: openLog('info') })
  await put(statusMessage('DROP-1'))
  await postponed()
  await put(...reactionMessages(to, 'eyes'))
  later(59_000)
  expect(calls).toEqual([])
  expect(lines.join('')).toContain('Check APP_ID and PRIVATE_KEY')
  later(1_000)
  await published()
  expect(comments).toHaveLength(1)
})

test.for([404, 410, 422])(
  'a message that can never be published (%i) is dropped, and delays no other',
  async status => {
    const { calls, faults } = github()
    const lines = logged()
    const { put, published } = await stage({ log: openLog('info') })
    faults.push({ status })
    await put(...reactionMessages(to, 'eyes'))
    await published()
    await put(...reactionMessages({ ...to, commentId: 501 }, 'eyes'))
    await published()
    expect(calls).toEqual(['POST /issues/comments/500/reactions', 'POST /issues/comments/501/reactions'])
    const dropped = lines.filter(line => line.includes('a message is dropped'))
    expect(dropped).toHaveLength(1)
    expect(dropped[0]).toContain(`GitHub answered ${status}`)
    for (const secret of ['ghs_installation', pem.split('\n')[1] ?? '', 'bearer'])
      expect(lines.join('')).not.toContain(secret)
  },
)

test('what is refused (403) is tried for a day, since the permission may be given, and is dropped then', async () => {
  const { calls, faults } = github()
  const lines = logged()
  const { put, published, later, postponed } = await stage({ log: openLog('info') })
  faults.push({ status: 403 })
  await put(...reactionMessages(to, 'eyes'))
  await postponed()
  later(1_000)
  await published()
  expect(calls).toEqual(Array(2).fill('POST /issues/comments/500/reactions'))
  expect(lines.join('')).not.toContain('a message is dropped')
  faults.push(...Array(150).fill({ status: 403 }))
  await put(...reactionMessages({ ...to, commentId: 501 }, 'eyes'))
  for (let tries = 1; tries < 150; tries += 1) {
    await until('the next attempt', () => calls.length === 2 + tries)
    await postponed()
    later(10 * 60_000)
  }
  await published()
  expect(calls).toHaveLength(152)
  expect(lines.join('')).toContain('a message is dropped: publishing: GitHub answered 403')
})

// ── Many messages ──

const reactionsIn = (repo: string, count: number) =>
  Array.from({ length: count }, (_, n) => reactionMessages({ ...to, repo, commentId: n + 1 }, 'eyes')).flat()

test('a rate-limited repository delays no other', async () => {
  const [shop, other] = [github(), github('acme/api')]
  const { put, store } = await stage()
  await store.repositories.setInstallation('acme/api', 1)
  shop.faults.push({ status: 403, headers: { 'retry-after': '3600' }, body: { message: 'secondary rate limit' } })
  await put(...reactionMessages(to, 'eyes'))
  await until('the first request', () => shop.calls.length === 1)
  await put(...reactionsIn('acme/shop', 4), ...reactionsIn('acme/api', 4))
  await until('the other repository', () => other.calls.length === 4)
  expect(shop.calls).toHaveLength(1)
})

test('a repository that hangs delays no other', async () => {
  const { promise: hangs, resolve } = Promise.withResolvers<void>()
  nock(API)
    .persist()
    .post(/^\/repos\/acme\/slow\//)
    .reply(async () => {
      await hangs
      return [201, {}]
    })
  const other = github('acme/api')
  const { put, store } = await stage()
  onTestFinished(() => resolve())
  for (const repo of ['acme/api', 'acme/slow']) await store.repositories.setInstallation(repo, 1)
  await put(...reactionsIn('acme/slow', 50), ...reactionsIn('acme/api', 50))
  await until('the other repository', () => other.calls.length === 50)
})

test('messages behind many that rest are published', async () => {
  const { calls } = github()
  const { put, store } = await stage()
  await store.repositories.setInstallation('acme/limited', 1)
  nock(API)
    .persist()
    .post(/^\/repos\/acme\/limited\//)
    .reply(403, { message: 'secondary rate limit' }, { 'retry-after': '600' })
  await put(...reactionsIn('acme/limited', 1_200), ...reactionMessages(to, 'eyes'))
  await until('the last message', () => calls.includes('POST /issues/comments/500/reactions'))
})

test('what an earlier process left unpublished is published', async () => {
  const { comments } = github()
  const { store, publish, publisher, published } = await stage()
  await publisher.close()
  await store.outbox.put([statusMessage('DROP-1')])
  const next = publish()
  await published()
  await next.close()
  expect(comments).toHaveLength(1)
})

// ── Jira ──

test('a note in Jira is posted once, also when its response was lost', async () => {
  const sent: unknown[] = []
  const account = { accountId: 'us' }
  nock(JIRA).get('/rest/api/3/myself').reply(200, account)
  nock(JIRA)
    .post('/rest/api/3/issue/DROP-1/comment')
    .reply(async (request: Request) => {
      sent.push(await request.json())
      return [503, {}]
    })
  nock(JIRA)
    .get('/rest/api/3/issue/DROP-1/comment')
    .query(true)
    .reply(200, () => ({
      comments: sent.map(comment => ({
        ...(comment as object),
        id: '10',
        author: account,
        created: '2026-11-24T10:00:00.000+0000',
        updated: '2026-11-24T10:00:00.000+0000',
      })),
    }))
  const { put, published, postponed, later } = await stage()
  const text = 'DROP-1 has its machine: as-drop-1-1a2b3c4d\n    agent-swarm ssh DROP-1'
  await put(note(text))
  await postponed()
  later(5_000)
  await published()
  await put(note(text))
  await published()
  const paragraph = { type: 'text', text: 'DROP-1 has its machine: as-drop-1-1a2b3c4d' }
  const listing = { type: 'text', text: 'agent-swarm ssh DROP-1' }
  expect(sent).toEqual([
    {
      body: {
        type: 'doc',
        version: 1,
        content: [
          { type: 'paragraph', content: [paragraph] },
          { type: 'codeBlock', content: [listing] },
        ],
      },
    },
  ])
})

test('a note for an issue that no longer exists is dropped', async () => {
  nock(JIRA)
    .post('/rest/api/3/issue/DROP-1/comment')
    .reply(404, { errorMessages: ['gone'] })
  const { put, published } = await stage()
  await put(note('text'))
  await published()
})

test('a Jira that redirects to another address has posted no comment', async () => {
  nock(JIRA)
    .post('/rest/api/3/issue/DROP-1/comment')
    .reply(302, {}, { location: `${JIRA}/jira/rest/api/3/issue/DROP-1/comment` })
  nock(JIRA).get('/jira/rest/api/3/issue/DROP-1/comment').reply(200, { comments: [], total: 0 })
  const { put, postponed } = await stage()
  await put(note('text'))
  await postponed()
})
