/** Secrets that are logged by mistake are not written: each secret is tried on each way into the log. */
import { stripVTControlCharacters } from 'node:util'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { fail } from '../src/errors.ts'
import { openHide, openLog, readable } from '../src/log.ts'

let lines: string[] = []
const write = vi.spyOn(process.stderr, 'write').mockImplementation(line => {
  lines.push(String(line))
  return true
})
afterEach(() => {
  lines = []
})
afterAll(() => write.mockRestore())
const written = () => lines.join('')

const KEY = `-----BEGIN RSA PRIVATE KEY-----\n${'MIIEowIBAAKCAQEA'.repeat(4)}\n${'q83vEjRWeJCrze8S'.repeat(4)}\n-----END RSA PRIVATE KEY-----\n`
const secrets = {
  'a webhook secret': 'It is "ours" & nobody\u2019s+else/7',
  'an API token of Jira': 'ATATT3xFfGF0abcdefghijklmnop=1A2B3C4D',
  'a personal token': 'ghp_0123456789abcdefghijABCDEFGHIJ012345',
  'a runner token': '0123456789abcdef0123456789abcdef0123456789abcdef',
  'a private key': KEY,
}
const inJson = (text: string) => JSON.stringify(text).slice(1, -1)
type Log = ReturnType<typeof openLog>
const octokitError = (secret: string) =>
  Object.assign(new Error('Bad credentials - https://docs.github.com'), {
    status: 401,
    request: { url: 'https://api.github.com/', headers: { authorization: `token ${secret}` }, body: secret },
    response: { data: { echo: secret }, headers: { 'set-cookie': secret } },
  })
const circle = (secret: string) => {
  const circular: Record<string, unknown> = { note: secret }
  circular.self = circular
  return circular
}
const deep = (secret: string, levels: number): unknown => (levels === 0 ? secret : { in: [deep(secret, levels - 1)] })

const ways: Record<string, (log: Log, secret: string) => void> = {
  'the message': (log, secret) => log.info(`it is ${secret}.`),
  'a formatted message': (log, secret) => log.info('it is %s', secret),
  'a formatted object': (log, secret) => log.info('it is %j', { note: secret }),
  'a field': (log, secret) => log.info({ note: secret }, 'x'),
  'a name of a field': (log, secret) => log.info({ [secret]: 1 }, 'x'),
  'fields within fields': (log, secret) => log.info({ a: { b: { c: { d: [{ e: secret }] } } } }, 'x'),
  'very deep fields': (log, secret) => log.info({ a: deep(secret, 50) }, 'x'),
  'a circle': (log, secret) => log.info({ a: circle(secret) }, 'x'),
  'a map, a set, headers': (log, secret) =>
    log.info(
      { a: new Map([['x', secret]]), b: new Set([secret]), c: new Headers({ x: encodeURIComponent(secret) }) },
      'x',
    ),
  'an error’s message': (log, secret) => log.error({ err: new Error(`401 for ${secret}`) }, 'x'),
  'an error alone': (log, secret) => log.error(new Error(`401 for ${secret}`)),
  'an error under any name': (log, secret) => log.error({ why: octokitError(secret) }, 'x'),
  'the request of octokit’s error': (log, secret) => log.error({ err: octokitError(secret) }, 'x'),
  'octokit’s error alone': (log, secret) => log.error(octokitError(secret)),
  'the cause of a cause': (log, secret) =>
    log.error({ err: new Error('a', { cause: new Error('b', { cause: octokitError(secret) }) }) }, 'x'),
  'an aggregate error': (log, secret) => log.error({ err: new AggregateError([octokitError(secret)], secret) }, 'x'),
  'a failure': (log, secret) => log.error({ err: fail('network', `asking ${secret}`, `not ${secret}`) }, 'x'),
  'the user of a URL': (log, secret) => log.info({ url: `https://${encodeURIComponent(secret)}@example.org/` }, 'x'),
  'the password of a URL object': (log, secret) =>
    log.info({ url: new URL(`https://me:${encodeURIComponent(secret)}@example.org/`) }, 'x'),
  'the query of a URL': (log, secret) =>
    log.info(`asked https://example.org/x?a=1&access_token=${encodeURIComponent(secret)}&b=2`),
  'a basic header': (log, secret) =>
    log.info({ note: `Basic ${Buffer.from(`me@example.org:${secret}`).toString('base64')}` }, 'x'),
  'base64 of any alignment': (log, secret) => {
    for (const before of ['', 'a', 'ab', 'abc']) log.info(Buffer.from(`${before}${secret}zz`).toString('base64'))
  },
  'the cut of a long text': (log, secret) => {
    for (let before = 4_000 - secret.length; before < 4_000; before += 7)
      log.info(`${'x '.repeat(before / 2)}${secret}`)
  },
  'the bindings of a child': (log, secret) => log.child({ who: secret, err: octokitError(secret) }).info('x'),
  'a child of a child': (log, secret) =>
    log
      .child({ a: 1 })
      .child({ who: { deep: [secret] } })
      .info('x'),
  'a getter, and one that throws': (log, secret) =>
    log.info({
      get token() {
        return secret
      },
      get broken() {
        throw new Error(secret)
      },
    }),
  'a buffer': (log, secret) =>
    log.info({ a: Buffer.from(secret), b: { c: [new Uint8Array(Buffer.from(secret)).buffer] } }, 'x'),
  'JSON within JSON': (log, secret) => log.info({ a: JSON.stringify({ b: { c: secret } }) }, 'x'),
  'parameters of a search': (log, secret) => log.info({ a: new URLSearchParams({ q: secret }) }, 'x'),
  'nested aggregate errors': (log, secret) =>
    log.error({
      err: new AggregateError([new AggregateError([new Error(secret, { cause: { note: secret } })], 'b')], 'a', {
        cause: octokitError(secret),
      }),
    }),
  'an error that is its own cause': (log, secret) => {
    const err = new Error(`asked with ${secret}`)
    err.cause = err
    log.error({ err }, 'x')
  },
  'a key of a map': (log, secret) => log.info({ a: new Map([[secret, { b: secret }]]) }, 'x'),
  'a request and a response': (log, secret) =>
    log.info(
      {
        a: new Request('https://example.org/', { method: 'POST', body: secret, headers: { authorization: 'x' } }),
        b: new Response(secret),
      },
      'x',
    ),
  'a value with toJSON': (log, secret) => log.info({ a: { toJSON: () => secret, note: secret } }, 'x'),
}

