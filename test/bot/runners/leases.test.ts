/** What happens to actions whose runner is lost, and to creates that no runner can take. */
import { expect, test } from 'vitest'
import { LEASE_MS } from '../../../src/schema/runner-protocol.ts'
import { MAX_ATTEMPTS } from '../../../src/store/port.ts'
import { dev, environmentOf } from '../../store/fixtures.ts'
import { actionOn, offer, openRunnerStage } from './stage.ts'

test('an action whose runner is lost is given to the next, and after the last attempt it fails', async () => {
  const { store, enqueue, acquire, looks, lines } = await openRunnerStage()
  await enqueue('a', actionOn('DROP-1', 'create'))
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    expect(await acquire()).toMatchObject({ id: 'a', attempt })
    await looks(LEASE_MS / 1000 + 1)
  }
  expect(await store.queue.get('a')).toMatchObject({
    state: 'dead',
    outcome: {
      failure: { message: 'create of DROP-1: the runner was lost while doing it, 6 times', remedy: expect.any(String) },
    },
  })
  expect((await store.outbox.due(10)).map(({ key }) => key)).toEqual(['jira:failed:a'])
  expect(lines.map(line => JSON.parse(line))).toContainEqual(
    expect.objectContaining({ msg: 'outcome recorded', action: 'a', ticket: 'DROP-1', result: 'failed' }),
  )
})

test('a lease runs out only while it could be renewed: not while the bot was down or asleep', async () => {
  const { store, enqueue, acquire, looks, pass } = await openRunnerStage()
  await enqueue('a', actionOn('DROP-1', 'create'))
  const { token } = await acquire()
  pass(60_000)
  await looks(4)
  expect(await store.queue.renew('a', token, null)).toBe('ok')
  pass(8 * 60 * 60_000)
  await looks(4)
  expect(await store.queue.renew('a', token, null)).toBe('ok')
  await looks(12)
  expect(await store.queue.renew('a', token, null)).toBe('lost')
})

const without = (images: string[]) => offer({ providers: [{ name: 'kvm', label: 'KVM', live: true, images }] })
const small = offer({
  room: { free: { cpus: 64, memoryMiB: 0, diskGiB: 0 }, empty: { cpus: 64, memoryMiB: 1_024, diskGiB: 50 } },
})
const full = offer({
  room: { free: { cpus: 64, memoryMiB: 0, diskGiB: 0 }, empty: { cpus: 64, memoryMiB: 16_384, diskGiB: 50 } },
})

test.for([
  ['the base image is missing', without(['other']), {}, 'studio: it has no base image agent-swarm-base (it has other)'],
  ['it is above the limit', offer(), { cpus: 9 }, 'studio: cpus 9 is above its limit of 8'],
  ['the empty host is too small', small, {}, 'studio: the machine needs 2 GiB of memory, and the host has 1 GiB'],
] as const)(
  'a create that no runner can take is rejected within 30 s, with what to do: %s',
  async ([, offered, machine, reason]) => {
    const { store, enqueue, heartbeat, looks } = await openRunnerStage()
    await enqueue('a', actionOn('DROP-1', 'create', { machine }))
    for (let n = 0; n < 5; n += 1) {
      await heartbeat([], { offer: offered })
      await looks(5)
    }
    expect(await store.queue.get('a')).toMatchObject({
      state: 'dead',
      outcome: { failure: { kind: 'capacity', message: expect.stringContaining(reason), remedy: expect.any(String) } },
    })
    expect((await store.outbox.due(10)).map(({ key }) => key)).toEqual(['jira:failed:a'])
  },
)

test.for([
  ['no runner is connected', []],
  ['one of two runners can take it', [without(['other']), offer()]],
  ['only room is missing', [full]],
] as const)('a create waits while %s', async ([, offers]) => {
  const { store, enqueue, heartbeat, looks } = await openRunnerStage()
  await enqueue('a', actionOn('DROP-1', 'create'))
  for (let n = 0; n < 8; n += 1) {
    for (const [index, offered] of offers.entries()) await heartbeat([], { runnerId: `r${index}`, offer: offered })
    await looks(5)
  }
  expect(await store.queue.get('a')).toMatchObject({ state: 'pending' })
})

test('a runner that connects a little later is waited for', async () => {
  const { store, enqueue, heartbeat, acquire, looks } = await openRunnerStage()
  await enqueue('a', actionOn('DROP-1', 'create'))
  await heartbeat([], { offer: without([]) })
  await looks(8)
  await heartbeat([], { runnerId: 'two', host: 'laptop' })
  await looks(10)
  expect(await acquire('two')).toMatchObject({ id: 'a' })
  expect(await store.queue.get('a')).toMatchObject({ state: 'active' })
})

