/** A bot as a process of its own, and everything that GitHub is known to send, with everything that could be wrong in it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import examples from '@octokit/webhooks-examples' with { type: 'json' }
import { afterAll, beforeAll, expect, test } from 'vitest'
import { compiled } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { until } from '../support/wait.ts'
import { environmentOf } from './stage.ts'

type Payload = Record<string, unknown>
type Sent = { event: string; payload: Payload }
const recorded: Sent[] = (examples as unknown as { name: string; examples: Payload[] }[]).flatMap(
  ({ name, examples }) => examples.map(payload => ({ event: name, payload })),
)
/** A push has no action, whatever its payload says. */
const nameOf = ({ event, payload }: Sent) =>
  typeof payload.action === 'string' && event !== 'push' ? `${event} ${payload.action}` : event

const MUTATIONS = 1_000
const TOKEN = 'token-between-runner-and-bot'
let home: string
let github: GitHubStandIn
let bot: ChildProcess
let url: string
let said = ''
let db: DatabaseSync
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-payloads-'))
  github = await startGitHub()
  // DROP-1 runs and has an open pull request, DROP-2 is stopped and has one, the one of DROP-3 is merged.
  for (const [n, branch] of ['drop-1', 'drop-2', 'drop-3'].entries()) {
    await github.push(branch)
    expect(await github.open(branch, branch)).toBe(n + 1)
  }
  await github.merge(3)
  bot = spawn(process.execPath, [resolve(import.meta.dirname, '../../bin/agent-swarm.js'), 'bot'], {
    env: {
      PATH: process.env.PATH,
      HOME: home,
      AGENT_SWARM_HOME: home,
      ...compiled,
      ...github.settings,
      JIRA_PROJECTS: 'DROP',
      AGENT_SWARM_RUNNER_TOKEN: TOKEN,
      PORT: '0',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  bot.stderr?.on('data', chunk => {
    said += chunk
  })
  url = await until('the bot', () => said.match(/listens on (http:\S+)/)?.[1], { within: 60_000 })
  github.sendTo(url)
  db = new DatabaseSync(join(home, 'bot.db'), { readOnly: true })
  await fetch(`${url}/runner/v1/heartbeat`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      runnerId: 'runner-1',
      host: 'studio',
      version: '0.1.0',
      providers: [{ name: 'synthetic', live: true }],
      environments: [environmentOf('DROP-1'), environmentOf('DROP-2', { status: 'stopped' }), environmentOf('DROP-3')],
    }),
  })
}, 90_000)
afterAll(async () => {
  db.close()
  bot.kill('SIGKILL')
  await github.stop()
  rmSync(home, { recursive: true, force: true })
})

/** Sends all, some at a time, and waits until each is decided or postponed. Returns each id with what was sent. */
const send = async (all: readonly (Sent | { event: string; payload: Buffer })[]): Promise<Map<string, Sent>> => {
  const sent = new Map<string, Sent>()
  const statuses = new Set<number>()
  const waiting = all.values()
  const worker = async () => {
    for (const { event, payload } of waiting) {
      const id = randomUUID()
      sent.set(id, { event, payload: Buffer.isBuffer(payload) ? {} : payload })
      statuses.add(await github.deliverBroken(event, payload, id))
    }
  }
  await Promise.all(Array.from({ length: 16 }, worker))
  expect([...statuses]).toEqual([202])
  await until('all to be decided', () => undecided().every(one => one.attempt > 0), { within: 120_000 })
  return sent
}
const undecided = () =>
  db.prepare('select id, event, reason, attempt from delivery where verdict is null').all() as {
    id: string
    event: string
    reason: string | null
    attempt: number
  }[]
/** What was made of the deliveries: `push checkpoint DROP-1`. */
const made = (sent: Map<string, Sent>): string[] => {
  const rows = db.prepare('select correlation, kind, ticket from action').all() as Record<string, string>[]
  const found = rows.flatMap(({ correlation, kind, ticket }) => {
    const one = sent.get(correlation ?? '')
    return one === undefined ? [] : [`${nameOf(one)}: ${kind} ${ticket}`]
  })
  return [...new Set(found)].sort()
}
const lives = async () => {
  expect((await fetch(`${url}/healthz`)).status).toBe(200)
  expect(bot.exitCode ?? bot.signalCode).toBeNull()
  expect(said.split('\n').filter(line => /"level":(50|60)|^\S*Error|UnhandledPromise/.test(line))).toEqual([])
}

