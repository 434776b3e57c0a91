/** What a runner may say and gets, over HTTP. */
import { describe, expect, test } from 'vitest'
import type { Environment } from '../../../src/schema/environment.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import { environmentOf } from '../../store/fixtures.ts'
import { until } from '../../support/wait.ts'
import { actionOn, offer, openRunnerStage } from './stage.ts'

const done: Outcome = { result: 'done', summary: 'done', environment: null, seconds: 1 }
const NAMES = ['acquire', 'renew', 'complete', 'fail', 'heartbeat', 'git-token', 'where']

describe('requests', () => {
  test('without the token nothing is answered', async () => {
    const { ask, lines } = await openRunnerStage()
    for (const name of NAMES) {
      expect((await ask(name, {}, { token: 'another' })).status).toBe(401)
      expect((await ask(name, {}, { token: '' })).status).toBe(401)
    }
    // One line for all of them, with the sender's address.
    const warnings = lines.filter(line => line.includes('requests with a wrong runner token were refused'))
    expect(warnings.map(line => JSON.parse(line))).toMatchObject([{ level: 40, from: '127.0.0.1', count: 1 }])
    expect(lines.join('')).not.toContain('another')
  })

  test.for([
    ['acquire', {}],
    ['acquire', { runnerId: '../x', offer: offer() }],
    ['acquire', { runnerId: 'one' }],
    ['where', { runnerId: 'one', ticket: 'no ticket' }],
    ['complete', { id: 'x', token: 'y', outcome: { result: 'perhaps' } }],
    [
      'heartbeat',
      { runnerId: 'one', host: 'h', version: '1', offer: offer(), environments: [{ ticket: 'no ticket' }] },
    ],
  ] as const)('a body that is no %s is refused', async ([name, body]) => {
    const { ask } = await openRunnerStage()
    expect((await ask(name, body)).status).toBe(400)
  })

  test('a runner of an earlier version is refused and loses nothing, and the log says what to do', async () => {
    const { ask, lines, store, enqueue, acquire } = await openRunnerStage()
    await enqueue('1', actionOn('DROP-1', 'create'))
    const { id, token } = await acquire()
    const former = [
      ['acquire', { runnerId: 'two' }],
      ['heartbeat', { runnerId: 'one', host: 'studio', version: '0', providers: [], environments: [], asked: [] }],
      ['complete', { id, token, outcome: { result: 'done', said: 'it is made', environment: null, seconds: 1 } }],
    ] as const
    for (const [name, body] of former) expect((await ask(name, body)).status).toBe(400)
    expect(await store.queue.get('1')).toMatchObject({ state: 'active', outcome: null })
    const warnings = lines.map(line => JSON.parse(line)).filter(({ level }) => level === 40)
    expect(warnings).toMatchObject([
      { path: '/runner/v1/acquire', member: 'offer', msg: expect.stringContaining('Install the same version') },
    ])
    expect(lines.join('')).not.toContain(token)
  })

  test('in a dry run, runners get no work and keep their outcomes', async () => {
    const { ask, heartbeat } = await openRunnerStage({ dryRun: true })
    for (const name of NAMES.filter(name => name !== 'heartbeat' && name !== 'where'))
      expect((await ask(name, {})).status).toBe(503)
    expect((await heartbeat()).ok).toBe(true)
  })

  test('while the store fails, a runner that asks for work is told so', async () => {
    const { ask, store } = await openRunnerStage()
    await store.close()
    expect((await ask('acquire', { runnerId: 'one', offer: offer() })).status).toBe(503)
  })
})

