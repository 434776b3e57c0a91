/** A runner that attacks the bot: speaks for others, brings tickets, floods, sends huge bodies, ends what it does not hold. */
import { safeParse } from 'valibot'
import { expect, test } from 'vitest'
import { tokenHash } from '../../../src/bot/http/signature.ts'
import type { Environment } from '../../../src/schema/environment.ts'
import { completeRequest } from '../../../src/schema/runner-protocol.ts'
import { HEARTBEAT_CHUNK, MAX_BROUGHT, RUNNER_AWAY_MS } from '../../../src/store/port.ts'
import { environmentOf, timeAt } from '../../store/fixtures.ts'
import { until } from '../../support/wait.ts'
import { actionOn, offer, openRunnerStage } from './stage.ts'

const MALLORY = 'the-token-of-mallory-herself'
const open = async (options: Parameters<typeof openRunnerStage>[0] = {}) => {
  const stage = await openRunnerStage(options)
  const added = await stage.store.runnerTokens.add({ name: 'mallory', hash: tokenHash(MALLORY), as: null })
  if ('problem' in added) throw new Error(added.problem)
  const asMallory = (name: string, body: object, signal?: AbortSignal) =>
    stage.ask(name, body, { token: MALLORY, ...(signal === undefined ? {} : { signal }) })
  return {
    ...stage,
    mallory: added.runnerId,
    asMallory,
    malloryBeats: (environments: Environment[], more: object = {}) =>
      asMallory('heartbeat', {
        ...{ runnerId: 'm', host: 'lair', version: '1' },
        offer: offer(),
        environments,
        ...more,
      }),
  }
}
const many = (count: number, from = 1) =>
  Array.from({ length: count }, (_, index) => environmentOf(`EVIL-${from + index}`))

test('who a runner is comes from its token: what a body says of others is about itself', async () => {
  const { heartbeat, malloryBeats, mallory, store, asMallory } = await open()
  await heartbeat([environmentOf('DROP-1')])
  // Under the victim's id, without its machine: it would be gone.
  for (const _ of [1, 2, 3]) await malloryBeats([], { runnerId: 'm', host: 'studio' })
  expect(await store.runners.environment('DROP-1')).toMatchObject({ runnerId: 'one', goneAt: null })
  expect((await malloryBeats([], { runnerId: 'one' })).status).toBe(403)
  expect((await asMallory('acquire', { runnerId: 'one', offer: offer() })).status).toBe(403)
  expect((await store.runners.list()).map(({ id, host }) => [id, host]).sort()).toEqual(
    [
      ['one', 'studio'],
      [mallory, 'studio'],
    ].sort(),
  )
})

test('the shared token belongs to the first id that shows it, also after a restart; a second one reads which command to run', async () => {
  const stage = await openRunnerStage()
  await stage.heartbeat([environmentOf('DROP-1')])
  const second = await stage.ask(
    'heartbeat',
    { runnerId: 'second', host: 'attic', version: '1', offer: offer(), environments: [] },
    { token: 'the-right-token' },
  )
  expect([second.status, await second.json()]).toEqual([
    403,
    {
      error: 'this token belongs to another runner',
      remedy: expect.stringContaining('agent-swarm bot runner add NAME. Set it as AGENT_SWARM_RUNNER_TOKEN'),
    },
  ])
  const shown = { instance: 'second', isShared: true }
  expect(await stage.store.runnerTokens.identify(tokenHash('the-right-token'), shown)).toEqual({
    who: 'another',
    runnerId: 'one',
  })
  // A changed setting is another token.
  expect(await stage.store.runnerTokens.identify(tokenHash('a-changed-token'), shown)).toMatchObject({ who: 'runner' })
})

test('a runner that the bot knew before is told how to keep its tickets; the shared token claims no id that has its own', async () => {
  const { store, ask, heartbeat } = await openRunnerStage()
  await store.runners.heartbeat({
    ...{ runnerId: 'former', host: 'attic', version: '1', offer: offer(), environments: [], manualOperations: [] },
  })
  await heartbeat()
  const body = { runnerId: 'former', offer: offer() }
  const refused = await ask('acquire', body, { token: 'the-right-token' })
  expect((await refused.json()) as object).toMatchObject({ remedy: expect.stringContaining('add NAME --as former.') })
  const fresh = await openRunnerStage()
  await fresh.heartbeat([], { runnerId: 'two' })
  const claim = await fresh.ask('acquire', { runnerId: 'two', offer: offer() }, { token: 'the-right-token' })
  expect(claim.status).toBe(403)
})

