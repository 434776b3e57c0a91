import { generateKeyPairSync } from 'node:crypto'
import nock from 'nock'
import { afterEach, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { openGitHub } from '../../../src/bot/github/client.ts'
import { openJira } from '../../../src/bot/jira/client.ts'
import { jiraMessage, reactionMessages, replyMessage, statusMessage } from '../../../src/bot/publish/messages.ts'
import { openPublisher } from '../../../src/bot/publish/publisher.ts'
import { openLog } from '../../../src/log.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { Environment } from '../../../src/schema/environment.ts'
import type { Message } from '../../../src/store/port.ts'
import { openMemory } from '../../../src/store/sqlite/memory.ts'
import { openQueue } from '../../../src/store/sqlite/queue.ts'

const API = 'http://github.test'
const JIRA = 'http://127.0.0.1:8765'
const APP = 4242
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const environment: Environment = {
  ticket: 'DROP-1',
  provider: 'synthetic',
  vmId: 'as-drop-1-1a2b3c4d',
  ip: null,
  status: 'running',
  baseImage: 'agent-swarm-base',
  createdAt: '2026-11-24T09:00:00.000Z',
  createdBy: { via: 'cli', who: null },
  ssh: null,
  checkpoints: [],
  unsavedWork: null,
  observedAt: '2026-11-24T09:45:10.000Z',
}
const to = { repo: 'acme/shop', number: 7, commentId: 500 }
const create: Action = {
  kind: 'create',
  ticket: 'DROP-1',
  by: { via: 'github', who: 'octocat' },
  replyTo: { ...to, line: 0 },
}

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

/** A GitHub with one thread a repository, that answers first what a test tells it to. */
const github = (repo = 'acme/shop') => {
  const comments: Comment[] = []
  const calls: string[] = []
  const first: { status: number; headers?: Record<string, string>; body?: unknown; after?: boolean }[] = []
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
      const trouble = method === 'get' ? undefined : first.shift()
      if (trouble !== undefined && trouble.after !== true)
        return [trouble.status, trouble.body ?? { message: 'no' }, trouble.headers ?? {}]
      const sent = await request.text()
      const answered = answer(request.url, sent === '' ? {} : JSON.parse(sent))
      return trouble === undefined ? answered : [trouble.status, { message: 'lost on the way' }]
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
    const found = comments.find(one => uri.endsWith(`/${one.id}`))
    if (found === undefined) return [404, { message: 'Not Found' }]
    found.body = body
    return [200, { id: found.id }]
  })
  return { comments, calls, first }
}
nock.emitter.setMaxListeners(100)

const stage = async ({ log = openLog('silent') } = {}) => {
  let now = Date.parse('2026-11-24T10:00:00Z')
  const clock = () => now
  const queue = openQueue(':memory:', clock)
  const memory = openMemory(':memory:', clock)
  nock(API)
    .persist()
    .post(/^\/app\/installations\/\d+\/access_tokens$/)
    .reply(201, { token: 'ghs_installation', expires_at: '2099-01-01T00:00:00Z', permissions: {} })
  const door = await openGitHub(
    { via: 'app', appId: APP, privateKey: pem, webhookSecret: 's3cret-of-webhook', apiUrl: API },
    {
      log,
      paced: false,
      installationOf: memory.installationOf,
      decide: async () => {
        throw new Error('nothing is received here')
      },
    },
  )
  const jira = openJira({ url: JIRA, email: 'bot@example.com', apiToken: 'jira-token-1234', webhookSecret: 'x' })
  memory.setInstallation('acme/shop', 1)
  memory.link({ repo: 'acme/shop', number: 7, ticket: 'DROP-1', branch: 'drop-1', state: 'open', closedAt: null })
  memory.learn(environment, 'runner-1')
  const open = () => openPublisher({ queue, memory, github: door, jira, webUrl: 'https://github.com', clock, log })
  const publisher = open()
  onTestFinished(() => publisher.close())
  return {
    queue,
    memory,
    open,
    publisher,
    later: (ms: number) => {
      now += ms
      publisher.nudge()
    },
    put: (...messages: Message[]) => {
      queue.outbox.put(messages)
      publisher.nudge()
    },
    published: () => vi.waitFor(() => expect(queue.counts().outbox).toBe(0), { timeout: 5_000, interval: 10 }),
    due: () => queue.outbox.take(10).length,
    /** Until what was due is put off. */
    putOff: () =>
      vi.waitFor(
        () => {
          expect(queue.counts().outbox).toBeGreaterThan(0)
          expect(queue.outbox.take(10)).toEqual([])
        },
        { timeout: 5_000, interval: 10 },
      ),
  }
}

