/** The runner against a bot that answers as the test says. */
import { createHook } from 'node:async_hooks'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { StatementSync } from 'node:sqlite'
import { text } from 'node:stream/consumers'
import { pino } from 'pino'
import { parse } from 'valibot'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { homeId } from '../../src/config/home.ts'
import { type Log, openLog } from '../../src/log.ts'
import { NEW_PROGRESS } from '../../src/registry/agents.ts'
import { tryRunnerLock } from '../../src/registry/lock.ts'
import { openRegistry } from '../../src/registry/registry.ts'
import { type Runner, startRunner } from '../../src/runner/runner.ts'
import type { Action } from '../../src/schema/action.ts'
import { acquireRequest, completeRequest, failRequest, heartbeatRequest } from '../../src/schema/runner-protocol.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'
import { until } from '../support/wait.ts'

type Received = { path: string; body: unknown; authorization: string | undefined }
let it: TestContext
let server: Server
let runner: Runner | null
/** What the bot hands out, one at a time. */
let leases: unknown[]
let received: Received[]
/** The bot answers a request for this path with this status. */
let problem: { path: string; status: number; body?: unknown } | null
/** The bot's answer to a heartbeat. */
let waiting: unknown
/** The bot says that it recorded the heartbeat. */
let isRecording: boolean
/** The bot has no work: it keeps the request for it open. */
let isIdle: boolean
let onHeartbeat: () => void

const of = (path: string) => received.filter(request => request.path === path).map(({ body }) => body)

