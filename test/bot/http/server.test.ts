/** The accepting path over real HTTP. What is sent is no payload of GitHub's on purpose: nothing of it is read yet. */
import { createHmac } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Writable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openMetrics } from '../../../src/bot/http/metrics.ts'
import { openServer, type Server } from '../../../src/bot/http/server.ts'
import { openRunnerApi } from '../../../src/bot/runners/api.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import type { Queue } from '../../../src/store/port.ts'
import { openQueue } from '../../../src/store/sqlite/queue.ts'
import { action } from '../../store/fixtures.ts'
import { until } from '../../support/wait.ts'

const SECRET = 'the right secret'
const TOKEN = 'the-right-token'
let home: string
let queue: Queue
let server: Server
let lines: string[]
let dispatch: () => void
let reap: () => void
const open = async ({ jira = true, clock = Date.now } = {}) => {
  lines = []
  const log = pino(
    { level: 'debug' },
    new Writable({
      write: (chunk, _, done) => {
        lines.push(String(chunk))
        done()
      },
    }),
  )
  const metrics = openMetrics({ queue, runnersAlive: () => 0, rate: () => null, clock: Date.now })
  const runnerApi = openRunnerApi({
    queue,
    token: TOKEN,
    clock,
    metrics,
    onOutcome: () => [],
    onHeartbeat: () => [],
    heldByOther: () => null,
    mayNotBegin: async () => null,
    onMessages: () => {},
    log: log as never,
  })
  dispatch = runnerApi.dispatch
  reap = runnerApi.reap
  server = await openServer({
    host: '127.0.0.1',
    port: 0,
    github: { secret: SECRET },
    jira: jira ? { secret: SECRET } : null,
    lanes: { github: event => event, jira: () => 'jira' },
    queue,
    runnerApi,
    metrics,
    clock: Date.now,
    log: log as never,
    onAccepted: () => {},
  })
}
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-server-'))
  queue = openQueue(join(home, 'bot.db'), Date.now)
  await open()
})
afterEach(async () => {
  await server.close()
  try {
    queue.close()
  } catch {
    // A test closed it.
  }
  rmSync(home, { recursive: true })
})

const sign = (body: string, secret = SECRET) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
const github = (body: string, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/api/github/webhooks`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-github-event': 'push',
      'x-github-delivery': 'one',
      'x-hub-signature-256': sign(body),
      ...headers,
    },
  })
const jira = (body: string, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/jira/webhook`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', 'x-hub-signature': sign(body), ...headers },
  })