test('one status comment, edited in place, and left alone when nothing changed', async () => {
  const { comments, calls } = github()
  const lines: string[] = []
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(line => lines.push(String(line)) > 0)
  onTestFinished(() => write.mockRestore())
  const { put, published, memory } = await stage({ log: openLog('info') })
  put(statusMessage('DROP-1'))
  await published()
  expect(comments).toHaveLength(1)
  expect(comments[0]?.body).toContain('### DROP-1: running')
  expect(comments[0]?.body).toContain('synthetic: no real machine')
  put(statusMessage('DROP-1'))
  await published()
  memory.learn({ ...environment, status: 'stopped', observedAt: '2026-11-24T09:50:00.000Z' }, 'runner-1')
  put(statusMessage('DROP-1'))
  await published()
  expect(comments).toHaveLength(1)
  expect(comments[0]?.body).toContain('### DROP-1: stopped')
  expect(calls.filter(one => !one.startsWith('GET'))).toEqual(['POST /issues/7/comments', 'PATCH /issues/comments/901'])
  expect(lines.filter(line => line.includes('"published"'))).toHaveLength(2)
})

test('every pull request of the ticket gets the status', async () => {
  const shop = github()
  const other = github('acme/api')
  const { put, published, memory } = await stage()
  memory.setInstallation('acme/api', 2)
  memory.link({ repo: 'acme/api', number: 3, ticket: 'DROP-1', branch: 'drop-1', state: 'open', closedAt: null })
  put(statusMessage('DROP-1'))
  await published()
  expect([shop.comments.length, other.comments.length]).toEqual([1, 1])
})

test('a ticket without an environment has no status comment', async () => {
  const { calls } = github()
  const { put, published, memory } = await stage()
  memory.link({ repo: 'acme/shop', number: 8, ticket: 'DROP-2', branch: 'drop-2', state: 'open', closedAt: null })
  put(statusMessage('DROP-2'))
  await published()
  expect(calls).toEqual([])
})

test("a stranger's comment with our marker is never touched", async () => {
  const { comments, calls } = github()
  const marker = '<!-- agent-swarm:status:DROP-1 -->\n'
  comments.push(
    { id: 1, body: `${marker}mine`, user: { login: 'mallory', type: 'User' }, performed_via_github_app: null },
    { id: 2, body: `${marker}mine`, user: { login: 'other[bot]', type: 'Bot' }, performed_via_github_app: { id: 9 } },
  )
  const { put, published } = await stage()
  put(statusMessage('DROP-1'))
  await published()
  expect(comments.map(one => one.body.includes('mine'))).toEqual([true, true, false])
  expect(calls.filter(one => one.startsWith('PATCH'))).toEqual([])
})

test('where GitHub does not name the app, our login tells that a comment is ours', async () => {
  const { comments } = github()
  nock(API).get('/app').reply(200, { slug: 'agent-swarm' })
  const marker = '<!-- agent-swarm:status:DROP-1 -->\n'
  const by = (login: string, type: string) => ({ user: { login, type }, performed_via_github_app: null })
  comments.push(
    { id: 1, body: `${marker}old`, ...by('agent-swarm[bot]', 'User') },
    { id: 2, body: `${marker}old`, ...by('agent-swarm[bot]', 'Bot') },
  )
  const { put, published } = await stage()
  put(statusMessage('DROP-1'))
  await published()
  expect(comments.map(one => one.body.includes('old'))).toEqual([true, false])
})