beforeEach(async () => {
  it = await openTestContext()
  runner = null
  leases = []
  received = []
  problem = null
  waiting = null
  isRecording = false
  isIdle = false
  onHeartbeat = () => {}
  server = createServer(async (request, response) => {
    const path = request.url?.replace('/runner/v1/', '') ?? ''
    const body: unknown = JSON.parse(await text(request))
    received.push({ path, body, authorization: request.headers.authorization })
    const answer = (status: number, value?: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(value === undefined ? undefined : JSON.stringify(value))
    }
    if (problem?.path === path) return answer(problem.status, problem.body)
    if (path === 'complete' || path === 'fail' || path === 'renew') return answer(200, { lease: 'ok' })
    if (path === 'heartbeat') onHeartbeat()
    if (path === 'heartbeat' && isRecording)
      return answer(200, { waiting: [], recorded: parse(heartbeatRequest, body).id })
    if (path === 'heartbeat') return waiting === null ? answer(204) : answer(200, waiting)
    const lease = leases.shift()
    if (lease !== undefined) return answer(200, lease)
    if (isIdle) return
    // An idle bot keeps the request open.
    setTimeout(() => answer(204), 100)
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
})
afterEach(async () => {
  await runner?.close()
  server.closeAllConnections()
  server.close()
  it.close()
})

const start = async (log: Log = openLog('silent')) => {
  const { port } = server.address() as AddressInfo
  runner = await startRunner(it.context, {
    ...{ botUrl: `http://127.0.0.1:${port}`, token: 'a-token-for-tests', version: '1.2.3', log },
  })
}
const leaseOf = (action: Action | Record<string, unknown>, id = 'jira:1:0') => ({
  ...{ id, correlation: 'correlation', action, attempt: 1, token: 'fence' },
})
const queued = (action: Action): Action => ({ ...action, by: { via: 'jira', who: 'dev' } })

test('it claims with its offer, does the work, and reports the outcome', async () => {
  leases = [leaseOf(queued(actions.create('DROP-1')))]
  await start()
  const [completed] = await until('the outcome', () => (of('complete').length > 0 ? of('complete') : null))
  expect(parse(completeRequest, completed)).toMatchObject({
    ...{ id: 'jira:1:0', token: 'fence' },
    outcome: { result: 'done', environment: { ticket: 'DROP-1', status: 'running' } },
  })
  expect(parse(acquireRequest, of('acquire')[0])).toMatchObject({
    runnerId: it.context.registry.runnerId(),
    offer: { defaults: { provider: 'synthetic', baseImage: 'agent-swarm-base' } },
  })
  expect(received.every(({ authorization }) => authorization === 'Bearer a-token-for-tests')).toBe(true)
})

test('a runner that starts while an agent is at work looks after it without a complaint', async () => {
  await it.do(actions.create('DROP-1'))
  it.context.registry.setAgent('DROP-1', {
    ...{ use: 'claude', run: '0123abcd', state: 'running', startedAt: null, endedAt: null, result: null },
    ...{ reason: null, summary: null, turns: 0, tokens: 0, usd: null, rounds: 0, pullRequest: 'draft', workedMs: 0 },
    ...{ task: { summary: '', description: '', acceptance: '' }, session: null, progress: NEW_PROGRESS },
  })
  const lines: string[] = []
  await start(openLog('warn', [], line => `${lines.push(line)}`))
  await until('a heartbeat', () => of('heartbeat').length > 0)
  expect(lines).toEqual([])
})

test('a heartbeat has the environments, what people did by the CLI, and the offer', async () => {
  await it.do(actions.create('DROP-1'))
  await start()
  const [heartbeat] = await until('a heartbeat', () => (of('heartbeat').length > 0 ? of('heartbeat') : null))
  expect(parse(heartbeatRequest, heartbeat)).toMatchObject({
    version: '1.2.3',
    environments: [{ ticket: 'DROP-1', status: 'running' }],
    manualOperations: [{ ticket: 'DROP-1', kind: 'create', by: { via: 'cli', who: 'tester' } }],
    offer: { providers: expect.arrayContaining([expect.objectContaining({ name: 'synthetic', live: true })]) },
  })
})

test('it holds the registry while it runs, so that nobody replaces it', async () => {
  await start()
  expect(tryRunnerLock(it.context.home)).toBeNull()
  await runner?.close()
  const release = tryRunnerLock(it.context.home)
  expect(release).not.toBeNull()
  release?.()
})

test('a heartbeat has what changed since the one that the bot recorded; when it recorded none, all of it', async () => {
  for (let n = 1; n <= 30; n += 1) await it.do(actions.create(`DROP-${n}`))
  isRecording = true
  await start()
  const beats = () => of('heartbeat').map(body => parse(heartbeatRequest, body))
  const next = (what: string) => {
    const count = beats().length
    return until(what, () => beats()[count], { within: 20_000 })
  }
  const first = await until('a full one', () => beats()[0])
  expect(first.environments).toHaveLength(30)
  const unchanged = await next('a partial one')
  expect(unchanged).toMatchObject({
    changes: { follows: first.id, changed: [], gone: [] },
    manualOperations: [],
  })
  expect(Buffer.byteLength(JSON.stringify(unchanged))).toBeLessThan(2_048)
  const vmId = it.context.registry.environment('DROP-2')?.vmId
  leases = [leaseOf(queued(actions.stop('DROP-1'))), leaseOf(queued(actions.delete('DROP-2')), 'jira:1:1')]
  await until('the change', () =>
    beats().some(({ changes }) =>
      changes?.changed.some(({ ticket, status }) => ticket === 'DROP-1' && status === 'stopped'),
    ),
  )
  await until(
    'the name of what is gone, twice',
    () =>
      beats().filter(({ changes }) => changes?.gone.some(gone => gone.ticket === 'DROP-2' && gone.vmId === vmId))
        .length > 1,
    { within: 20_000 },
  )
  isRecording = false
  const full = await until(
    'all of it',
    () => {
      const last = beats().at(-1)
      return last?.environments === undefined ? null : last
    },
    { within: 20_000 },
  )
  expect(full.environments).toHaveLength(29)
  expect(full.manualOperations).not.toEqual([])
})

/** Machines that run, without the time that creating them takes. */
const adopt = async (count: number): Promise<void> => {
  const marks = join(it.home, 'synthetic-state')
  mkdirSync(marks, { recursive: true })
  const id = await homeId(it.home)
  for (let n = 1; n <= count; n += 1) {
    const [ticket, vmId] = [`DROP-${n}`, `as-drop-${n}-00000001`]
    writeFileSync(join(marks, `${vmId}.${ticket}.${id}.running`), '')
    it.context.registry.adopt({ ticket, provider: 'synthetic', vmId, baseImage: 'base', status: 'running' })
  }
}
/** What an idle runner does from one heartbeat to the next: timers, statements of SQLite, and lists of machines. */
const idleWork = async (machines: number) => {
  await adopt(machines)
  isRecording = true
  isIdle = true
  const work = { timers: 0, statements: 0, lists: 0 }
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: () => {
      work.lists += 1
      return provider.listVms()
    },
  }))
  let beats = 0
  const beat = Promise.withResolvers<void>()
  const settled = Promise.withResolvers<void>()
  onHeartbeat = () => {
    beats += 1
    // The first ones have what it knew, what the hypervisor had, and once more what both know.
    if (beats === 3) settled.resolve()
    if (beats === 4) beat.resolve()
  }
  await start()
  await settled.promise
  const timers = createHook({
    init: (_id, type) => {
      if (type === 'Timeout') work.timers += 1
    },
  })
  const { all, get, run } = StatementSync.prototype
  const counted = (method: (...values: never[]) => unknown) =>
    function (this: StatementSync, ...values: never[]) {
      work.statements += 1
      return method.apply(this, values)
    }
  Object.assign(work, { timers: 0, statements: 0, lists: 0 })
  Object.assign(StatementSync.prototype, {
    ...{ all: counted(all as never), get: counted(get as never), run: counted(run as never) },
  })
  timers.enable()
  try {
    await beat.promise
  } finally {
    timers.disable()
    Object.assign(StatementSync.prototype, { all, get, run })
  }
  return work
}