describe('a known secret', () => {
  for (const [name, secret] of Object.entries(secrets)) {
    test.for(Object.entries(ways))(`${name} through %s`, ([, way]) => {
      way(openLog('info', Object.values(secrets)), secret)
      expect(lines.length).toBeGreaterThan(0)
      for (const line of lines) expect(() => JSON.parse(line)).not.toThrow()
      const parts = [secret, secret.slice(0, 24), ...secret.split('\n').filter(line => line.length > 20)]
      for (const part of parts) {
        for (const form of [part, inJson(part), inJson(inJson(part)), encodeURIComponent(part)])
          expect(written()).not.toContain(form)
      }
      // Runs of base64 are decoded.
      for (const [run] of written().matchAll(/[A-Za-z0-9+/=]{16,}/g))
        expect(Buffer.from(run, 'base64').toString('latin1')).not.toContain(secret.slice(0, 24))
    })
  }
})

describe('an unknown secret', () => {
  test.for<[string, unknown]>([
    ...[
      'authorization',
      'Authorization',
      'AUTHORIZATION',
      'x-hub-signature-256',
      'Set-Cookie',
      'apiToken',
      'api_token',
    ].map((name): [string, unknown] => [name, { headers: [{ deep: { [name]: 'x1y2z3' } }] }]),
    ...['API-KEY', 'privateKey', 'PRIVATE_KEY', 'webhookSecret', 'client_secret', 'db.password', 'Passphrase'].map(
      (name): [string, unknown] => [name, { a: { b: { c: { [name]: { whole: ['x1y2z3'] } } } } }],
    ),
    ['raw headers', { rawHeaders: ['Host', 'x', 'Authorization', 'x1y2z3'] }],
    ['pairs of headers', { list: [['Cookie', 'x1y2z3']] }],
    ['name and value', { list: [{ name: 'Authorization', value: 'x1y2z3' }] }],
    ['a map', { list: new Map([['X-Api-Key', 'x1y2z3']]) }],
    ['headers', { list: new Headers({ Cookie: 'x1y2z3' }) }],
  ])('is hidden by its name: %s', ([, fields]) => {
    openLog('info').info(fields, 'x')
    expect(written()).toContain('[redacted]')
    expect(written()).not.toContain('x1y2z3')
  })

  test.for([
    'https://me:x1y2z3@example.org/a',
    'amqp://x1y2z3@example.org',
    'redis://:p@x1y2z3@example.org:6379/0',
    '/download?X-Amz-Signature=x1y2z3&a=1',
    'https://example.org/?client_secret=x1y2z3#end',
    'GET /cb?code=x1y2z3 failed',
    'Authorization: Bearer x1y2z3x1y2z3',
    'header basic bWU6eDF5Mno0ejU2Nzg5',
    `ghs_${'x1y2z3'.repeat(6)}`,
    `github_pat_${'x1y2z3'.repeat(6)}`,
    `swarm_${'x1y2z3'.repeat(7)}`,
    `eyJhbGciOiJSUzI1NiJ9.${'x1y2z3'.repeat(3)}.${'x1y2z3'.repeat(3)}`,
    `-----BEGIN PRIVATE KEY-----\n${'x1y2z3'.repeat(9)}\n-----END PRIVATE KEY-----`,
    `-----BEGIN PRIVATE KEY-----\n${'x1y2z3'.repeat(9)}`,
  ])('is hidden by its shape: %s', text => {
    openLog('info').info({ in: { a: [text] } }, text)
    expect(() => JSON.parse(written())).not.toThrow()
    expect(written()).not.toMatch(/x1y2z3|bWU6eDF5/)
    expect(written()).toContain('[redacted]')
  })
})

