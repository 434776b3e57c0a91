/** A bot as a process of its own: what bursts of deliveries that mean something leave in its memory. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Lease } from '../../src/schema/runner-protocol.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { environmentOf, heartbeatOf, offer } from '../store/fixtures.ts'
import { compiled } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { recorded, tempting } from '../support/payload-mutations.ts'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'

const TOKEN = 'token-between-runner-and-bot'
const DELIVERIES = isLong ? 10_000 : 60
const BURSTS = 4
/** As many as the inbox decides at once. */
const TICKETS = Array.from({ length: 8 }, (_, n) => `DROP-${n + 1}`)
const WITHIN = { within: 15 * 60_000, every: 100 }

let home: string
let github: GitHubStandIn
let bot: ChildProcess
let url: string
let output = ''
let store: Store
let inspector: WebSocket
const runner = (path: string, body: unknown): Promise<Response> =>
  fetch(`${url}/runner/v1/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-bursts-'))
  github = await startGitHub()
  bot = spawn(
    process.execPath,
    ['--inspect=127.0.0.1:0', resolve(import.meta.dirname, '../../bin/agent-swarm.js'), 'bot'],
    {
      env: {
        ...{ PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, ...compiled, ...github.settings },
        ...{ JIRA_PROJECTS: 'DROP', AGENT_SWARM_RUNNER_TOKEN: TOKEN, PORT: '0', LOG_LEVEL: 'warn' },
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  bot.stderr?.on('data', chunk => {
    output += chunk
  })
  url = await until('the bot', () => output.match(/listens on (http:\S+)/)?.[1])
  github.sendTo(url)
  store = openStore(join(home, 'bot.db'), Date.now)
  inspector = new WebSocket(output.match(/ws:\S+/)?.[0] ?? '')
  await new Promise(opened => {
    inspector.onopen = opened
  })
  await runner('heartbeat', heartbeatOf(TICKETS.map(ticket => environmentOf(ticket))))
})
afterAll(async () => {
  inspector?.close()
  await store?.close()
  bot?.kill('SIGKILL')
  await github?.stop()
  rmSync(home, { recursive: true, force: true })
})

let questions = 0
const ask = (method: string): Promise<Record<string, number>> => {
  questions += 1
  const id = questions
  return new Promise(answer => {
    inspector.addEventListener('message', ({ data }) => {
      const message = JSON.parse(String(data))
      if (message.id === id) answer(message.result)
    })
    inspector.send(JSON.stringify({ id, method }))
  })
}
/** Bytes of the heap and its buffers that are in use after a collection. */
const heap = async (): Promise<number> => {
  for (const _ of [1, 2]) await ask('HeapProfiler.collectGarbage')
  const { usedSize = 0, backingStorageSize = 0 } = await ask('Runtime.getHeapUsage')
  return usedSize + backingStorageSize
}

/** Takes work and ends it, until `isOver`. */
const work = async (isOver: () => boolean): Promise<void> => {
  while (!isOver()) {
    const response = await runner('acquire', { runnerId: 'runner-1', offer, slots: 4 })
    if (response.status !== 200) continue
    const { id, token, action } = (await response.json()) as Lease
    const environment = environmentOf(action.ticket, { observedAt: new Date().toISOString() })
    await runner('complete', { id, token, outcome: { result: 'done', summary: 'kept', environment, seconds: 1 } })
  }
}
const burst = async (): Promise<void> => {
  const [first = { event: 'push', payload: {} }] = recorded.filter(({ event }) => event === 'push')
  const push = tempting(first, github.repo, github.app.installation)
  // The repository that GitHub knows by this name: of another one, the bot would ask for its name at each delivery.
  const { id } = await github.api('dev', 'GET', `/repos/${github.repo}`)
  let sent = 0
  const send = async (): Promise<void> => {
    while (sent < DELIVERIES) {
      const ticket = TICKETS[sent % TICKETS.length] ?? ''
      sent += 1
      const after = createHash('sha1').update(randomUUID()).digest('hex')
      const repository = { ...(push.payload as { repository: object }).repository, id }
      const ref = `refs/heads/${ticket.toLowerCase()}-x`
      const payload = { ...push.payload, repository, ref, after, deleted: false }
      expect(await github.deliverBroken('push', payload, randomUUID())).toBe(202)
    }
  }
  await Promise.all(Array.from({ length: 8 }, send))
  await until(
    'the end of the burst',
    async () => {
      const { inbox, pending, active } = await store.counts()
      return inbox + pending + active === 0
    },
    WITHIN,
  )
}

test(
  'memory is flat from the second burst on',
  async () => {
    let isOver = false
    const working = Promise.all(Array.from({ length: 4 }, () => work(() => isOver)))
    const used: number[] = []
    for (let n = 0; n < BURSTS; n += 1) {
      await burst()
      used.push(await heap())
    }
    isOver = true
    bot.kill('SIGTERM')
    await working.catch(() => {})
    const { verdict } = (await store.inbox.list([], 1))[0] ?? {}
    expect(verdict).toBe('actions')
    // None for each delivery.
    expect(github.requests.length).toBeLessThan((DELIVERIES * BURSTS) / 2)
    const [, second = 0, , last = 0] = used
    expect(last / second, used.map(bytes => `${(bytes / 1024 / 1024).toFixed(1)} MiB`).join(', ')).toBeLessThan(1.1)
  },
  WITHIN.within * BURSTS,
)