test.for([
  ['a reply', () => replyMessage(to)],
  ['a status', () => statusMessage('DROP-1')],
] as [string, () => Message][])(
  '%s that was posted, and whose answer never came, is not posted again',
  async ([, message]) => {
    const { comments, first } = github()
    const { put, published, memory, later, putOff } = await stage()
    memory.heardCommand(create.replyTo ?? { ...to, line: 0 }, { actionId: 'github:d:0', action: create })
    // The comment is there, and a gateway answers for it.
    first.push({ status: 502, after: true })
    put(message())
    await putOff()
    expect(comments).toHaveLength(1)
    later(5_000)
    await published()
    expect(comments).toHaveLength(1)
  },
)

test('our comment is found on a late page', async () => {
  const { comments } = github()
  for (let id = 1; id <= 150; id += 1)
    comments.push({ id, body: 'talk', user: { login: 'octocat', type: 'User' }, performed_via_github_app: null })
  comments.push({
    id: 151,
    body: '<!-- agent-swarm:status:DROP-1 -->\nold',
    user: { login: 'agent-swarm[bot]', type: 'Bot' },
    performed_via_github_app: { id: APP },
  })
  const { put, published } = await stage()
  put(statusMessage('DROP-1'))
  await published()
  expect(comments).toHaveLength(151)
  expect(comments[150]?.body).toContain('### DROP-1: running')
})

test('a comment that somebody deleted is written anew', async () => {
  const { comments } = github()
  const { put, published, memory } = await stage()
  put(statusMessage('DROP-1'))
  await published()
  comments.length = 0
  memory.learn({ ...environment, status: 'stopped', observedAt: '2026-11-24T09:50:00.000Z' }, 'runner-1')
  put(statusMessage('DROP-1'))
  await published()
  expect(comments.map(one => one.body.includes('### DROP-1: stopped'))).toEqual([true])
})

test('a machine that is gone is told where it was told of, and on no other pull request', async () => {
  const { comments } = github()
  const { put, published, memory } = await stage()
  put(statusMessage('DROP-1'))
  await published()
  memory.learnGone('DROP-1', { askedAt: Date.now() })
  memory.link({ repo: 'acme/shop', number: 8, ticket: 'DROP-1', branch: 'drop-1-again', state: 'open', closedAt: null })
  put(statusMessage('DROP-1'))
  await published()
  expect(comments.map(one => one.body.includes('### DROP-1: deleted'))).toEqual([true])
})

test('a reply follows what is true: it waits, and then is edited to what came of it', async () => {
  const { comments } = github()
  const { put, published, putOff, later, memory, queue } = await stage()
  queue.enqueue({ id: 'github:d:0', correlation: 'd', action: create })
  memory.heardCommand({ ...to, line: 0 }, { actionId: 'github:d:0', action: create })
  memory.heardCommand({ ...to, line: 1 }, { text: 'There is no command `fly`.', help: false, ok: false })
  put(...reactionMessages(to, 'eyes'), replyMessage(to))
  await published()
  expect(comments[0]?.body).toContain('It waits: no runner is connected')
  expect(comments[0]?.body).toContain('There is no command `fly`.')
  memory.endCommand('github:d:0', { result: 'done', summary: 'DROP-1 has a machine', environment, seconds: 2 })
  put(replyMessage(to))
  await putOff()
  expect(comments[0]?.body).not.toContain('DROP-1 has a machine')
  later(5_000)
  await published()
  expect(comments).toHaveLength(1)
  expect(comments[0]?.body).toContain('DROP-1 has a machine. It took 2 s.')
})

test('what changes while a comment is on its way is published too', async () => {
  const { comments, calls } = github()
  const { put, published, memory } = await stage()
  const posted = vi.waitFor(() => expect(calls).toContain('POST /issues/7/comments'), { interval: 1 })
  put(statusMessage('DROP-1'))
  await posted
  memory.learn({ ...environment, status: 'stopped', observedAt: '2026-11-24T09:50:00.000Z' }, 'runner-1')
  // The same message again, as a heartbeat puts it: it may be swallowed by the acknowledgement of the first.
  put(statusMessage('DROP-1'))
  await published()
  expect(comments.map(one => one.body.includes('### DROP-1: stopped'))).toEqual([true])
})