test('an idle runner with 500 machines asks no hypervisor, and hardly does anything', async () => {
  const { timers, statements, lists } = await idleWork(500)
  expect(lists).toBe(0)
  // One heartbeat: it has a timer, a deadline, and a few of the connection. A look each half second would be 20 more.
  expect(timers).toBeLessThan(12)
  expect(statements).toBeLessThan(6)
})

test('it ends what was left in machines when it starts, and waits for no hypervisor with it', async () => {
  await it.do(actions.create('DROP-1'))
  let settled = 0
  wrapProviders(it.context, provider => ({
    ...provider,
    settle: () => {
      settled += 1
      return new Promise(() => {})
    },
  }))
  isRecording = true
  await start()
  await until('a heartbeat', () => of('heartbeat').length > 0)
  expect(settled).toBe(1)
})

test('a hypervisor that hangs delays no heartbeat: it has what the registry knows, and says how old that is', async () => {
  await it.do(actions.create('DROP-1'))
  const { promise, resolve } = Promise.withResolvers<never[]>()
  wrapProviders(it.context, provider => ({ ...provider, listVms: () => promise }))
  isRecording = true
  await start()
  const beats = () => of('heartbeat').map(body => parse(heartbeatRequest, body))
  const [first] = await until('a heartbeat', () => (beats().length > 0 ? beats() : null))
  const row = it.context.registry.environment('DROP-1')
  expect(first?.environments).toMatchObject([{ ticket: 'DROP-1', status: 'running', observedAt: row?.createdAt }])
  it.context.registry.setStatus('DROP-1', 'stopped')
  const other = openRegistry(join(it.home, 'registry.db'))
  other.setSshConfig({ folder: '/home/dev/.ssh', made: [] })
  other.close()
  await until('the change', () => beats().some(({ changes }) => changes?.changed[0]?.status === 'stopped'))
  resolve([])
})

test('what the hypervisor has is sent once it has answered', async () => {
  await it.do(actions.create('DROP-1'))
  isRecording = true
  const answer = Promise.withResolvers<void>()
  it.forgetMachine('DROP-1')
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => {
      await answer.promise
      return provider.listVms()
    },
  }))
  await start()
  const beats = () => of('heartbeat').map(body => parse(heartbeatRequest, body))
  await until('a heartbeat', () => beats()[0]?.environments?.[0]?.status === 'running')
  answer.resolve()
  await until('the news', () => beats().some(({ changes }) => changes?.changed[0]?.status === 'lost'))
})