describe('a webhook', () => {
  test('that is signed is on disk when it is answered', async () => {
    expect((await github('{"a":1}')).status).toBe(202)
    const other = new DatabaseSync(join(home, 'bot.db'), { readOnly: true })
    expect(other.prepare('select source, id, event, body from delivery').all()).toEqual([
      { source: 'github', id: 'one', event: 'push', body: '{"a":1}' },
    ])
    other.close()
  })

  test.for<[string, () => Promise<Response>, number]>([
    ['a wrong secret', () => github('{}', { 'x-hub-signature-256': sign('{}', 'another') }), 401],
    [
      'the secret that Probot takes for none',
      () => github('{}', { 'x-hub-signature-256': sign('{}', 'development') }),
      401,
    ],
    [
      'an empty secret',
      () => github('{}', { 'x-hub-signature-256': `sha256=${createHmac('sha256', '').update('{}').digest('hex')}` }),
      401,
    ],
    ['no signature', () => github('{}', { 'x-hub-signature-256': '' }), 401],
    ['a short signature', () => github('{}', { 'x-hub-signature-256': 'sha256=abc' }), 401],
    [
      'SHA-1',
      () => github('{}', { 'x-hub-signature-256': `sha1=${createHmac('sha1', SECRET).update('{}').digest('hex')}` }),
      401,
    ],
    ['a signature of another body', () => github('{"a":1}', { 'x-hub-signature-256': sign('{"a":2}') }), 401],
    ['a form', () => github('{}', { 'content-type': 'application/x-www-form-urlencoded' }), 415],
    ['a form that says it is JSON', () => github('payload=%7B%7D'), 400],
    ['what is packed', () => github(gzipSync('{}').toString('latin1'), { 'content-encoding': 'gzip' }), 400],
    ['no JSON', () => github('nothing'), 400],
    ['JSON that is no object', () => github('1'), 400],
    ['null', () => github('null'), 400],
    ['a list', () => github('[]'), 400],
    ['no delivery id', () => github('{}', { 'x-github-delivery': '' }), 400],
    ['no event', () => github('{}', { 'x-github-event': '' }), 400],
    ['Jira with a wrong secret', () => jira('{}', { 'x-hub-signature': sign('{}', 'another') }), 401],
    ['Jira without a signature', () => jira('{}', { 'x-hub-signature': '' }), 401],
    ['a route that is none', () => fetch(`${server.url}/nothing`), 404],
    ['the wrong method', () => fetch(`${server.url}/api/github/webhooks`), 404],
  ])('%s is refused, and nothing is stored', async ([, send, status]) => {
    expect((await send()).status).toBe(status)
    expect(queue.counts().inbox).toBe(0)
  })

  test('an event that means nothing is taken too', async () => {
    expect((await github('{"zen":"x"}', { 'x-github-event': 'star' })).status).toBe(202)
    expect((await jira('{"webhookEvent":"comment_created"}')).status).toBe(202)
    expect(queue.counts().inbox).toBe(2)
  })

  test('sent twice is stored once; Jira goes by its identifier, and without one by what it says', async () => {
    for (const _ of [1, 2]) {
      expect((await github('{}')).status).toBe(202)
      expect((await jira('{"n":1}', { 'x-atlassian-webhook-identifier': 'id-1' })).status).toBe(202)
      expect((await jira('{"n":2}')).status).toBe(202)
    }
    expect(queue.counts().inbox).toBe(3)
  })

  test('a hundred at once are all stored', async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => github(`{"n":${n}}`, { 'x-github-delivery': `d${n}` })),
    )
    expect(new Set(answers.map(one => one.status))).toEqual(new Set([202]))
    expect(queue.counts().inbox).toBe(100)
  })

  test('what cannot be stored is answered 503, and may come again', async () => {
    const blocker = new DatabaseSync(join(home, 'bot.db'))
    queue.close()
    expect((await github('{}')).status).toBe(503)
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    blocker.close()
  })

  test('a side that is not configured is not there', async () => {
    await server.close()
    await open({ jira: false })
    expect((await jira('{}')).status).toBe(404)
    expect((await github('{}')).status).toBe(202)
  })
})