test('what changes while the last of several pull requests is told reaches the first too', async () => {
  const other = github('acme/api')
  const shop = github()
  const { put, published, memory } = await stage()
  memory.setInstallation('acme/api', 2)
  memory.link({ repo: 'acme/api', number: 3, ticket: 'DROP-1', branch: 'drop-1', state: 'open', closedAt: null })
  const last = vi.waitFor(() => expect(shop.calls).toContain('POST /issues/7/comments'), { interval: 1 })
  put(statusMessage('DROP-1'))
  await last
  memory.learn({ ...environment, status: 'stopped', observedAt: '2026-11-24T09:50:00.000Z' }, 'runner-1')
  put(statusMessage('DROP-1'))
  await published()
  for (const { comments } of [other, shop]) {
    expect(comments.map(one => one.body.includes('### DROP-1: stopped'))).toEqual([true])
  }
})

test.for([
  ['the server stumbles', { status: 500 }, 900, 1_000],
  [
    'the primary limit is spent',
    limit({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset(600) }),
    599_000,
    602_000,
  ],
  [
    'a secondary limit says when',
    limit({ 'retry-after': '90' }, 'You have exceeded a secondary rate limit'),
    89_000,
    90_000,
  ],
  ['a secondary limit does not say when', limit({}, 'You have exceeded a secondary rate limit'), 59_000, 60_000],
  ['too many requests', { status: 429, headers: { 'retry-after': '30' } }, 29_000, 30_000],
  ['it is asked to wait for years', { status: 429, headers: { 'retry-after': '999999999' } }, 3_599_000, 3_600_000],
  [
    'its clock is years ahead',
    limit({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset(1e9) }),
    3_599_000,
    3_600_000,
  ],
  ['it is asked to wait for no time', { status: 429, headers: { 'retry-after': '0' } }, 900, 1_000],
] as [string, Parameters<ReturnType<typeof github>['first']['push']>[0], number, number][])(
  'a message waits and goes out later when %s',
  async ([, trouble, early, late]) => {
    const { comments, first } = github()
    const { put, published, later, putOff, due } = await stage()
    first.push(trouble)
    put(statusMessage('DROP-1'))
    await putOff()
    later(early)
    expect(due()).toBe(0)
    later(late - early)
    await published()
    expect(comments).toHaveLength(1)
  },
)
test('a key that is refused stops the whole side for a while, and says what to do', async () => {
  const { comments, calls } = github()
  nock(API)
    .post(/access_tokens$/)
    .reply(401, { message: 'A JSON web token could not be decoded' })
  const lines: string[] = []
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(line => lines.push(String(line)) > 0)
  onTestFinished(() => write.mockRestore())
  const { put, published, later, putOff } = await stage({ log: openLog('info') })
  put(statusMessage('DROP-1'))
  await putOff()
  put(...reactionMessages(to, 'eyes'))
  later(59_000)
  expect(calls).toEqual([])
  expect(lines.join('')).toContain('Check APP_ID and PRIVATE_KEY')
  later(1_000)
  await published()
  expect(comments).toHaveLength(1)
})
function limit(headers: Record<string, string>, message = 'API rate limit exceeded') {
  return { status: 403, headers, body: { message } }
}
function reset(seconds: number) {
  return String(Date.parse('2026-11-24T10:00:00Z') / 1000 + seconds)
}

test.for([403, 404, 410, 422])('what can never work (%i) is given up, and keeps nothing else waiting', async status => {
  const { calls, first } = github()
  const lines: string[] = []
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(line => lines.push(String(line)) > 0)
  onTestFinished(() => write.mockRestore())
  const { put, published } = await stage({ log: openLog('info') })
  first.push({ status })
  put(...reactionMessages(to, 'eyes'))
  await published()
  put(...reactionMessages({ ...to, commentId: 501 }, 'eyes'))
  await published()
  expect(calls).toEqual(['POST /issues/comments/500/reactions', 'POST /issues/comments/501/reactions'])
  const given = lines.filter(line => line.includes('given up'))
  expect(given).toHaveLength(1)
  expect(given[0]).toContain(`GitHub answered ${status}`)
  for (const secret of ['ghs_installation', pem.split('\n')[1] ?? '', 'bearer'])
    expect(lines.join('')).not.toContain(secret)
})