describe('work', () => {
  test('a runner that waits gets work as soon as there is some, and ends it', async () => {
    const { ask, acquire, api, enqueue, store } = await openRunnerStage()
    const waiting = acquire()
    await enqueue('1', actionOn('DROP-1', 'create'))
    api.dispatch()
    const { id, token } = await waiting
    expect(id).toBe('1')
    const renewed = await ask('renew', { id, token, progress: { phase: 'ssh', at: 'now' } })
    expect(await renewed.json()).toEqual({ lease: 'ok' })
    const end = async (with_: string) => (await ask('complete', { id, token: with_, outcome: done })).json()
    expect(await end('stale')).toEqual({ lease: 'lost' })
    expect(await end(token)).toEqual({ lease: 'ok' })
    expect(await store.queue.get('1')).toMatchObject({ state: 'done' })
  })

  test('each of several that wait gets another action', async () => {
    const { acquire, enqueue, api } = await openRunnerStage()
    const waiting = ['one', 'two', 'one'].map(runner => acquire(runner))
    for (const n of [1, 2, 3]) await enqueue(String(n), actionOn(`DROP-${n}`, 'create'))
    api.dispatch()
    expect((await Promise.all(waiting)).map(({ id }) => id).sort()).toEqual(['1', '2', '3'])
  })

  test('a runner that has gone away gets nothing', async () => {
    const { ask, api, enqueue, store } = await openRunnerStage()
    const gone = new AbortController()
    const poll = ask('acquire', { runnerId: 'one', offer: offer() }, { signal: gone.signal })
    // Once another request has come and gone, the first has arrived.
    await ask('renew', {})
    gone.abort()
    await expect(poll).rejects.toThrow()
    await ask('renew', {})
    await enqueue('1', actionOn('DROP-1', 'create'))
    api.dispatch()
    await ask('renew', {})
    expect(await store.queue.get('1')).toMatchObject({ state: 'pending', attempt: 0 })
  })

  test('a create waits for room, and begins when a heartbeat reports some', async () => {
    const { acquire, heartbeat, enqueue, store } = await openRunnerStage()
    const room = (freeMiB: number) =>
      offer({
        room: {
          free: { cpus: 64, memoryMiB: freeMiB, diskGiB: 50 },
          empty: { cpus: 64, memoryMiB: 16_384, diskGiB: 50 },
        },
      })
    await enqueue('1', actionOn('DROP-1', 'create'))
    const waiting = acquire('one', room(1_024))
    const response = await heartbeat([], { offer: room(1_024) })
    expect(await response.json()).toMatchObject({
      waiting: [{ ticket: 'DROP-1', why: 'waits for room: the host has no room for another machine of this size' }],
    })
    expect(await store.queue.get('1')).toMatchObject({ state: 'pending' })
    await heartbeat([], { offer: room(8_192) })
    expect((await waiting).id).toBe('1')
  })

  test.for(['complete', 'fail'] as const)('no outcome is lost for a long text or a long id: %s', async name => {
    const { ask, acquire, enqueue, store } = await openRunnerStage()
    const id = `github:poll:acme/shop:refs/heads/${'x'.repeat(250)}:${'a'.repeat(40)}:0`
    const long = 'o'.repeat(30_000)
    await enqueue(id, actionOn('DROP-1', 'create'))
    const { token } = await acquire()
    const failure = { kind: 'no-such-checkpoint', message: long, remedy: long }
    const body = {
      complete: { outcome: { ...done, summary: long } },
      fail: { failure, retry: false, environment: null },
    }
    expect((await ask('renew', { id, token, progress: { phase: long, at: 'now' } })).status).toBe(200)
    expect((await ask(name, { id, token, ...body[name] })).status).toBe(200)
    expect((await store.queue.get(id))?.outcome).toMatchObject({ result: name === 'fail' ? 'failed' : 'done' })
  })

  test('a failed action is tried again when the runner asks for that', async () => {
    const { ask, acquire, enqueue } = await openRunnerStage()
    await enqueue('1', actionOn('DROP-1', 'create'))
    const { id, token } = await acquire()
    const failure = { kind: 'timeout', message: 'no answer', remedy: null }
    const response = await ask('fail', { id, token, failure, retry: true, environment: null })
    expect(await response.json()).toEqual({ lease: 'retry' })
  })

  test('an outcome is about the ticket of its action', async () => {
    const { ask, acquire, enqueue, store } = await openRunnerStage()
    await enqueue('1', actionOn('DROP-2', 'create'))
    const { id, token } = await acquire()
    const outcome = { ...done, environment: environmentOf('DROP-1') }
    expect((await ask('complete', { id, token, outcome })).status).toBe(400)
    expect(await store.queue.get('1')).toMatchObject({ state: 'active' })
    expect(await store.runners.environment('DROP-1')).toBeNull()
  })

  test.for([
    [
      'the pull request has another commit',
      async () => ({ kind: 'refused', message: 'another head', remedy: null }),
      'dead',
    ],
    ['GitHub fails', async () => Promise.reject(new Error('GitHub is away')), 'pending'],
  ] as const)("a fork's action is checked before it is handed out: %s", async ([, whyOutdated, state]) => {
    const { ask, enqueue, store } = await openRunnerStage({ whyOutdated: whyOutdated as never })
    await enqueue('1', actionOn('DROP-1', 'create', { onlyAt: 'a'.repeat(40) }))
    expect((await ask('acquire', { runnerId: 'one', offer: offer() })).status).toBe(204)
    expect(await store.queue.get('1')).toMatchObject({ attempt: 1, state })
  })
})

