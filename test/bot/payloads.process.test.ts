/** A bot as a process of its own: bodies that no parser likes, and strangers who send slowly, much and without end. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { environmentOf, heartbeatOf } from '../store/fixtures.ts'
import { compiled } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { recorded, tempting } from '../support/payload-mutations.ts'
import { until } from '../support/wait.ts'

const TOKEN = 'token-between-runner-and-bot'
let home: string
let github: GitHubStandIn
let bot: ChildProcess
let url: string
let output = ''
let store: Store
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-payloads-'))
  github = await startGitHub()
  await github.push('drop-1')
  await github.open('drop-1', 'drop-1')
  bot = spawn(process.execPath, [resolve(import.meta.dirname, '../../bin/agent-swarm.js'), 'bot'], {
    env: {
      ...{ PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, ...compiled, ...github.settings },
      ...{ JIRA_PROJECTS: 'DROP', AGENT_SWARM_RUNNER_TOKEN: TOKEN, PORT: '0' },
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  bot.stderr?.on('data', chunk => {
    output += chunk
  })
  url = await until('the bot', () => output.match(/listens on (http:\S+)/)?.[1])
  github.sendTo(url)
  store = openStore(join(home, 'bot.db'), Date.now)
  await fetch(`${url}/runner/v1/heartbeat`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify(heartbeatOf([environmentOf('DROP-1')])),
  })
})
afterAll(async () => {
  await store?.close()
  bot?.kill('SIGKILL')
  await github?.stop()
  rmSync(home, { recursive: true, force: true })
})

/** Sends a body, and returns the actions that it leads to when it is decided. */
const effectsOf = async (event: string, payload: Buffer | Record<string, unknown>): Promise<string[]> => {
  const id = randomUUID()
  expect(await github.deliverBroken(event, payload, id)).toBe(202)
  await until('its decision', async () => (await store.counts()).inbox === 0)
  const [row] = await store.inbox.list([{ word: id, lanes: [] }], 1)
  expect(row?.verdict).toMatch(/actions|ignored/)
  return row?.actions.map(({ kind, ticket }) => `${kind} ${ticket}`) ?? []
}
const isAlive = async () => {
  expect((await fetch(`${url}/healthz`)).status).toBe(200)
  expect(bot.exitCode ?? bot.signalCode).toBeNull()
  expect(output.split('\n').filter(line => /"level":(50|60)|^\S*Error|UnhandledPromise/.test(line))).toEqual([])
}

test('a recorded payload takes effect over HTTP', async () => {
  const push = recorded.find(
    ({ event, payload }) => event === 'push' && String(payload.ref).startsWith('refs/heads/') && !payload.deleted,
  )
  if (push === undefined) return expect.fail('there is no recorded push')
  const { event, payload } = tempting(push, github.repo, github.app.installation)
  expect(await effectsOf(event, payload)).toEqual(['checkpoint DROP-1'])
})

test.for<[string, string, Buffer]>([
  [
    'a body that is not UTF-8',
    'push',
    Buffer.concat([Buffer.from('{"ref":"refs/heads/drop-1'), Buffer.from([0xff, 0xc0]), Buffer.from('"}')]),
  ],
  ['a name twice', 'issue_comment', Buffer.from('{"action":"deleted","action":"created","issue":{},"issue":null}')],
  ['names of inherited members', 'pull_request', Buffer.from('{"__proto__":{"action":"closed"},"constructor":1}')],
  ['lists in lists', 'push', Buffer.from(`{"ref":${'['.repeat(200_000)}${']'.repeat(200_000)}}`)],
  ['objects in objects', 'pull_request', Buffer.from(`${'{"action":'.repeat(100_000)}1${'}'.repeat(100_000)}`)],
  ['an endless number', 'issue_comment', Buffer.from(`{"action":"created","issue":{"number":${'9'.repeat(500_000)}}}`)],
  ['nearly 25 MB', 'push', Buffer.from(`{"ref":"refs/heads/drop-1","x":"${'x'.repeat(25e6)}"}`)],
])('%s is accepted, and does nothing', async ([, event, payload]) => {
  expect(await effectsOf(event, payload)).toEqual([])
  await isAlive()
})

/** The memory of the bot's process, in MiB. */
const residentMiB = () => Number(execFileSync('ps', ['-o', 'rss=', '-p', String(bot.pid)])) / 1024
const HEAD =
  'POST /api/github/webhooks HTTP/1.1\r\nhost: bot\r\ncontent-type: application/json\r\nx-hub-signature-256: 0\r\n'

test('strangers who send slowly, much, in small pieces and without end take little memory, and block nobody', async () => {
  const before = residentMiB()
  const { port } = new URL(url)
  const strangers = Array.from({ length: 380 }, (_, n) => {
    const socket = connect(Number(port), '127.0.0.1')
    // Those who are refused are cut off.
    socket.on('error', () => {})
    socket.resume()
    if (n < 340) {
      socket.write(`${HEAD}content-length: 20000000\r\n\r\n`)
      socket.write(Buffer.alloc(40_000, 32))
    } else if (n < 376) {
      socket.write(`${HEAD}content-length: 20000000\r\n\r\n`)
      socket.write(Buffer.alloc(10_000_000, 32))
    } else {
      socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n`)
      socket.write('1\r\n \r\n'.repeat(250_000))
    }
    return socket
  })
  await until('everything that the bot wants of them to be read', () =>
    strangers.every(socket => socket.destroyed || socket.writableLength === 0),
  )
  expect(await effectsOf('push', { ref: 'x' })).toEqual([])
  await isAlive()
  // 128 MiB for large bodies, 64 KiB for each small one, and what is not collected yet.
  expect(residentMiB() - before).toBeLessThan(450)
  for (const socket of strangers) socket.destroy()
})