test('a repository that is limited keeps no other waiting', async () => {
  const shop = github()
  const other = github('acme/api')
  const { put, memory } = await stage()
  memory.setInstallation('acme/api', 1)
  shop.first.push({ status: 403, headers: { 'retry-after': '3600' }, body: { message: 'secondary rate limit' } })
  put(...reactionMessages(to, 'eyes'))
  await vi.waitFor(() => expect(shop.calls).toHaveLength(1))
  put(...[1, 2, 3, 4].flatMap(commentId => reactionMessages({ ...to, commentId }, 'eyes')))
  put(...[1, 2, 3, 4].flatMap(commentId => reactionMessages({ ...to, repo: 'acme/api', commentId }, 'eyes')))
  await vi.waitFor(() => expect(other.calls).toHaveLength(4), { timeout: 5_000 })
  expect(shop.calls).toHaveLength(1)
})

test('a repository that hangs keeps no other waiting', async () => {
  const { promise: hangs, resolve } = Promise.withResolvers<void>()
  nock(API)
    .persist()
    .post(/^\/repos\/acme\/slow\//)
    .reply(async () => {
      await hangs
      return [201, {}]
    })
  const other = github('acme/api')
  const { put, memory } = await stage()
  onTestFinished(() => resolve())
  memory.setInstallation('acme/api', 1)
  memory.setInstallation('acme/slow', 1)
  const many = Array.from({ length: 50 }, (_, n) => n + 1)
  put(...many.flatMap(commentId => reactionMessages({ ...to, repo: 'acme/slow', commentId }, 'eyes')))
  put(...many.flatMap(commentId => reactionMessages({ ...to, repo: 'acme/api', commentId }, 'eyes')))
  await vi.waitFor(() => expect(other.calls).toHaveLength(50), { timeout: 5_000 })
})

test('what an earlier process left unpublished is published', async () => {
  const { comments } = github()
  const { queue, open, publisher } = await stage()
  await publisher.close()
  queue.outbox.put([statusMessage('DROP-1')])
  const next = open()
  await vi.waitFor(() => expect(queue.counts().outbox).toBe(0), { timeout: 5_000 })
  await next.close()
  expect(comments).toHaveLength(1)
})

test('a Jira comment is posted once, also when its answer was lost', async () => {
  const sent: unknown[] = []
  const text = 'DROP-1 has its machine: as-drop-1-1a2b3c4d\n    agent-swarm ssh DROP-1'
  const us = { accountId: 'us' }
  nock(JIRA).get('/rest/api/3/myself').reply(200, us)
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
      comments: sent.map(one => ({
        ...(one as object),
        id: '10',
        author: us,
        created: '2026-11-24T10:00:00.000+0000',
      })),
    }))
  const { put, published, putOff, later } = await stage()
  put(jiraMessage('DROP-1', 'ready:as-drop-1-1a2b3c4d', text))
  await putOff()
  later(5_000)
  await published()
  put(jiraMessage('DROP-1', 'ready:as-drop-1-1a2b3c4d', text))
  await published()
  expect(sent).toEqual([
    {
      body: {
        type: 'doc',
        version: 1,
        content: [
          { type: 'paragraph', content: [{ type: 'text', text: 'DROP-1 has its machine: as-drop-1-1a2b3c4d' }] },
          { type: 'codeBlock', content: [{ type: 'text', text: 'agent-swarm ssh DROP-1' }] },
        ],
      },
    },
  ])
})

test('an issue that is gone from Jira takes its comment with it', async () => {
  nock(JIRA)
    .post('/rest/api/3/issue/DROP-1/comment')
    .reply(404, { errorMessages: ['gone'] })
  const { put, published } = await stage()
  put(jiraMessage('DROP-1', 'ready:x', 'text'))
  await published()
})