test('what others recorded of GitHub makes nothing happen where no ticket is named', async () => {
  expect(recorded.length).toBeGreaterThan(300)
  expect(made(await send(recorded))).toEqual([])
  expect(undecided()).toEqual([])
  await lives()
}, 180_000)

/** All that names a branch, a title, a text, a person or a repository names one that means something here. */
const tempting = ({ event, payload }: Sent): Sent => {
  const number = event !== 'pull_request' ? 1 : payload.action === 'closed' ? 3 : 2
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, held]) => {
        if (name === 'full_name') return [name, github.repo]
        if (name === 'login') return [name, 'dev']
        if (name === 'number') return [name, number]
        if (typeof held !== 'string') return [name, walk(held)]
        if (name === 'ref') return [name, held.replace(/^(refs\/heads\/|(?!refs\/)).*/, `$1drop-${number}`)]
        if (name === 'title') return [name, `DROP-${number}`]
        return [name, name === 'body' ? '/swarm checkpoint' : held]
      }),
    )
  }
  const tempted = walk(payload) as Payload & { issue?: object }
  const issue = tempted.issue === undefined ? {} : { issue: { ...tempted.issue, pull_request: { url: 'https://x' } } }
  return { event, payload: { ...tempted, ...issue, installation: { id: github.app.installation } } }
}
/** Of all events, and of their actions, these ask for something. */
const EXPECTED = [
  'issue_comment created: checkpoint DROP-1',
  'pull_request closed: delete DROP-3',
  'pull_request reopened: start DROP-2',
  'push: checkpoint DROP-1',
]

test('where all of them name a ticket, only a push, a reopening, a merge and a new comment do something', async () => {
  expect(made(await send(recorded.map(tempting)))).toEqual(EXPECTED)
  expect(undecided()).toEqual([])
  await lives()
}, 180_000)

/** mulberry32: the same each time. */
const randomFrom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}
const nested = (levels: number): unknown => (levels === 0 ? null : [nested(levels - 1)])
/** What is put in the place of a value; null: it is left out. */
const wrong: readonly ((value: unknown) => unknown)[] = [
  () => undefined,
  () => null,
  value => (typeof value === 'number' ? String(value) : 7),
  value => [value],
  value => ({ ...Object(value), extra: value }),
  () => true,
  () => '',
  () => -1,
  () => 0.5,
  () => 2 ** 53,
  () => 1e308,
  () => 'x'.repeat(100_000),
  () => nested(1_000),
  () => '\u0000\ud800 \u202e DROP-1 \u{1f600} \n\r\u2028',
  () => '../../etc/passwd?a=b#c',
  () => JSON.parse('{"__proto__": {"login": "dev"}, "constructor": {"prototype": 1}, "toString": "x", "length": 1e9}'),
  () => '__proto__',
  () => 'constructor',
]
/** What the bot reads of payloads: half of all that is broken is one of these. */
const READ = [
  'action',
  ...['ref', 'after', 'deleted', 'sender', 'sender.login', 'installation', 'installation.id'],
  ...['repository', 'repository.full_name', 'repository.default_branch'],
  ...['pull_request', 'pull_request.number', 'pull_request.title', 'pull_request.body', 'pull_request.updated_at'],
  ...['pull_request.head', 'pull_request.head.ref', 'pull_request.head.repo', 'pull_request.head.repo.full_name'],
  ...['issue', 'issue.number', 'issue.pull_request', 'comment', 'comment.id', 'comment.body', 'comment.created_at'],
  ...['comment.user', 'comment.user.login', 'comment.user.type', 'comment.performed_via_github_app'],
].map(path => path.split('.'))

