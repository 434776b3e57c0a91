/** The webhooks, limits and pages over real HTTP. What is sent is no payload of GitHub's on purpose: nothing of it is read yet. */
import { createHmac } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { gzipSync } from 'node:zlib'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { exemptFrom } from '../../../src/bot/http/connections.ts'
import { openMetrics } from '../../../src/bot/http/metrics.ts'
import { openServer, type Server } from '../../../src/bot/http/server.ts'
import { ignoredSettlement } from '../../../src/bot/inbox/settlement.ts'
import type { Store } from '../../../src/store/port.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { until } from '../../support/wait.ts'

const SECRET = 'the right secret'
let store: Store
let server: Server
let lines: string[]
const open = async ({
  jira = true,
  automation = true,
  path = ':memory:',
  headersMs = 10_000,
  clock = Date.now as () => number,
  checked = Promise.resolve(),
} = {}) => {
  lines = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  store = openStore(path, Date.now)
  server = await openServer({
    host: '127.0.0.1',
    port: 0,
    github: { secret: SECRET },
    jira: jira ? { secret: SECRET } : null,
    automation: automation ? { secret: SECRET } : null,
    lanes: { github: event => event, jira: () => 'jira' },
    store,
    runnerRoutes: {},
    headersMs,
    isExempt: exemptFrom([]),
    metrics: openMetrics({ store, rate: () => null, clock: Date.now }),
    clock,
    checked,
    log: log as never,
    onAccepted: () => {},
  })
}
const close = async () => {
  await server.close()
  // A test may have closed it.
  await store.close().catch(() => {})
}
beforeEach(() => open())
afterEach(close)
const stored = async () => (await store.counts()).inbox

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

