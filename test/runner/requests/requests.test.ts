import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DAY_MS } from '../../../src/clock.ts'
import { openLog } from '../../../src/log.ts'
import { openRequests } from '../../../src/runner/requests/requests.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'
import { until } from '../../support/wait.ts'

let it: TestContext
let server: Server
let requests: ReturnType<typeof openRequests>
let now: Date
let changes: number
/** Whose socket it is. */
let ticket: string

const ask = async (what: string, text = '', method = 'POST'): Promise<[status: number, text: string]> => {
  const { port } = server.address() as AddressInfo
  const body = method === 'POST' ? text : null
  const response = await fetch(`http://127.0.0.1:${port}/v1/${what}`, { method, body })
  return [response.status, (await response.text()).trimEnd()]
}
const minuteLater = () => {
  now = new Date(now.getTime() + 61_000)
}
const names = (of = ticket) => it.context.registry.checkpoints(of).map(({ name, why }) => `${name} ${why}`)

beforeEach(async () => {
  it = await openTestContext()
  now = new Date('2026-11-28T12:00:00Z')
  it.context.clock = () => now
  wrapProviders(it.context, provider => ({ ...provider, liveCheckpoints: true }))
  changes = 0
  ticket = 'DROP-1'
  await it.do(actions.create('DROP-1'))
  await it.do(actions.create('DROP-2'))
  const onChange = () => {
    changes += 1
  }
  requests = openRequests({ context: it.context, log: openLog('silent'), onChange, signal: AbortSignal.any([]) })
  server = createServer((request, response) => {
    void requests.handle({ ticket, vmId: it.vmIdOf(ticket) }, request, response)
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
})
afterEach(async () => {
  await requests.idle()
  server.closeAllConnections()
  server.close()
  it.close()
})

test('status shows ticket, machine, project, checkpoints and note', async () => {
  await it.do(actions.checkpoint('DROP-1', 'before-refactor'))
  it.context.registry.setProject('DROP-1', {
    ...{ repo: 'acme/shop', branch: 'DROP-1-login', summary: null, path: '/home/agent/shop', ports: [], save: [] },
    setup: { state: 'failed', source: 'x', exit: 3, startedAt: now.toISOString(), seconds: 2 },
    ...{ start: null, problem: 'setup\u001b[31m failed', prepared: true },
  })
  await ask('note', 'tried X')
  const [status, text] = await ask('status')
  expect(status).toBe(200)
  expect(text.split('\n')).toEqual([
    'Ticket: DROP-1',
    `Machine: ${it.vmIdOf('DROP-1')} on synthetic, from agent-swarm-base`,
    'Project: acme/shop, branch DROP-1-login; /home/agent/shop; setup failed (exit 3)',
    'Problem: setup [31m failed',
    'Checkpoints, the newest last:',
    '  before-refactor  2026-11-28 12:00 UTC  command',
    'Note of 2026-11-28 12:00 UTC: tried X',
  ])
})

test('a checkpoint is made for the machine and for nobody else, and is in the journal as its own', async () => {
  expect(await ask('checkpoint', 'Before-Migration')).toEqual([200, 'Made checkpoint before-migration of DROP-1'])
  expect(names()).toEqual(['before-migration machine'])
  expect(names('DROP-2')).toEqual([])
  expect(it.context.registry.operations('DROP-1', 1)).toMatchObject([
    { kind: 'checkpoint', by: { via: 'machine', who: null }, result: 'done' },
  ])
  expect(changes).toBe(1)
})

test('there is at most one checkpoint a minute, after another start of the runner too, and the newest five are kept', async () => {
  await it.do(actions.checkpoint('DROP-1', 'of-a-person'))
  for (const n of [1, 2, 3, 4, 5, 6]) {
    expect(await ask('checkpoint', `c${n}`)).toEqual([200, `Made checkpoint c${n} of DROP-1`])
    expect(await ask('checkpoint', 'too-soon')).toEqual([429, 'at most one checkpoint a minute: try again in 60 s'])
    requests = openRequests({
      ...{ context: it.context, log: openLog('silent'), onChange: () => {}, signal: AbortSignal.any([]) },
    })
    expect((await ask('checkpoint', 'too-soon'))[0]).toBe(429)
    minuteLater()
  }
  expect(names()).toEqual(['of-a-person command', ...['c2', 'c3', 'c4', 'c5', 'c6'].map(name => `${name} machine`)])
})

test.for([1, 400])('a clock that was %i days ahead keeps no machine waiting', async days => {
  const setTo = now
  now = new Date(now.getTime() + days * DAY_MS)
  expect((await ask('checkpoint', 'one'))[0]).toBe(200)
  expect((await ask('restore', 'one'))[0]).toBe(202)
  await until('the restore', () => it.context.registry.lastRestore('DROP-1')?.at === now.toISOString())
  await requests.idle()
  now = setTo
  expect((await ask('checkpoint', 'two'))[0]).toBe(200)
  expect((await ask('restore', 'one'))[0]).toBe(202)
})

test('a checkpoint that would stop the machine is not made', async () => {
  wrapProviders(it.context, ({ liveCheckpoints: _, ...provider }) => provider)
  expect(await ask('checkpoint', 'x')).toEqual([409, 'synthetic cannot make a checkpoint without stopping the machine'])
  expect(names()).toEqual([])
})

test('a restore answers before it begins, counts as nobody by hand, and takes no more disk when it is repeated', async () => {
  it.write('DROP-1', 'file', 'good')
  await ask('checkpoint', 'good')
  it.write('DROP-1', 'file', 'bad')
  const before = it.context.registry.lastManualOperation('DROP-1')
  for (const _ of Array.from({ length: 7 })) {
    minuteLater()
    const [status, text] = await ask('restore', 'good')
    expect([status, text]).toEqual([202, expect.stringContaining('Restoring DROP-1 to good')])
    await until('the restore', () => it.context.registry.openOperations('DROP-1').length === 0)
    await requests.idle()
  }
  expect(it.read('DROP-1', 'file')).toBe('good')
  expect(it.context.registry.operations('DROP-1', 1)).toMatchObject([
    { kind: 'restore', by: { via: 'machine', who: null }, result: 'done' },
  ])
  expect(it.context.registry.lastManualOperation('DROP-1')).toEqual(before)
  expect(it.context.registry.manualOperations(10).map(({ kind }) => kind)).toEqual(['create', 'create'])
  expect(names().filter(name => name.startsWith('pre-restore-')).length).toBeLessThanOrEqual(5)
  expect(names()).toContain('good machine')
})

test('a restore of what does not exist, or of another machine, is refused, and nothing begins', async () => {
  await it.do(actions.checkpoint('DROP-2', 'theirs'))
  expect(await ask('restore', 'theirs')).toEqual([404, 'there is no checkpoint theirs. Available checkpoints: none'])
  expect(it.context.registry.operations('DROP-1', 5).map(({ kind }) => kind)).toEqual(['create'])
})

test('what a person did after the request wins over it', async () => {
  await it.do(actions.checkpoint('DROP-1', 'a'))
  const asked = new Date(now.getTime() - 1_000)
  const by = { via: 'machine', who: null } as const
  expect(
    await it.do({ ...actions.restore('DROP-1', 'a'), by, at: new Date(asked.getTime() - 1_000).toISOString() }),
  ).toMatchObject({ result: 'skipped' })
})

test('a note survives a restore, and status shows it as one of before', async () => {
  await it.do(actions.checkpoint('DROP-1', 'a'))
  minuteLater()
  expect((await ask('note', 'tried X,\nfailed because Y\u001b]0;owned\u0007'))[0]).toBe(200)
  expect(it.context.registry.note('DROP-1')).toEqual({
    text: 'tried X,\nfailed because Y]0;owned',
    at: now.toISOString(),
  })
  minuteLater()
  await it.do(actions.restore('DROP-1', 'a'))
  expect((await ask('status'))[1]).toContain(
    'Last restore: a, 2026-11-28 12:02 UTC\nbefore this restore: tried X,\nfailed because Y',
  )
  minuteLater()
  await ask('note', 'a new one')
  expect((await ask('status'))[1]).toContain('\nNote of 2026-11-28 12:03 UTC: a new one')
})

test.for<[string, string, string, number, string]>([
  ['an empty note', 'note', ' \n', 400, 'a note needs text'],
  ['a long note', 'note', 'x'.repeat(2_001), 400, 'a note has at most 2,000 characters'],
  ['a huge note', 'note', 'x'.repeat(1_000_000), 413, 'the text is too long: at most 2,000 characters'],
  ['a name that is a path', 'checkpoint', '../../x', 400, 'a name has letters'],
  ['a name that is an option', 'checkpoint', '--force', 400, 'a name has letters'],
  ['a name of automatic checkpoints', 'checkpoint', 'push-1234567', 400, 'names that begin with push-'],
  ['a restore of nothing', 'restore', '', 400, 'a name has letters'],
  ['text with status', 'status', 'DROP-2', 400, 'unexpected text'],
  ['an unknown request', 'delete', '', 404, 'there is no such request'],
  ['a member of every object', 'constructor', '', 404, 'there is no such request'],
  ['a path', '../status', '', 404, 'there is no such request'],
])('%s is refused', async ([, what, text, status, words]) => {
  expect(await ask(what, text)).toEqual([status, expect.stringContaining(words)])
  expect(it.context.registry.operations('DROP-1', 5)).toHaveLength(1)
})

test('another method is refused, and so are more than 30 requests in ten seconds; another machine is not held up', async () => {
  expect((await ask('status', '', 'GET'))[0]).toBe(405)
  const statuses = []
  for (let n = 0; n < 35; n += 1) statuses.push((await ask('status'))[0])
  expect(statuses.filter(status => status === 429).length).toBeGreaterThan(0)
  ticket = 'DROP-2'
  expect((await ask('status'))[0]).toBe(200)
})

test('a failure that is about the host tells the machine nothing of it', async () => {
  wrapProviders(it.context, provider => ({
    ...provider,
    checkpoint: async () => {
      throw new Error('/home/someone/.agent-swarm/x: no space')
    },
  }))
  expect(await ask('checkpoint', 'x')).toEqual([409, 'it failed (unknown); the log of the runner says why'])
})
