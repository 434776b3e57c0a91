/** The model gateway on loopback: what passes, what does not, and what it counts. */

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { NEW_PROGRESS } from '../../../src/registry/agents.ts'
import type { AgentRow } from '../../../src/registry/registry.ts'
import { openModelGateway, placeholderKey } from '../../../src/runner/model-gateway/gateway.ts'
import { openModelServer, type Reply } from '../../support/model-server.ts'
import { until } from '../../support/wait.ts'

const KEY = 'sk-secret-0123456789'
const RUN = '0123abcd'
const ROW: AgentRow = {
  ...{ use: 'command', run: RUN, state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
  ...{ summary: null, turns: 0, tokens: 0, usd: null, rounds: 0, pullRequest: 'draft' },
  ...{ task: { summary: '', description: '', acceptance: '' }, session: null, workedMs: 0 },
  progress: { ...NEW_PROGRESS, limits: { minutes: 1, tokens: 10_000, usd: null, rounds: 0 } },
}

const listen = async (handle: (request: IncomingMessage, response: ServerResponse) => void) => {
  const server = createServer(handle)
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const openStage = async (
  modelUrl: string,
  row: Partial<AgentRow> = {},
  key: string | null = KEY,
  closed: () => string | null = () => null,
) => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-model-'))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  mkdirSync(join(home, 'model-keys'))
  if (key !== null)
    for (const name of ['anthropic', 'openai'])
      writeFileSync(join(home, 'model-keys', name), `${key}\n`, { mode: 0o600 })
  let present: AgentRow = { ...ROW, ...row }
  const warnings: string[] = []
  const gateway = openModelGateway({
    ...{ home, closed },
    config: { agent: { use: 'command', command: 'x', modelUrl } },
    registry: {
      agent: () => present,
      // A restore after operation 7.
      restoredSince: (_, operation) => (operation === 7 ? { id: 8, name: 'middle' } : null),
      agentUse: () => ({ tokens: present.tokens, usd: present.usd ?? 0 }),
      payAgent: (_, { tokens, usd }) => {
        const paid = usd === null ? present.usd : (present.usd ?? 0) + usd
        present = { ...present, tokens: present.tokens + tokens, usd: paid }
      },
    },
    warn: (_, message) => warnings.push(message),
  })
  const url = await listen(
    (request, response) => void gateway.handle({ ticket: 'DROP-1', vmId: 'as-drop-1-00000001' }, request, response),
  )
  return { home, url, gateway, warnings, row: () => present }
}
const modelOf = async (replies: Reply[] = []) => {
  const model = await openModelServer(replies)
  onTestFinished(model.close)
  return model
}
const post = (url: string, path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': placeholderKey(RUN), ...headers },
    body: JSON.stringify(body),
  })
const MESSAGE = { model: 'claude-sonnet-4-5', stream: true, tools: [{}], messages: [] }
const claude = { 'anthropic-version': '2023-06-01' }

test('the key is added and the guest’s credentials are not passed on; the stream passes, and is counted', async () => {
  const model = await modelOf([{ says: 'hello', usage: { input: 1_000, output: 200 } }])
  const stage = await openStage(model.url)
  const answer = await post(stage.url, '/v1/messages?beta=true', MESSAGE, {
    ...{ ...claude, cookie: 'a=b', 'x-forwarded-for': '1.2.3.4', 'anthropic-beta': 'x' },
    authorization: 'Bearer mine',
  })
  expect(answer.status).toBe(200)
  expect(await answer.text()).toContain('"text":"hello"')
  const [asked] = model.asked
  expect(asked).toMatchObject({ url: '/v1/messages?beta=true', headers: { 'x-api-key': KEY, 'anthropic-beta': 'x' } })
  for (const name of ['authorization', 'cookie', 'x-forwarded-for']) expect(asked?.headers).not.toHaveProperty(name)
  // 1000 at $3 and 200 at $15 for a million.
  await until('the count', () => stage.row().tokens > 0)
  expect(stage.row()).toMatchObject({ tokens: 1_200, usd: expect.closeTo(0.006, 6) })
})