describe('heartbeats', () => {
  test('a runner that connects, and one that is lost, are logged', async () => {
    const { heartbeat, looks, pass, messages } = await openRunnerStage()
    const runners = () => messages().filter(message => message.startsWith('a runner '))
    const lost = 'a runner no longer responds; its actions wait until it is back'
    await heartbeat()
    await looks(10)
    await heartbeat()
    await looks(10)
    expect(runners()).toEqual(['a runner is connected'])
    await looks(11)
    expect(runners()).toEqual(['a runner is connected', lost])
    await heartbeat()
    // The bot was asleep, not the runner.
    pass(8 * 60 * 60_000)
    await looks(4)
    expect(runners()).toEqual(['a runner is connected', lost, 'a runner is connected'])
  })

  test('what changed reaches the status comments', async () => {
    let nudges = 0
    const { heartbeat, store } = await openRunnerStage({ onMessages: () => (nudges += 1) })
    expect((await heartbeat([environmentOf('DROP-1')])).status).toBe(204)
    expect((await store.outbox.due(10)).map(({ key }) => key)).toEqual(['status:DROP-1'])
    expect(nudges).toBe(1)
  })

  test('a partial heartbeat counts when it follows the last one that was recorded; after a start the bot asks for a full one', async () => {
    const { heartbeat, store } = await openRunnerStage()
    const beat = async (id: string, changes?: { follows: string; changed?: Environment[]; gone?: object[] }) => {
      const partial = { environments: undefined, changes: { changed: [], gone: [], ...changes } as never }
      const response = await heartbeat([environmentOf('DROP-1'), environmentOf('DROP-2')], {
        id,
        ...(changes && partial),
      })
      return ((await response.json()) as { recorded: string | null }).recorded
    }
    const gone = [{ ticket: 'DROP-2', vmId: environmentOf('DROP-2').vmId }]
    // A bot that has just started.
    expect(await beat('b', { follows: 'a', gone })).toBe(null)
    expect(await beat('c')).toBe('c')
    expect(await beat('d', { follows: 'c' })).toBe('d')
    // The answer was lost: the runner does not know that the bot recorded `d`.
    expect(await beat('e', { follows: 'c', gone })).toBe(null)
    expect(await store.runners.withMachine()).toEqual(['DROP-1', 'DROP-2'])
    expect(await beat('f', { follows: 'd', gone })).toBe('f')
    expect(await beat('g', { follows: 'f', gone })).toBe('g')
    expect(await store.runners.withMachine()).toEqual(['DROP-1'])
  })

  test('a machine that went away while nobody heard of it is gone soon: the bot asks for a second full heartbeat', async () => {
    const { heartbeat, store } = await openRunnerStage()
    const beat = async (id: string, tickets: string[], more: object = {}) => {
      const response = await heartbeat(
        tickets.map(ticket => environmentOf(ticket)),
        { id, ...more } as never,
      )
      return ((await response.json()) as { recorded: string | null }).recorded
    }
    expect(await beat('a', ['DROP-1', 'DROP-2'])).toBe('a')
    // The runner was away, and does not name what it does not know.
    expect(await beat('b', ['DROP-1'])).toBe(null)
    expect(await store.runners.withMachine()).toEqual(['DROP-1', 'DROP-2'])
    expect(await beat('c', ['DROP-1'])).toBe('c')
    expect(await store.runners.withMachine()).toEqual(['DROP-1'])
    expect(await beat('d', ['DROP-1'])).toBe('d')
  })

  test('a full heartbeat in pieces, and a machine that the bot leaves out: it is named, and sent again it counts', async () => {
    const { heartbeat, store, messages } = await openRunnerStage()
    await heartbeat([environmentOf('DROP-3', { vmId: 'as-drop-3-99999999' })], { runnerId: 'two', host: 'laptop' })
    const [first, second, third] = [1, 2, 3].map(n => environmentOf(`DROP-${n}`))
    const beat = async (more: object) =>
      (await heartbeat(undefined, { environments: undefined, ...more } as never)).json() as Promise<object>
    const others = [second, third].map(item => ({ ticket: item?.ticket, vmId: item?.vmId }))
    expect(await beat({ id: 'a', beginning: { environments: [first], others } })).toMatchObject({ recorded: 'a' })
    const changes = (follows: string, changed: object[]) => ({ changes: { follows, changed, gone: [] } })
    const left = { leftOut: ['DROP-3'] }
    expect(await beat({ id: 'b', ...changes('a', [second, third] as object[]) })).toMatchObject({
      recorded: 'b',
      ...left,
    })
    expect(await store.runners.withMachine()).toEqual(['DROP-1', 'DROP-2', 'DROP-3'])
    // A heartbeat that does not name it says nothing of the problem.
    expect(await beat({ id: 'c', ...changes('b', []) })).toMatchObject({ recorded: 'c', leftOut: [] })
    expect(await beat({ id: 'd', ...changes('c', [third] as object[]) })).toMatchObject({ recorded: 'd', ...left })
    expect(messages().filter(message => message.startsWith('DROP-3 on studio'))).toHaveLength(1)
  })

  test('the answer lists what waits for this runner, and why', async () => {
    const { heartbeat, acquire, enqueue } = await openRunnerStage()
    await enqueue('a', actionOn('WAIT-1', 'create'))
    await enqueue('b', actionOn('WAIT-1', 'stop'))
    expect((await acquire()).id).toBe('a')
    const response = await heartbeat()
    expect(await response.json()).toEqual({
      ...{ recorded: null, leftOut: [] },
      waiting: [
        {
          ...{ ticket: 'WAIT-1', kind: 'stop', by: { via: 'github', who: 'dev' } },
          since: expect.stringMatching(/^2\d{3}-/),
          why: 'create of the same ticket is in progress',
        },
      ],
    })
    // The ticket is pinned to the other runner.
    expect((await heartbeat([], { runnerId: 'two' })).status).toBe(204)
  })

  test('two machines of one ticket are reported once, and when that is solved', async () => {
    const { heartbeat, messages, store } = await openRunnerStage()
    const [first, second] = ['11111111', '22222222'].map(id => environmentOf('DROP-1', { vmId: `as-drop-1-${id}` }))
    const both = async () => {
      await heartbeat(first === undefined ? [] : [first])
      await heartbeat(second === undefined ? [] : [second], { runnerId: 'two', host: 'laptop' })
    }
    await both()
    await both()
    const about = () => messages().filter(message => message.startsWith('DROP-1 on laptop'))
    const problem =
      'DROP-1 on laptop: as-drop-1-22222222 is ignored, because the runner on studio has the machine of this ticket'
    expect(about()).toEqual([problem])
    expect((await store.runners.environment('DROP-1'))?.environment.vmId).toBe('as-drop-1-11111111')
    await heartbeat([], { runnerId: 'two', host: 'laptop' })
    await until('the solution', () => about().length === 2)
  })
})

test('where a machine is: its host and its provider, nothing of one that is gone or that nobody has', async () => {
  const { ask, heartbeat, store } = await openRunnerStage()
  await heartbeat([environmentOf('DROP-1')], { runnerId: 'two', host: 'studio.local' })
  const where = async (ticket: string, runnerId = 'three') => (await ask('where', { runnerId, ticket })).json()
  expect(await where('DROP-1')).toEqual({
    machine: {
      ...{ ticket: 'DROP-1', provider: 'kvm', status: 'running', runner: 'two', host: 'studio.local' },
      heardAt: expect.stringMatching(/^\d{4}-/),
      yours: false,
    },
  })
  expect(await where('DROP-1', 'two')).toMatchObject({ machine: { yours: true } })
  expect(await where('DROP-2')).toEqual({ machine: null })
  await heartbeat([], { runnerId: 'two', host: 'studio.local' })
  await heartbeat([], { runnerId: 'two', host: 'studio.local' })
  expect(await store.runners.environment('DROP-1')).toMatchObject({ goneAt: expect.any(Number) })
  expect(await where('DROP-1')).toEqual({ machine: null })
})