test('another key is hidden beside our own, which has the same first line', () => {
  openLog('info', [KEY]).info(`-----BEGIN RSA PRIVATE KEY-----\nx1y2z3\n-----END RSA PRIVATE KEY-----\nand ${KEY}`)
  expect(written()).not.toMatch(/x1y2z3|MIIEow/)
})

test.for([
  [
    'a text that ends within a key',
    `it printed\n-----BEGIN PRIVATE KEY-----\nx1y2z3\nx1y2z3`,
    'it printed\n[redacted]',
  ],
  ['a secret in a text of several lines', 'one\nx1y2z3\ntwo', 'one\n[redacted]\ntwo'],
] as const)('%s, outside of a log', ([, text, clean]) => expect(openHide(['x1y2z3'])(text)).toBe(clean))

test('no payload is written, and lines are short', () => {
  const log = openLog('info')
  log.info({ body: '{"a":1}', payload: { a: 1 }, request: { url: 'https://x/' }, response: { data: 1 } }, 'x')
  expect(JSON.parse(written())).toMatchObject({
    body: '[left out]',
    payload: '[left out]',
    request: '[left out]',
    response: '[left out]',
  })
  lines = []
  log.info({ long: 'x'.repeat(1e6), many: Array.from({ length: 1e4 }, () => 'x'.repeat(100)) }, 'y'.repeat(1e6))
  const wide = (levels: number): unknown =>
    levels === 0 ? 'x'.repeat(20) : Array.from({ length: 90 }, () => wide(levels - 1))
  log.info({ wide: wide(3) })
  expect(lines).toHaveLength(2)
  for (const line of lines) expect(line.length).toBeLessThan(30_000)
})

test('everything else is written as it is', () => {
  const err = fail('timeout', 'asking GitHub: no answer', 'Try again.', new Error('ECONNRESET'))
  openLog('info')
    .child({ correlation: 'abc', ticket: 'DROP-1' })
    .warn(
      { err, attempt: 3, url: 'https://api.github.com/repos/a/b?page=2', at: new Date(0), none: null },
      'a message waits',
    )
  expect(JSON.parse(written())).toMatchObject({
    level: 40,
    correlation: 'abc',
    ticket: 'DROP-1',
    attempt: 3,
    url: 'https://api.github.com/repos/a/b?page=2',
    at: '1970-01-01T00:00:00.000Z',
    none: null,
    err: {
      kind: 'timeout',
      message: 'asking GitHub: no answer',
      remedy: 'Try again.',
      stack: expect.stringContaining('log.test'),
      cause: { message: 'ECONNRESET' },
    },
    msg: 'a message waits',
  })
})

// A pattern that backtracks on one of these would not end before the test's deadline.
test('hostile text takes no more time than its length', () => {
  for (const text of [
    'a://'.repeat(5e4),
    '?key'.repeat(5e4),
    'bearer '.repeat(3e4),
    'eyJ'.repeat(6e4),
    '-----BEGIN PRIVATE KEY-----'.repeat(8e3),
  ])
    openLog('info').info(text)
  expect(lines).toHaveLength(5)
})

describe('on a terminal', () => {
  const shown = (write: (log: Log) => void) => {
    write(openLog('info', ['123456']))
    return stripVTControlCharacters(readable(lines.at(-1) ?? ''))
  }
  test('a line is for people: without ids and stacks, with its subject', () => {
    expect(
      shown(log => log.info({ correlation: 'x', ticket: 'DROP-1', tickets: ['A-1'], actions: [] }, 'begins')),
    ).toMatch(/^\d\d:\d\d:\d\d begins ticket=DROP-1 tickets=\["A-1"\]\n$/)
    expect(shown(log => log.error({ err: fail('network', 'no route', 'Wait.') }, 'polling'))).toMatch(
      /^\S+ error polling kind=network message=no route remedy=Wait\.\n$/,
    )
  })
  test('outside text moves no cursor and starts no line', () => {
    const hostile = 'a\u001b[2Jb\nc\u202ed'
    expect(
      readable(JSON.stringify({ level: 30, time: '2026-01-01T00:00:00Z', msg: hostile, branch: hostile })),
    ).toMatch(/^\S+ a \[2Jb c d \S*branch=a \[2Jb c d\S*\n$/)
  })
  test('a line in which a number was a secret is still written', () => {
    expect(shown(log => log.info({ n: 123456 }, 'x'))).toMatch(/^\d\d:\d\d:\d\d \{.*"n":\[redacted\].*\}\n$/)
  })
})

test('a line of JSON moves no cursor and hides nothing, and its values are whole', () => {
  const hostile = 'a\u009b2J\u007f\u202eb\u2028\u{e0001}c'
  openLog('info').info({ branch: hostile }, hostile)
  expect(written()).toMatch(/^[\x20-\x7e]+\n$/)
  expect(JSON.parse(written())).toMatchObject({ branch: hostile, msg: hostile })
})