test('a command that waited for months is answered, though its answer is late and what is old is forgotten meanwhile', async () => {
  const day = 24 * 60 * 60_000
  const { comments, first } = github()
  const { put, published, putOff, later, memory, queue } = await stage()
  queue.enqueue({ id: 'github:d:0', correlation: 'd', action: create })
  memory.heardCommand({ ...to, line: 0 }, { actionId: 'github:d:0', action: create })
  put(replyMessage(to))
  await published()
  expect(comments[0]?.body).toContain('It waits')
  later(100 * day)
  memory.endCommand('github:d:0', { result: 'done', summary: 'DROP-1 has a machine', environment, seconds: 2 })
  first.push({ status: 502 })
  put(replyMessage(to))
  await putOff()
  memory.purge(Date.parse('2026-11-24T10:00:00Z') + 10 * day)
  later(5_000)
  await published()
  expect(comments.map(one => one.body.includes('DROP-1 has a machine'))).toEqual([true])
})

test('an answer in Jira of which nothing is left to say ends', async () => {
  const inJira = { ticket: 'DROP-1', commentId: '77' }
  const { put, published, memory } = await stage()
  // Its commands were forgotten, and it was not.
  memory.beginJiraComment('reply:77', 'DROP-1')
  put(replyMessage(inJira))
  await published()
})

test('what was said of a machine months ago is not said again, and that its runner is away is', async () => {
  const { comments } = github()
  const said: unknown[] = []
  nock(JIRA)
    .persist()
    .post('/rest/api/3/issue/DROP-1/comment')
    .reply(async (request: Request) => {
      said.push(await request.json())
      return [201, { id: String(said.length) }]
    })
  const { put, published, later, memory } = await stage()
  memory.heartbeat({ runnerId: 'runner-1', host: 'studio', version: '1', providers: [], environments: [environment] })
  const ready = jiraMessage('DROP-1', `ready:${environment.vmId}`, 'DROP-1 has its machine')
  put(ready)
  await published()
  later(100 * 24 * 60 * 60_000)
  memory.purge(Date.parse('2026-11-24T10:00:01Z'))
  put(ready, statusMessage('DROP-1'))
  await published()
  expect(said).toHaveLength(1)
  expect(comments.map(one => one.body.includes('The runner on `studio` does not answer'))).toEqual([true])
})

test('however many messages rest, those behind them do not', async () => {
  const { calls } = github()
  const { put, memory } = await stage()
  memory.setInstallation('acme/limited', 1)
  nock(API)
    .persist()
    .post(/^\/repos\/acme\/limited\//)
    .reply(403, { message: 'secondary rate limit' }, { 'retry-after': '600' })
  const first = { ...to, repo: 'acme/limited' }
  put(...reactionMessages(first, 'eyes'))
  put(...Array.from({ length: 3_000 }, (_, n) => reactionMessages({ ...first, commentId: n + 1 }, 'eyes')).flat())
  put(...reactionMessages(to, 'eyes'))
  await vi.waitFor(() => expect(calls).toEqual(['POST /issues/comments/500/reactions']), { timeout: 5_000 })
})

test('a reply that is written again does not wait for a clock that was set back', async () => {
  const { comments } = github()
  const { put, published, later, memory, queue } = await stage()
  queue.enqueue({ id: 'github:d:0', correlation: 'd', action: create })
  memory.heardCommand({ ...to, line: 0 }, { actionId: 'github:d:0', action: create })
  put(replyMessage(to))
  await published()
  later(-60 * 60_000)
  memory.endCommand('github:d:0', { result: 'done', summary: 'DROP-1 has a machine', environment, seconds: 2 })
  put(replyMessage(to))
  await published()
  expect(comments[0]?.body).toContain('DROP-1 has a machine')
})

test('a Jira that leads on to another address has taken no comment', async () => {
  nock(JIRA)
    .post('/rest/api/3/issue/DROP-1/comment')
    .reply(302, {}, { location: `${JIRA}/jira/rest/api/3/issue/DROP-1/comment` })
  nock(JIRA).get('/jira/rest/api/3/issue/DROP-1/comment').reply(200, { comments: [], total: 0 })
  const { put, putOff } = await stage()
  put(jiraMessage('DROP-1', 'ready:x', 'text'))
  await putOff()
})