test('a lease that it does not hold it can neither renew nor end, not even with its token', async () => {
  const { enqueue, acquire, asMallory, store } = await open()
  await enqueue('1', actionOn('DROP-1', 'create'))
  const { id, token } = await acquire()
  const done = { result: 'done', summary: 'ha', environment: environmentOf('DROP-1'), seconds: 1 }
  const failure = { kind: 'unknown', message: 'ha', remedy: null }
  for (const [name, body] of [
    ['renew', { id, token, progress: null }],
    ['complete', { id, token, outcome: done }],
    ['fail', { id, token, failure, retry: false, environment: null }],
  ] as const)
    expect(await (await asMallory(name, body)).json()).toEqual({ lease: 'lost' })
  expect(await store.queue.get('1')).toMatchObject({ state: 'active', runnerId: 'one' })
  expect(await store.runners.environment('DROP-1')).toBeNull()
})

test(`it brings ${MAX_BROUGHT} tickets that the bot never gave it, and no more; those that it was given do not count`, async () => {
  const { malloryBeats, asMallory, enqueue, store, mallory, messages } = await open()
  await enqueue('1', actionOn('DROP-1', 'create'))
  await asMallory('acquire', { runnerId: 'm', offer: offer() })
  const all = [environmentOf('DROP-1'), ...many(MAX_BROUGHT + 50)]
  for (const _ of [1, 2]) expect((await malloryBeats(all)).status).toBe(204)
  expect(await store.runners.withMachine()).toHaveLength(MAX_BROUGHT + 1)
  expect(await store.queue.pinnedTo('DROP-1')).toBe(mallory)
  expect(await store.queue.pinnedTo(`EVIL-${MAX_BROUGHT}`)).toBe(mallory)
  expect(await store.queue.pinnedTo(`EVIL-${MAX_BROUGHT + 1}`)).toBeNull()
  expect(messages().filter(message => message.includes('that the bot did not ask for'))).toHaveLength(1)
  // Others in their place, once these are gone.
  await malloryBeats(many(10, 1_000))
  expect(await store.queue.pinnedTo('EVIL-1000')).toBeNull()
  await malloryBeats(many(10, 1_000))
  expect(await store.queue.pinnedTo('EVIL-1000')).toBe(mallory)
})

test('a ticket that the bot gave another runner stays there, while that is away and before its machine is known', async () => {
  const { enqueue, acquire, malloryBeats, store, pass } = await open()
  await enqueue('1', actionOn('DROP-1', 'create'))
  await acquire()
  const mine = environmentOf('DROP-1', { vmId: 'as-drop-1-66666666' })
  const by = { via: 'cli', who: 'mallory' } as const
  const operation = { id: 1, ticket: 'DROP-1', kind: 'delete', by, at: timeAt(0) }
  for (const _ of [1, 2]) {
    await malloryBeats([mine], { manualOperations: [operation] })
    pass(RUNNER_AWAY_MS + 1)
  }
  expect(await store.queue.pinnedTo('DROP-1')).toBe('one')
  expect(await store.runners.environment('DROP-1')).toBeNull()
  expect(await store.requests.lastStateChange('DROP-1', 'anything')).toBeNull()
})

test('it has one waiting request for each of its slots: the oldest is answered', async () => {
  const { asMallory } = await open()
  const ends: number[] = []
  const controller = new AbortController()
  for (let n = 0; n < 6; n += 1) {
    asMallory('acquire', { runnerId: 'm', offer: offer(), slots: 2 }, controller.signal).then(
      ({ status }) => ends.push(status),
      () => {},
    )
    await until('an earlier one is answered', () => ends.length === Math.max(0, n - 1))
  }
  expect(ends).toEqual([204, 204, 204, 204])
  expect((await asMallory('acquire', { runnerId: 'm', offer: offer(), slots: 1_000 })).status).toBe(400)
  controller.abort()
})

test('a revoked token fails at once, also for a request that waits and for a heartbeat that is being written', async () => {
  const { asMallory, api, store, mallory, malloryBeats } = await open()
  const waiting = asMallory('acquire', { runnerId: 'm', offer: offer() })
  await malloryBeats([])
  const big = malloryBeats(many(MAX_BROUGHT))
  await until('its first part', async () => (await store.runners.withMachine()).length >= HEARTBEAT_CHUNK)
  expect(await store.runnerTokens.revoke('mallory')).toBe(mallory)
  api.revoke(mallory)
  expect((await waiting).status).toBe(401)
  expect([204, 401]).toContain((await big).status)
  for (const name of ['acquire', 'renew', 'complete', 'fail', 'heartbeat'])
    expect((await asMallory(name, {})).status).toBe(401)
})