const issueData = readFileSync(new URL('../../fixtures/jira/automation-issue-data.json', import.meta.url), 'utf8')
const automation = (body: string, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/jira/automation`, {
    method: 'POST',
    body,
    headers: { 'x-agent-swarm-secret': SECRET, ...headers },
  })

describe('a request of Jira automation', () => {
  const bodies = async () => (await store.inbox.due(10)).map(({ event, lane, body }) => ({ event, lane, body }))
  const expected = { event: 'automation', lane: 'jira', body: '{"issue":{"key":"DROP-51"}}' }

  test.for([
    ['the issue itself ("Issue data")', issueData],
    ['a key', '{"key":"DROP-51"}'],
    ['a key with spaces around it', '{"key":" DROP-51 "}'],
    ['an issue', '{"issue":{"key":"DROP-51","fields":7}}'],
    ["the issue's key as the issue", '{"issue":"DROP-51"}'],
    ['the key under its own name', '{"key":{},"issue":null,"issueKey":"DROP-51"}'],
  ])('with %s is stored with the key alone', async ([, body]) => {
    expect((await automation(body ?? '')).status).toBe(202)
    expect(await bodies()).toEqual([expected])
  })

  test.for<[string, () => Promise<Response>, number]>([
    ['no secret', () => automation(issueData, { 'x-agent-swarm-secret': '' }), 401],
    ['a wrong secret', () => automation(issueData, { 'x-agent-swarm-secret': `${SECRET}x` }), 401],
    [
      'a signature in place of the secret',
      () => automation(issueData, { 'x-agent-swarm-secret': sign(issueData) }),
      401,
    ],
    ['a body without a key', () => automation('{"fields":{}}'), 400],
    ['a key of another form', () => automation('{"key":"../DROP-1"}'), 400],
    ['a body that is not JSON', () => automation('nothing'), 400],
    ['a body that is too large', () => automation(`{"key":"DROP-1","x":"${'x'.repeat(6 * 1024 * 1024)}"}`), 413],
  ])('with %s is refused, and nothing is stored', async ([, send, status]) => {
    expect((await send()).status).toBe(status)
    expect(await stored()).toBe(0)
  })

  test('has no address without its setting', async () => {
    await close()
    await open({ automation: false })
    expect((await automation(issueData)).status).toBe(404)
  })

  test('counts once within ten seconds, and is a delivery of its own after them', async () => {
    await close()
    let now = 1_795_860_000_000
    await open({ clock: () => now })
    for (const at of [0, 9_999, 10_000, 12_000]) {
      now = 1_795_860_000_000 + at
      expect((await automation(issueData)).status).toBe(202)
    }
    expect((await automation('{"key":"DROP-52"}')).status).toBe(202)
    expect(await stored()).toBe(3)
  })

  test('that comes again after it was decided has the issue read again', async () => {
    await automation(issueData)
    const [first] = await store.inbox.due(1)
    await store.inbox.settle([{ seq: first?.seq ?? 0, ...ignoredSettlement('read again') }])
    await automation(issueData)
    expect(await store.inbox.list([], 10)).toMatchObject([{ id: first?.id, verdict: 'waiting' }])
  })
})

describe('a webhook', () => {
  test('that is signed is on disk when it is answered', async () => {
    await close()
    const home = mkdtempSync(join(tmpdir(), 'agent-swarm-server-'))
    onTestFinished(() => rmSync(home, { recursive: true }))
    await open({ path: join(home, 'bot.db') })
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
      'the secret that Probot uses when none is set',
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
    ['a form that claims to be JSON', () => github('payload=%7B%7D'), 400],
    ['a compressed body', () => github(gzipSync('{}').toString('latin1'), { 'content-encoding': 'gzip' }), 400],
    ['a body that is not JSON', () => github('nothing'), 400],
    ['JSON that is not an object', () => github('1'), 400],
    ['null', () => github('null'), 400],
    ['a list', () => github('[]'), 400],
    ['no delivery id', () => github('{}', { 'x-github-delivery': '' }), 400],
    ['no event', () => github('{}', { 'x-github-event': '' }), 400],
    ['Jira with a wrong secret', () => jira('{}', { 'x-hub-signature': sign('{}', 'another') }), 401],
    ['Jira without a signature', () => jira('{}', { 'x-hub-signature': '' }), 401],
    ['an unknown route', () => fetch(`${server.url}/nothing`), 404],
    ['the wrong method', () => fetch(`${server.url}/api/github/webhooks`), 404],
  ])('%s is refused, and nothing is stored', async ([, send, status]) => {
    expect((await send()).status).toBe(status)
    expect(await stored()).toBe(0)
  })

  test('an event that means nothing is accepted too', async () => {
    expect((await github('{"zen":"x"}', { 'x-github-event': 'star' })).status).toBe(202)
    expect((await jira('{"webhookEvent":"comment_created"}')).status).toBe(202)
    expect(await stored()).toBe(2)
  })

  test('that is sent twice is stored once; Jira names it by an identifier, or else by its content', async () => {
    for (const _ of [1, 2]) {
      expect((await github('{}')).status).toBe(202)
      expect((await jira('{"n":1}', { 'x-atlassian-webhook-identifier': 'id-1' })).status).toBe(202)
      expect((await jira('{"n":2}')).status).toBe(202)
    }
    expect(await stored()).toBe(3)
  })

  test('is stored also when a hundred arrive at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => github(`{"n":${n}}`, { 'x-github-delivery': `d${n}` })),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]))
    expect(await stored()).toBe(100)
  })

  test('that cannot be stored is answered 503, and may be sent again', async () => {
    await store.close()
    expect((await github('{}')).status).toBe(503)
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
  })

  test('waits for the lock of another process, while everything else is answered', async () => {
    await close()
    const home = mkdtempSync(join(tmpdir(), 'agent-swarm-locked-'))
    onTestFinished(() => rmSync(home, { recursive: true }))
    await open({ path: join(home, 'bot.db') })
    const other = new DatabaseSync(join(home, 'bot.db'))
    other.exec('begin exclusive')
    const delivered = github('{}')
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    expect((await fetch(`${server.url}/metrics`)).status).toBe(200)
    const unready = await fetch(`${server.url}/readyz`)
    expect([unready.status, await unready.json()]).toEqual([503, { status: 'another process has locked the store' }])
    other.exec('commit')
    other.close()
    expect((await delivered).status).toBe(202)
    expect(await stored()).toBe(1)
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200)
  })

  test('of a side that is not configured has no route', async () => {
    await close()
    await open({ jira: false })
    expect((await jira('{}')).status).toBe(404)
    expect((await github('{}')).status).toBe(202)
  })
})

describe('limits', () => {
  const raw = (
    headers: Record<string, string | number>,
    write: (send: (chunk: Buffer) => boolean, end: () => void) => void,
  ): Promise<number | 'cut'> =>
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
        'code' in error && (error.code === 'EPIPE' || error.code === 'ECONNRESET') ? resolve('cut') : reject(error),
      )
      write(
        chunk => sent.write(chunk),
        () => sent.end(),
      )
    })

  test('a body whose declared length is too large is refused before it is read', async () => {
    expect(await raw({ 'content-length': 6 * 1024 * 1024 }, send => void send(Buffer.from('{')))).toBe(413)
  })
  test('many large bodies at once leave room for others, and end', async () => {
    const cuts: (() => void)[] = []
    const part = Buffer.alloc(20e6, 32)
    const strangers = Array.from({ length: 8 }, () => {
      const stranger = request(`${server.url}/api/github/webhooks`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-hub-signature-256': sign(''), 'content-length': 25e6 },
      })
      const answered = new Promise<number | 'cut'>(resolve => {
        stranger.on('response', response => resolve(response.resume().statusCode ?? 0))
        // A sender that still writes when the connection ends may never read why.
        stranger.on('error', () => resolve('cut'))
      })
      stranger.write(part)
      cuts.push(() => stranger.destroy())
      return answered
    })
    // Six of them use up the budget; the others are refused.
    expect([503, 'cut']).toContain(await Promise.race(strangers))
    expect((await github('{}')).status).toBe(202)
    const large = JSON.stringify({ text: 'x'.repeat(1e6) })
    for (const cut of cuts) cut()
    await until('budget again', async () => (await github(large, { 'x-github-delivery': 'two' })).status === 202)
  })
  test('a body that grows too large is cut off', async () => {
    const status = raw({ 'transfer-encoding': 'chunked' }, send => {
      for (let n = 0; n < 60; n += 1) send(Buffer.alloc(100 * 1024, 32))
    })
    // A sender that still writes when the connection ends may never read why.
    expect([413, 'cut']).toContain(await status)
    expect(await stored()).toBe(0)
  })
  test('headers that are too long end the connection', async () => {
    const socket = connect(server.port, '127.0.0.1')
    let response = ''
    socket.on('data', chunk => {
      response += chunk
    })
    socket.write(`GET /healthz HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)
    await new Promise(resolve => socket.on('close', resolve))
    expect(response).toMatch(/^HTTP\/1\.1 431/)
  })
  test('headers that never end are cut off', async () => {
    await close()
    await open({ headersMs: 100 })
    const socket = connect(server.port, '127.0.0.1')
    socket.write('POST /jira/webhook HTTP/1.1\r\nhost: x\r\n')
    await new Promise(resolve => socket.on('close', resolve).resume())
  })

  test('a flood of wrong signatures makes few log lines, and none has a payload', async () => {
    for (let n = 0; n < 200; n += 1) await github(`{"secret-payload":${n}}`, { 'x-hub-signature-256': sign('x') })
    expect(lines.length).toBeLessThan(5)
    expect(lines.join()).not.toContain('secret-payload')
  })
})

describe('health and metrics', () => {
  test('are not ready before the databases are looked at as a whole', async () => {
    await close()
    const { promise, resolve } = Promise.withResolvers<void>()
    await open({ checked: promise })
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    resolve()
    await until('being ready', async () => (await fetch(`${server.url}/readyz`)).status === 200)
  })

  test('show the state', async () => {
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