test('an answer of OpenAI counts tokens, and no dollars', async () => {
  const model = await modelOf([{ says: 'hello', usage: { input: 10, output: 5 } }])
  const stage = await openStage(model.url)
  const answer = await post(
    stage.url,
    '/v1/responses',
    { model: 'gpt' },
    { authorization: `Bearer ${placeholderKey(RUN)}` },
  )
  expect(await answer.text()).toContain('response.completed')
  expect(model.asked[0]?.headers).toMatchObject({ authorization: `Bearer ${KEY}` })
  await until('the count', () => stage.row().tokens > 0)
  expect(stage.row()).toMatchObject({ tokens: 15, usd: null })
})

test('nothing passes while the bot does not accept this runner', async () => {
  const model = await modelOf()
  const why: { text: string | null } = { text: 'the token of this runner was revoked' }
  const stage = await openStage(model.url, {}, KEY, () => why.text)
  const refused = await post(stage.url, '/v1/messages', MESSAGE, claude)
  expect([refused.status, await refused.text()]).toEqual([403, expect.stringContaining('was revoked')])
  expect(model.asked).toEqual([])
  why.text = null
  expect((await post(stage.url, '/v1/messages', MESSAGE, claude)).status).toBe(200)
})

test.for([
  ['a run that is not at work', { state: 'ended' }, {}, 403, 'no agent is at work'],
  ['another run', { run: 'ffffffff' }, {}, 403, 'not a request of the agent'],
  [
    'a run that is being ended',
    { progress: { ...ROW.progress, ending: { result: 'stopped', reason: null } } },
    {},
    403,
    'no agent is at work',
  ],
  ['a run from before a restore', { progress: { ...ROW.progress, operation: 7 } }, {}, 403, 'was restored'],
  ['used tokens', { tokens: 10_000 }, {}, 400, 'out of budget'],
  [
    'used dollars',
    { usd: 5, progress: { ...ROW.progress, limits: { minutes: 1, tokens: 1e6, usd: 5, rounds: 0 } } },
    {},
    400,
    'out of budget',
  ],
  ['an agent of another maker', { use: 'codex' }, {}, 403, 'may not use the API of anthropic'],
  ['another path', {}, { path: '/v1/files' }, 404, 'does not pass'],
  ['a path that climbs', {}, { path: '/v1/messages/..%2ffiles' }, 404, 'does not pass'],
  ['another address', {}, { path: '/v1/messages?x=http://evil' }, 404, 'does not pass'],
] as const)(
  'refused: %s',
  async ([, row, { path = '/v1/messages' }, status, message]: readonly [
    string,
    object,
    { path?: string },
    number,
    string,
  ]) => {
    const model = await modelOf()
    const stage = await openStage(model.url, row)
    const answer = await post(stage.url, path, MESSAGE, claude)
    expect(answer.status).toBe(status)
    expect(await answer.json()).toMatchObject({ type: 'error', error: { message: expect.stringContaining(message) } })
    expect(model.asked).toEqual([])
  },
)

test('without a key, or with one that others may read, the answer says what the operator has to do', async () => {
  const model = await modelOf()
  const stage = await openStage(model.url, {}, null)
  const missing = await post(stage.url, '/v1/messages', MESSAGE, claude)
  expect(missing.status).toBe(401)
  expect(await missing.text()).toMatch(/model-keys\/anthropic cannot be read.*chmod 600/)
  writeFileSync(join(stage.home, 'model-keys', 'anthropic'), KEY)
  chmodSync(join(stage.home, 'model-keys', 'anthropic'), 0o644)
  const open = await post(stage.url, '/v1/messages', MESSAGE, claude)
  expect(open.status).toBe(401)
  expect(await open.text()).toContain('can be read by other users')
  expect(model.asked).toEqual([])
})