test('a heartbeat has what the hypervisor does by itself, and why a machine that is gone ended', async () => {
  await it.do(actions.create('DROP-1'))
  await it.do(actions.create('DROP-2'))
  isRecording = true
  const [taken, ended] = [it.vmIdOf('DROP-1'), it.vmIdOf('DROP-2')]
  const interruption = { state: 'announced', by: 'AWS', cause: 'no room', next: 'it comes back' } as const
  it.forgetMachine('DROP-2')
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => (await provider.listVms()).map(vm => (vm.vmId === taken ? { ...vm, interruption } : vm)),
    endings: async () => new Map([[ended, 'AWS says: terminated']]),
  }))
  await start()
  const told = () =>
    of('heartbeat')
      .map(body => parse(heartbeatRequest, body))
      .flatMap(({ environments = [], changes }) => [...environments, ...(changes?.changed ?? [])])
  await until('the announcement', () => told().some(each => each.interruption?.state === 'announced'))
  await until('the end', () => told().some(({ status, ending }) => status === 'lost' && ending !== undefined))
})

test.for<[string, Action | Record<string, unknown>]>([
  ['an unknown kind', { kind: 'format', ticket: 'DROP-1', by: { via: 'jira', who: null }, replyTo: null }],
  ['a ticket that is a path', queued(actions.create('../../etc'))],
  ['a ticket with a line break', queued(actions.create('DROP-1\n  ProxyCommand touch /tmp/owned'))],
  ['a ticket with a line break at its end', queued(actions.create('DROP-1\n'))],
  ['a former key with a line break', { ...queued(actions.status('DROP-1')), kind: 'move', from: 'DROP-2\nHost *' }],
  ['a checkpoint that is a path', queued(actions.checkpoint('DROP-1', '../../..'))],
  ['a restore of a path', { ...queued(actions.status('DROP-1')), kind: 'restore', name: '../disk' }],
  ['a delete of a path', { ...queued(actions.status('DROP-1')), kind: 'delete-checkpoint', name: '..' }],
  ['a kind of every object', { ...queued(actions.status('DROP-1')), kind: 'constructor' }],
  ['a kind that is an object', { ...queued(actions.status('DROP-1')), kind: { toString: 'x' } }],
  ['a commit that is an option', { ...queued(actions.checkpoint('DROP-1', 'a')), commit: '--upload-pack=x' }],
  ['cpus that are text', { ...queued(actions.create('DROP-1')), machine: { cpus: '8; reboot' } }],
  ['a checkpoint that is an option', queued(actions.checkpoint('DROP-1', '--force'))],
  ['an image that is a path', { ...queued(actions.create('DROP-1')), machine: { baseImage: '../image' } }],
  ['no action', {}],
])('a lease with %s is refused, and nothing runs', async ([, action]) => {
  leases = [leaseOf(action), leaseOf(queued(actions.status('DROP-2')), 'next')]
  await start()
  await until('the next action', () => of('complete').length > 0)
  expect(of('fail').map(body => parse(failRequest, body))).toEqual([
    {
      ...{ id: 'jira:1:0', token: 'fence', retry: false, environment: null },
      failure: expect.objectContaining({
        kind: 'refused',
        message: expect.stringContaining('this runner does not understand the action: action'),
      }),
    },
  ])
  expect(it.context.registry.operations('DROP-1', 10)).toEqual([])
  expect(it.machines()).toEqual([])
})

test.for([
  ['no token', { id: 'x' }],
  ['no object', [1]],
  ['an id that is too long', leaseOf(actions.status('DROP-1'), 'x'.repeat(2_000))],
])('a lease with %s runs nothing, and the runner goes on', async ([, lease]) => {
  leases = [lease, leaseOf(queued(actions.status('DROP-2')), 'next')]
  await start()
  await until('the next action', () => of('complete').length > 0)
  expect(of('fail')).toEqual([])
  expect(it.context.registry.operations('DROP-1', 10)).toEqual([])
})

test('an outcome is reported until the bot takes it', async () => {
  problem = { path: 'complete', status: 503 }
  leases = [leaseOf(queued(actions.create('DROP-1')))]
  await start()
  await until('two reports', () => of('complete').length >= 2)
  problem = null
  const count = of('complete').length
  await until('another report', () => of('complete').length > count)
  await runner?.close()
  expect(new Set(of('complete').map(body => JSON.stringify(body))).size).toBe(1)
})