test('no work goes to a runner whose token was revoked while its action was checked', async () => {
  const check = Promise.withResolvers<null>()
  const { asMallory, api, store, mallory, enqueue } = await open({ whyOutdated: () => check.promise })
  await enqueue('1', actionOn('DROP-1', 'create', { onlyAt: 'a'.repeat(40) }))
  const waiting = asMallory('acquire', { runnerId: 'm', offer: offer() })
  await until('the check', async () => (await store.queue.get('1'))?.state === 'active')
  api.revoke(mallory)
  expect((await waiting).status).toBe(401)
  check.resolve(null)
  await until('the action waits again', async () => (await store.queue.get('1'))?.state === 'pending')
})

test('other requests are answered while a large heartbeat is written, and nothing of it counts as gone before its end', async () => {
  const { heartbeat, ask, store } = await openRunnerStage()
  const all = many(8 * HEARTBEAT_CHUNK)
  // Given by the bot: their number has no limit.
  for (const environment of all) {
    const { ticket } = environment
    await store.queue.enqueue({ id: ticket, correlation: 'd', action: actionOn(ticket, 'create') })
    const lease = await store.queue.claim('one', offer())
    await store.queue.complete(ticket, lease?.token ?? '', { result: 'skipped', reason: '', environment }, [])
  }
  await heartbeat(all)
  let isDone = false
  const order = all.toReversed().map(environment => ({ ...environment, observedAt: timeAt(60) }))
  const written = heartbeat(order).then(() => {
    isDone = true
  })
  let answered = 0
  while (!isDone) {
    await ask('renew', { id: 'x', token: 'y', progress: null })
    if (!isDone) answered += 1
  }
  await written
  expect(answered).toBeGreaterThan(1)
  expect(await store.runners.withMachine()).toHaveLength(all.length)
})

test('a heartbeat above 5 MiB is taken, and one above 32 MiB is not', async () => {
  const { asMallory, malloryBeats, store } = await open()
  const checkpoints = Array.from({ length: 500 }, (_, n) => ({
    ...{ name: `c-${n}`, why: 'command', commit: null, createdAt: timeAt(0), withMemory: false, sizeBytes: null },
  })) as never
  const large = many(150).map(environment => ({ ...environment, checkpoints }))
  expect(JSON.stringify(large).length).toBeGreaterThan(6 * 1024 * 1024)
  expect((await malloryBeats(large)).status).toBe(204)
  expect(await store.runners.withMachine()).toHaveLength(150)
  const tooLarge = asMallory('heartbeat', { runnerId: 'm', filler: 'x'.repeat(33 * 1024 * 1024) })
  // A sender that still writes when the connection ends may never read why.
  expect([413, 'cut']).toContain(
    await tooLarge.then(
      ({ status }) => status,
      () => 'cut',
    ),
  )
})

test('one heartbeat at a time is written for each runner', async () => {
  const { malloryBeats, store } = await open()
  const big = malloryBeats(many(MAX_BROUGHT))
  await until('its first part', async () => (await store.runners.withMachine()).length > 0)
  const statuses = (await Promise.all([big, malloryBeats([]), malloryBeats([])])).map(({ status }) => status)
  // Those that came after its end are taken.
  expect(statuses[0]).toBe(204)
  for (const status of statuses) expect([204, 429]).toContain(status)
  expect((await malloryBeats([])).status).toBe(204)
})

test.for([
  ['a million wrong members', { environments: Array.from({ length: 1_000_000 }, () => 1) }],
  ['ten thousand and one machines', { environments: many(10_001).map(() => environmentOf('DROP-1')) }],
  ['a host with a line break', { host: 'studio\nOwned' }],
  ['a ticket with a line break', { environments: [{ ...environmentOf('DROP-1'), ticket: 'DROP-1\n' }] }],
  ['a ticket of the prototype', { environments: [{ ...environmentOf('DROP-1'), ticket: '__proto__' }] }],
] as const)('nothing is taken of a heartbeat with %s', async ([, more]) => {
  const { malloryBeats, store } = await open()
  expect((await malloryBeats([], more)).status).toBe(400)
  expect(await store.runners.withMachine()).toEqual([])
})

test.for(['1e999', '-1', '1e300', '"1"'])('an outcome that took %s seconds is not taken', seconds => {
  const text = `{"id":"x","token":"y","outcome":{"result":"done","summary":"ha","environment":null,"seconds":${seconds}}}`
  expect(safeParse(completeRequest, JSON.parse(text)).success).toBe(false)
})

test('a token that is nearly right is refused, and no token is in the log', async () => {
  const { ask, lines, heartbeat } = await open()
  await heartbeat()
  for (const token of [
    MALLORY.slice(0, -1),
    `${MALLORY}x`,
    MALLORY.toUpperCase(),
    'the-right-toke',
    tokenHash(MALLORY),
  ])
    expect((await ask('renew', { id: 'x', token: 'y', progress: null }, { token })).status).toBe(401)
  expect(lines.join('')).not.toMatch(/the-(token-of-mallory|right-token)/)
})