test.for([
  ['a refused key: the maker’s words may quote it', { status: 401, body: { error: KEY } }, 401],
  ['a redirect', { status: 307, body: {}, headers: { location: 'http://127.0.0.1:1/' } }, 502],
] as const)('%s', async ([, reply, status]) => {
  const model = await modelOf([reply])
  const stage = await openStage(model.url)
  const answer = await post(stage.url, '/v1/messages', MESSAGE, claude)
  expect(answer.status).toBe(status)
  expect(await answer.text()).not.toContain(KEY)
  expect(stage.warnings.join()).not.toContain(KEY)
  expect(stage.row().tokens).toBe(0)
})

test('no other error quotes the key either', async () => {
  const model = await modelOf([{ status: 400, body: { error: `bad header x-api-key: ${KEY}`, more: 'kept' } }])
  const stage = await openStage(model.url)
  const answer = await post(stage.url, '/v1/messages', MESSAGE, claude)
  expect(answer.status).toBe(400)
  expect(await answer.text()).toBe('{"error":"bad header x-api-key: [redacted]","more":"kept"}')
})

test('what the answer says of the account stays here', async () => {
  const model = await modelOf([
    { status: 529, body: {}, headers: { 'set-cookie': 'a=b', 'anthropic-organization-id': 'o', 'retry-after': '3' } },
  ])
  const stage = await openStage(model.url)
  const answer = await post(stage.url, '/v1/messages', MESSAGE, claude)
  expect([...answer.headers.keys()].sort()).toEqual(expect.arrayContaining(['content-type', 'retry-after']))
  expect(answer.headers.has('set-cookie')).toBe(false)
  expect(answer.headers.has('anthropic-organization-id')).toBe(false)
})

test('a machine that breaks off before the numbers pays by the size of what it got', async () => {
  const url = await listen((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(
      `data: {"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":50,"output_tokens":1}}}\n\n`,
    )
    response.write(`data: ${'x'.repeat(40_000)}\n\n`)
  })
  const stage = await openStage(url)
  const ending = new AbortController()
  const answer = await fetch(`${stage.url}/v1/messages`, {
    method: 'POST',
    headers: { ...claude, 'x-api-key': placeholderKey(RUN) },
    body: '{}',
    signal: ending.signal,
  })
  let bytes = 0
  try {
    for await (const chunk of answer.body ?? []) {
      bytes += chunk.length
      if (bytes >= 40_000) ending.abort()
    }
  } catch {}
  await until('the count', () => stage.row().tokens > 0)
  expect(stage.row().tokens).toBeGreaterThan(10_000)
})

test('a machine that leaves before the answer begins pays for its request', async () => {
  let arrived = false
  const url = await listen(request =>
    request.resume().on('end', () => {
      arrived = true
    }),
  )
  const stage = await openStage(url)
  const ending = new AbortController()
  const asking = fetch(`${stage.url}/v1/messages`, {
    method: 'POST',
    headers: { ...claude, 'x-api-key': placeholderKey(RUN) },
    body: 'x'.repeat(20_000),
    signal: ending.signal,
  })
  await until('the request', () => arrived)
  ending.abort()
  await asking.catch(() => {})
  await until('the count', () => stage.row().tokens > 0)
  // Four bytes a token, and what the model may have written meanwhile.
  expect(stage.row().tokens).toBeGreaterThan(5_000)
})

test('a model that goes on in the background counts as much as it may write', async () => {
  const url = await listen((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end('{"id":"resp_1","status":"queued","background":true,"usage":null}')
  })
  const stage = await openStage(url)
  const key = { authorization: `Bearer ${placeholderKey(RUN)}` }
  expect((await post(stage.url, '/v1/responses', { background: true }, key)).status).toBe(200)
  await until('the count', () => stage.row().tokens > 0)
  expect(stage.row().tokens).toBeGreaterThan(100_000)
  expect((await post(stage.url, '/v1/responses', {}, key)).status).toBe(400)
})