test('a thousand broken ones harm nobody, and do nothing that those which are whole do not', async () => {
  const random = randomFrom(20_261_127)
  const pick = <T>(all: readonly T[]): T => all[random(all.length)] as T
  const bases = recorded.map(tempting)
  const heard = bases.filter(one => ['push', 'pull_request', 'issue_comment'].includes(one.event))
  const actions = [...new Set(recorded.map(one => one.payload.action))]
  const broken = Array.from({ length: MUTATIONS }, (_, n): Sent => {
    const { event, payload } = structuredClone(pick(random(2) === 0 ? heard : bases))
    // The same comment asks for the same thing only once.
    if (payload.comment !== undefined) Object.assign(payload.comment as object, { id: 1_000_000 + n })
    for (let times = 1 + random(3); times > 0; times -= 1) {
      if (random(10) === 0) payload.action = pick(actions)
      const path = random(2) === 0 ? pick(READ) : null
      let at: Payload = payload
      for (let depth = 0; ; depth += 1) {
        const key = path === null ? pick(Object.keys(at)) : path[depth]
        const inside = key === undefined ? undefined : at[key]
        const last = path === null ? random(3) === 0 : depth === path.length - 1
        if (
          key !== undefined &&
          (last || typeof inside !== 'object' || inside === null || Object.keys(inside).length === 0)
        ) {
          at[key] = pick(wrong)(inside)
          break
        }
        if (key === undefined) break
        at = inside as Payload
      }
    }
    return { event: random(20) === 0 ? pick(heard).event : event, payload }
  })
  // The machine of DROP-3 is being deleted, and that of DROP-2 started, since they were asked for.
  expect(made(await send(broken))).toEqual(['issue_comment created: checkpoint DROP-1', 'push: checkpoint DROP-1'])
  expect(undecided()).toEqual([])
  await lives()
}, 180_000)

test.for<[string, string, Buffer]>([
  [
    'no UTF-8',
    'push',
    Buffer.concat([Buffer.from('{"ref":"refs/heads/drop-1'), Buffer.from([0xff, 0xc0]), Buffer.from('"}')]),
  ],
  ['a name twice', 'issue_comment', Buffer.from('{"action":"deleted","action":"created","issue":{},"issue":null}')],
  ['names that objects inherit', 'pull_request', Buffer.from('{"__proto__":{"action":"closed"},"constructor":1}')],
  ['lists in lists', 'push', Buffer.from(`{"ref":${'['.repeat(200_000)}${']'.repeat(200_000)}}`)],
  ['objects in objects', 'pull_request', Buffer.from(`${'{"action":'.repeat(100_000)}1${'}'.repeat(100_000)}`)],
  [
    'a number without end',
    'issue_comment',
    Buffer.from(`{"action":"created","issue":{"number":${'9'.repeat(500_000)}}}`),
  ],
  ['nearly 25 MB', 'push', Buffer.from(`{"ref":"refs/heads/drop-1","x":"${'x'.repeat(25e6)}"}`)],
])('%s is taken, and means nothing', async ([, event, payload]) => {
  expect(made(await send([{ event, payload }]))).toEqual([])
  expect(undecided()).toEqual([])
  await lives()
})

/** What the bot's process holds, in MiB. */
const resident = () => Number(execFileSync('ps', ['-o', 'rss=', '-p', String(bot.pid)])) / 1024
const HEAD =
  'POST /api/github/webhooks HTTP/1.1\r\nhost: bot\r\ncontent-type: application/json\r\nx-hub-signature-256: 0\r\n'

test('strangers who send slowly, much, in crumbs and without end take little memory, and nobody waits for them', async () => {
  const before = resident()
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
  await until(
    'all that is wanted of them to be read',
    () => strangers.every(socket => socket.destroyed || socket.writableLength === 0),
    { within: 90_000 },
  )
  expect(made(await send([{ event: 'push', payload: { ref: 'x' } }]))).toEqual([])
  await lives()
  // 128 MiB for large ones, 64 KiB for each small one, and what the collector has not seen yet.
  expect(resident() - before).toBeLessThan(450)
  for (const socket of strangers) socket.destroy()
}, 120_000)