describe('limits', () => {
  const raw = (
    headers: Record<string, string | number>,
    write: (send: (chunk: Buffer) => boolean, end: () => void) => void,
  ): Promise<number> =>
    new Promise((resolve, reject) => {
      const sent = request(
        `${server.url}/jira/webhook`,
        { method: 'POST', headers: { 'content-type': 'application/json', 'x-hub-signature': sign(''), ...headers } },
        response => {
          response.resume()
          resolve(response.statusCode ?? 0)
        },
      )
      sent.on('error', error =>
        'code' in error && (error.code === 'EPIPE' || error.code === 'ECONNRESET') ? undefined : reject(error),
      )
      write(
        chunk => sent.write(chunk),
        () => sent.end(),
      )
    })

  test('a body that says it is too large is refused before it is read', async () => {
    expect(await raw({ 'content-length': 6 * 1024 * 1024 }, send => void send(Buffer.from('{')))).toBe(413)
  })
  test('many large ones at once leave room for those of others, and end', async () => {
    const held: (() => void)[] = []
    const strangers = Array.from({ length: 8 }, () => {
      const stranger = request(`${server.url}/api/github/webhooks`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-hub-signature-256': sign(''), 'content-length': 25e6 },
      })
      const answered = new Promise<number | 'cut'>(resolve => {
        stranger.on('response', response => resolve(response.resume().statusCode ?? 0))
        // Who still writes when the connection ends may never read why.
        stranger.on('error', () => resolve('cut'))
      })
      stranger.write(Buffer.alloc(20e6, 32))
      held.push(() => stranger.destroy())
      return answered
    })
    // Six of them fill the room; the others are told.
    expect([503, 'cut']).toContain(await Promise.race(strangers))
    expect((await github('{}')).status).toBe(202)
    const large = JSON.stringify({ text: 'x'.repeat(1e6) })
    for (const end of held) end()
    await until('room again', async () => (await github(large, { 'x-github-delivery': 'two' })).status === 202)
  })
  test('one that grows too large is cut off', async () => {
    const status = raw({ 'transfer-encoding': 'chunked' }, send => {
      for (let n = 0; n < 60; n += 1) send(Buffer.alloc(100 * 1024, 32))
    })
    expect(await status).toBe(413)
    expect(queue.counts().inbox).toBe(0)
  })
  test('headers without end are ended', async () => {
    const socket = connect(server.port, '127.0.0.1')
    const said: string[] = []
    socket.on('data', chunk => said.push(String(chunk)))
    socket.write(`GET /healthz HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)
    await new Promise(resolve => socket.on('close', resolve))
    expect(said.join('')).toMatch(/^HTTP\/1\.1 431/)
  })
  test('headers that never come are ended', async () => {
    const socket = connect(server.port, '127.0.0.1')
    socket.write('POST /jira/webhook HTTP/1.1\r\nhost: x\r\n')
    const began = performance.now()
    await new Promise(resolve => socket.on('close', resolve).resume())
    expect(performance.now() - began).toBeLessThan(15_000)
  }, 20_000)

  test('a flood of bad signatures costs a bounded number of log lines, and none holds a payload', async () => {
    for (let n = 0; n < 200; n += 1) await github(`{"secret-payload":${n}}`, { 'x-hub-signature-256': sign('x') })
    expect(lines.length).toBeLessThan(5)
    expect(lines.join()).not.toContain('secret-payload')
  })
})

describe('health and metrics', () => {
  test('both say what they know', async () => {
    expect(await (await fetch(`${server.url}/healthz`)).json()).toEqual({ status: 'alive' })
    expect(await (await fetch(`${server.url}/readyz`)).json()).toEqual({ status: 'ready' })
    await github('{}')
    await github('{}', { 'x-hub-signature-256': sign('x') })
    const text = await (await fetch(`${server.url}/metrics`)).text()
    expect(text).toContain('agent_swarm_deliveries_total{source="github",result="accepted"} 1')
    expect(text).toContain('agent_swarm_deliveries_total{source="github",result="bad_signature"} 1')
    expect(text).toContain('agent_swarm_inbox_deliveries 1')
  })
})

describe('the runner API', () => {
  const ask = (name: string, body: unknown, token = TOKEN) =>
    fetch(`${server.url}/runner/v1/${name}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  const done: Outcome = { result: 'done', summary: 'done', environment: null, seconds: 1 }

  test('without the token there is nothing', async () => {
    for (const name of ['acquire', 'renew', 'complete', 'fail', 'heartbeat']) {
      expect((await ask(name, {}, 'another')).status).toBe(401)
      expect((await ask(name, {}, '')).status).toBe(401)
    }
    // One line for all of them, which names who asked.
    const said = lines.filter(line => line.includes('requests with a wrong runner token were refused'))
    expect(said.map(line => JSON.parse(line))).toMatchObject([{ level: 40, from: '127.0.0.1', count: 1 }])
    expect(lines.join('')).not.toContain('another')
  })

  test('a runner that comes is told, and one that is not heard any more', async () => {
    await server.close()
    let now = 1_000_000_000
    await open({ clock: () => now })
    const beat = () => ask('heartbeat', { runnerId: 'one', host: 'h', version: '1', providers: [], environments: [] })
    const looks = (seconds: number) => {
      for (let n = 0; n < seconds * 2; n += 1) {
        now += 500
        reap()
      }
    }
    const told = () => lines.map(line => JSON.parse(line).msg as string).filter(msg => msg.startsWith('a runner '))
    const away = 'a runner does not answer any more: what it has to do begins when it is back'
    await beat()
    looks(10)
    await beat()
    looks(10)
    expect(told()).toEqual(['a runner is here'])
    looks(10)
    expect(told()).toEqual(['a runner is here', away])
    await beat()
    // The bot was asleep, and nobody else.
    now += 8 * 60 * 60_000
    looks(4)
    expect(told()).toEqual(['a runner is here', away, 'a runner is here'])
  })

  test('bodies are checked, token or not', async () => {
    for (const [name, body] of [
      ['acquire', {}],
      ['acquire', { runnerId: '../x' }],
      ['complete', { id: 'x', token: 'y', outcome: { result: 'perhaps' } }],
      [
        'heartbeat',
        { runnerId: 'one', host: 'h', version: '1', providers: [], environments: [{ ticket: 'no ticket' }] },
      ],
    ] as const) {
      expect((await ask(name, body)).status).toBe(400)
    }
  })

  test('one who waits gets work at once when there is some, and ends it', async () => {
    const waiting = ask('acquire', { runnerId: 'one' })
    queue.enqueue(action('1'))
    dispatch()
    const lease = (await (await waiting).json()) as { id: string; token: string }
    expect(lease.id).toBe('1')
    expect(
      await (await ask('renew', { id: '1', token: lease.token, progress: { phase: 'ssh', at: 'now' } })).json(),
    ).toEqual({ lease: 'ok' })
    expect(await (await ask('complete', { id: '1', token: 'stale', outcome: done })).json()).toEqual({ lease: 'lost' })
    expect(await (await ask('complete', { id: '1', token: lease.token, outcome: done })).json()).toEqual({
      lease: 'ok',
    })
    expect(queue.get('1')).toMatchObject({ state: 'done' })
  })

  test('no outcome is lost for what it says at length, or for a long id', async () => {
    const id = `github:poll:acme/shop:refs/heads/${'x'.repeat(250)}:${'a'.repeat(40)}:0`
    const long = 'o'.repeat(30_000)
    const failure = { kind: 'no-such-checkpoint', message: long, remedy: long }
    const outcome = { ...done, said: long, kept: long }
    for (const [name, ended] of [
      ['complete', { outcome }],
      ['fail', { failure, retry: false, environment: null }],
    ] as const) {
      queue.enqueue(action(`${id}${name}`))
      const { token } = (await (await ask('acquire', { runnerId: 'one' })).json()) as { token: string }
      const lease = { id: `${id}${name}`, token }
      const answers = [
        await ask('renew', { ...lease, progress: { phase: long, at: 'now' } }),
        await ask(name, { ...lease, ...ended }),
      ]
      expect(answers.map(one => one.status)).toEqual([200, 200])
      expect(queue.get(lease.id)?.outcome).toMatchObject({ result: name === 'fail' ? 'failed' : 'done' })
    }
  })

  test('what is under way goes on when the bot was down or asleep: a lease runs out only while it could be renewed', () => {
    let now = 1_000_000_000
    const clock = () => now
    const queue = openQueue(':memory:', clock)
    queue.enqueue(action('1'))
    const held = queue.claim({ runnerId: 'one' })?.token ?? ''
    now += 60_000
    const log = { info: () => {} } as never
    const api = openRunnerApi({
      ...{ queue, token: TOKEN, clock, log, mayNotBegin: async () => null },
      metrics: openMetrics({ queue, runnersAlive: () => 0, rate: () => null, clock }),
      ...{ onOutcome: () => [], onHeartbeat: () => [], heldByOther: () => null, onMessages: () => {} },
    })
    const looks = (seconds: number) => {
      for (let n = 0; n < seconds * 2; n += 1) {
        now += 500
        api.reap()
      }
    }
    looks(4)
    expect(queue.renew('1', held, null)).toBe('ok')
    now += 8 * 60 * 60_000
    looks(4)
    expect(queue.renew('1', held, null)).toBe('ok')
    looks(12)
    expect(queue.renew('1', held, null)).toBe('lost')
    queue.close()
  })

  test('one who has gone away gets none', async () => {
    const gone = new AbortController()
    const poll = fetch(`${server.url}/runner/v1/acquire`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: '{"runnerId":"one"}',
      signal: gone.signal,
    })
    // Once another request has come and gone, this one is there.
    await fetch(`${server.url}/healthz`)
    gone.abort()
    await expect(poll).rejects.toThrow()
    await fetch(`${server.url}/healthz`)
    queue.enqueue(action('1'))
    dispatch()
    expect(queue.get('1')).toMatchObject({ state: 'pending' })
  })

  test('a failed action is tried again, or reported', async () => {
    queue.enqueue(action('1'))
    const lease = (await (await ask('acquire', { runnerId: 'one' })).json()) as { token: string }
    const failure = { kind: 'timeout', message: 'no answer', remedy: null }
    expect(
      await (await ask('fail', { id: '1', token: lease.token, failure, retry: true, environment: null })).json(),
    ).toEqual({ lease: 'retry' })
  })

  test('what a runner has is pinned to it, and what it no longer has is not', async () => {
    const environment = {
      ticket: 'DROP-1',
      provider: 'synthetic',
      vmId: 'as-drop-1-00000001',
      ip: null,
      status: 'running',
      baseImage: 'b',
      createdAt: 'now',
      ssh: null,
      checkpoints: [],
      workAtRisk: null,
      observedAt: 'now',
    }
    const beat = (environments: unknown[]) =>
      ask('heartbeat', {
        runnerId: 'one',
        host: 'h',
        version: '1',
        providers: [{ name: 'synthetic', live: true }],
        environments,
      })
    expect((await beat([environment])).status).toBe(204)
    expect(queue.pinnedTo('DROP-1')).toBe('one')
    await beat([])
    expect(queue.pinnedTo('DROP-1')).toBeNull()
  })

  test('a heartbeat is answered with what waits, and why', async () => {
    const beat = () => ask('heartbeat', { runnerId: 'one', host: 'h', version: '1', providers: [], environments: [] })
    const action = (kind: 'create' | 'stop') =>
      ({ kind, ticket: 'WAIT-1', by: { via: 'github', who: 'ada' }, replyTo: null }) as const
    queue.enqueue({ id: 'a', correlation: 'a', action: action('create') })
    queue.enqueue({ id: 'b', correlation: 'b', action: action('stop') })
    expect(queue.claim({ runnerId: 'one' })?.id).toBe('a')
    expect(await (await beat()).json()).toEqual({
      waiting: [
        {
          ...{ ticket: 'WAIT-1', kind: 'stop', by: { via: 'github', who: 'ada' } },
          since: expect.stringMatching(/^2\d{3}-/),
          why: 'create of the same ticket is under way',
        },
      ],
    })
    // What is another runner's is not told.
    queue.pin('WAIT-1', 'two')
    expect((await beat()).status).toBe(204)
  })
})

test('a runner that asks while the store cannot be written is told so, and the bot lives on', async () => {
  queue.close()
  const asked = await fetch(`${server.url}/runner/v1/acquire`, {
    method: 'POST',
    body: JSON.stringify({ runnerId: 'mac' }),
    headers: { authorization: `Bearer ${TOKEN}` },
  })
  expect(asked.status).toBe(503)
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
})