test('a failure is reported with whether a retry can help', async () => {
  leases = [leaseOf(queued(actions.start('DROP-1')))]
  await start()
  const [failed] = await until('the failure', () => (of('fail').length > 0 ? of('fail') : null))
  expect(parse(failRequest, failed)).toMatchObject({ failure: { kind: 'no-such-environment' }, retry: false })
})

test('it takes no work from a bot that refuses its heartbeat, for example one of another version, and takes it later', async () => {
  problem = { path: 'heartbeat', status: 400 }
  leases = [leaseOf(queued(actions.create('DROP-1')))]
  await start()
  await until('a heartbeat that is refused', () => of('heartbeat').length > 0)
  await it.do(actions.create('DROP-2'))
  await until('another heartbeat', () => of('heartbeat').length > 1)
  expect([of('acquire'), it.context.registry.operations('DROP-1', 9)]).toEqual([[], []])
  problem = null
  await until('the outcome', () => of('complete').length > 0)
})

test('it takes no more work once its heartbeat is refused', async () => {
  await start()
  await until('it asks for work', () => of('acquire').length > 0)
  problem = { path: 'heartbeat', status: 404 }
  const before = of('heartbeat').length
  await it.do(actions.create('DROP-2'))
  await until('a heartbeat that is refused', () => of('heartbeat').length > before)
  // A claim may have been under way.
  const acquired = of('acquire').length + 1
  const later = of('heartbeat').length
  await it.do(actions.stop('DROP-2'))
  await until('another one', () => of('heartbeat').length > later)
  expect(of('acquire').length).toBeLessThanOrEqual(acquired)
})

test('an answer that is larger than 1 MiB is not read to its end, and nothing of it runs', async () => {
  leases = [
    { ...leaseOf(queued(actions.create('DROP-1'))), filler: 'x'.repeat(2 * 1024 * 1024) },
    leaseOf(queued(actions.status('DROP-2')), 'next'),
  ]
  await start()
  await until('the next action', () => of('complete').length > 0)
  expect(it.context.registry.operations('DROP-1', 10)).toEqual([])
})

test.for([
  ['a ticket with a line break', { ticket: 'DROP-1\nx' }],
  ['a time that is an object', { since: {} }],
  ['more than a hundred', {}],
] as const)('a list of waiting actions with %s is refused', async ([what, more]) => {
  const row = {
    ticket: 'DROP-1',
    kind: 'stop',
    by: { via: 'jira', who: 'dev' },
    since: '2026-11-24',
    why: 'x',
    ...more,
  }
  waiting = { waiting: Array.from({ length: what.startsWith('more') ? 101 : 1 }, () => row) }
  const lines: string[] = []
  await start(pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) }) as never)
  await until('the refusal', () => lines.some(line => line.includes("heartbeat: reading the bot's response")))
  expect(it.context.registry.queued()).toBeNull()
  expect(of('acquire')).toEqual([])
})

test.for([
  [
    'a token of another runner',
    403,
    { error: 'this token belongs to another runner', remedy: 'agent-swarm bot runner add NAME --as x' },
    /HTTP 403: this token belongs to another runner/,
    'agent-swarm bot runner add NAME --as x',
  ],
  ['an unknown token', 401, { error: 'x' }, /HTTP 401: AGENT_SWARM_RUNNER_TOKEN/, /agent-swarm bot runner add NAME/],
  ['text with control characters', 400, { error: 'a\u001b[2Jb\nc', remedy: 'x\ry' }, /HTTP 400: a \[2Jb c$/, 'x y'],
] as const)('%s: the log says what to do', async ([, status, body, message, remedy]) => {
  const lines: { msg: string; remedy?: string }[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  problem = { path: 'heartbeat', status, body }
  await start(log as never)
  const line = await until('the line', () => lines.find(({ msg }) => msg.startsWith('no work')))
  expect(line.msg).toMatch(message)
  expect(line.remedy).toMatch(remedy)
  expect(of('acquire')).toEqual([])
})