test('a fork beyond the limit of its person is refused, and what waited behind it goes on', async () => {
  const { store, enqueue, heartbeat, acquire, looks } = await openRunnerStage({}, { machinesPerPerson: 2 })
  const own = environmentOf('DROP-1', { createdBy: dev })
  await heartbeat([own])
  await enqueue('a', actionOn('DROP-1', 'fork', { from: null, count: 2 }))
  await enqueue('b', actionOn('DROP-1', 'stop'))
  for (let n = 0; n < 5; n += 1) {
    await heartbeat([own])
    await looks(5)
  }
  expect(await store.queue.get('a')).toMatchObject({
    state: 'dead',
    outcome: {
      failure: {
        kind: 'refused',
        message:
          'forking DROP-1 into 2 attempts: the person of this ticket would have more machines than one person may have; theirs: DROP-1',
      },
    },
  })
  expect(await acquire()).toMatchObject({ id: 'b' })
})

test.for([
  ['a start', 'a delete', true, actionOn('DROP-1', 'start'), actionOn('DROP-1', 'delete')],
  ['a start', 'a stop', true, actionOn('DROP-1', 'start'), actionOn('DROP-1', 'stop')],
  ['a start', 'another start', false, actionOn('DROP-1', 'start'), actionOn('DROP-1', 'start')],
  ['a create of a stopped machine', 'a stop', true, actionOn('DROP-1', 'create'), actionOn('DROP-1', 'stop')],
  ['a restore', 'a delete', true, actionOn('DROP-1', 'restore', { name: null }), actionOn('DROP-1', 'delete')],
  [
    'a message to the agent',
    'a stop',
    true,
    actionOn('DROP-1', 'tell', { text: 'Go on.' }),
    actionOn('DROP-1', 'stop'),
  ],
  ['a delete', 'a stop', false, actionOn('DROP-1', 'delete', { force: false }), actionOn('DROP-1', 'stop')],
  ['a delete', 'a delete', false, actionOn('DROP-1', 'delete', { force: false }), actionOn('DROP-1', 'delete')],
  [
    ...(['a delete', 'a delete that does not look for work', true] as const),
    ...([actionOn('DROP-1', 'delete', { force: false }), actionOn('DROP-1', 'delete', { force: true })] as const),
  ],
] as const)('%s that waits for room, then %s: it gives way: %s', async ([, , givesWay, first, second]) => {
  const { store, enqueue, heartbeat, acquire, looks } = await openRunnerStage()
  const own = environmentOf('DROP-1', { status: 'stopped' })
  await heartbeat([own])
  await enqueue('a', first)
  const lease = await acquire()
  const needs = { cpus: 0, memoryMiB: 0, diskGiB: 999 }
  const failure = { kind: 'capacity', message: 'no room', remedy: null, needs } as const
  await store.queue.fail('a', lease?.token ?? '', { failure, retry: true, environment: own, messages: [] })
  const waits = async () => {
    for (let n = 0; n < 5; n += 1) {
      await heartbeat([own])
      await looks(5)
    }
  }
  await waits()
  expect(await store.queue.get('a')).toMatchObject({ state: 'pending' })
  await enqueue('b', second)
  await waits()
  if (!givesWay) return expect(await store.queue.get('a')).toMatchObject({ state: 'pending' })
  expect(await store.queue.get('a')).toMatchObject({ state: 'dead', outcome: { failure: { kind: 'refused' } } })
  expect(await acquire()).toMatchObject({ id: 'b' })
})

test('a create without a machine goes on waiting for room, whatever was requested since', async () => {
  const { store, enqueue, heartbeat, acquire, looks } = await openRunnerStage()
  await heartbeat([])
  await enqueue('a', actionOn('DROP-1', 'create'))
  const lease = await acquire()
  const needs = { cpus: 0, memoryMiB: 0, diskGiB: 999 }
  const failure = { kind: 'capacity', message: 'no room', remedy: null, needs } as const
  await store.queue.fail('a', lease?.token ?? '', { failure, retry: true, environment: null, messages: [] })
  await enqueue('b', actionOn('DROP-1', 'stop'))
  for (let n = 0; n < 8; n += 1) {
    await heartbeat([])
    await looks(5)
  }
  expect(await store.queue.get('a')).toMatchObject({ state: 'pending' })
})

test('a create of a ticket that has its machine is never rejected', async () => {
  const { store, enqueue, heartbeat, looks } = await openRunnerStage()
  await enqueue('a', actionOn('DROP-1', 'create'))
  for (let n = 0; n < 6; n += 1) {
    await heartbeat([environmentOf('DROP-1')], { offer: without([]) })
    await looks(5)
  }
  expect(await store.queue.get('a')).toMatchObject({ state: 'pending' })
})