test.for([
  ['before its answer begins', 'none', { background: true }, 128_000],
  ['before its answer begins, and names a bound', 'none', { background: true, max_output_tokens: 500 }, 500],
  ['before the first event', 'no event', { background: true, stream: true }, 128_000],
  ['when its answer has said that it ends with it', 'event', { stream: true }, 0],
] as const)('a machine that leaves OpenAI %s pays for what may go on', async ([, answers, body, output]) => {
  let arrived = false
  const url = await listen((request, response) =>
    request.resume().on('end', () => {
      arrived = true
      // A line of no event.
      if (answers !== 'none') response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': begun\n\n')
      if (answers === 'event') response.write('data: {"response":{"status":"in_progress","background":false}}\n\n')
    }),
  )
  const stage = await openStage(url)
  const ending = new AbortController()
  const asking = fetch(`${stage.url}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${placeholderKey(RUN)}` },
    body: JSON.stringify(body),
    signal: ending.signal,
  })
  await until('the request', () => arrived)
  if (answers !== 'none') {
    let text = ''
    const reader = (await asking).body?.getReader()
    while (!text.includes(answers === 'event' ? 'in_progress' : 'begun'))
      text += Buffer.from((await reader?.read())?.value ?? []).toString()
  }
  ending.abort()
  await asking.catch(() => {})
  await until('the count', () => stage.row().tokens > 0)
  expect(stage.row().tokens).toBeGreaterThanOrEqual(output)
  // Its request, and the seconds that it took.
  expect(stage.row().tokens).toBeLessThan(output + 100_000)
})

test('a request that did not arrive as a whole costs its size and its time', async () => {
  let begun = false
  const url = await listen(request => {
    begun = true
    request.resume()
  })
  const stage = await openStage(url)
  const asking = httpRequest(`${stage.url}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${placeholderKey(RUN)}` },
  })
  asking.on('error', () => {})
  asking.write('{"background":true')
  await until('the request', () => begun)
  asking.destroy()
  await until('the count', () => stage.row().tokens > 0)
  expect(stage.row().tokens).toBeLessThan(100_000)
})

test('a model that cannot be reached costs nothing', async () => {
  const stage = await openStage('http://127.0.0.1:9')
  expect((await post(stage.url, '/v1/messages', MESSAGE, claude)).status).toBe(502)
  expect(stage.row().tokens).toBe(0)
})

test('at most eight requests of a machine at once; the ninth is told to wait', async () => {
  const held: ServerResponse[] = []
  const url = await listen((request, response) => {
    request.resume()
    held.push(response)
  })
  const stage = await openStage(url)
  const eight = Array.from({ length: 8 }, () => post(stage.url, '/v1/messages', MESSAGE, claude))
  await until('eight', () => held.length === 8)
  const ninth = await post(stage.url, '/v1/messages', MESSAGE, claude)
  expect([ninth.status, ninth.headers.get('retry-after')]).toEqual([429, '1'])
  for (const response of held) response.writeHead(200).end('{}')
  await Promise.all(eight)
})

test('a request without end is cut off', async () => {
  const url = await listen((request, response) => request.on('end', () => response.end('{}')).resume())
  const stage = await openStage(url)
  const status = await new Promise<number | string>(resolve => {
    const asking = httpRequest(
      `${stage.url}/v1/messages`,
      { method: 'POST', headers: { ...claude, 'x-api-key': placeholderKey(RUN) } },
      response => resolve(response.statusCode ?? 0),
    )
    asking.on('error', error => resolve(error.message))
    const block = Buffer.alloc(1024 * 1024)
    const write = () => {
      while (asking.write(block));
      asking.once('drain', write)
    }
    write()
  })
  expect(status).not.toBe(200)
})
