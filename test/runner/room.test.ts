/** Whether a machine fits on its host: room, reserve, and who gets the last of it. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Capacity } from '../../providers/provider.ts'
import { hostStatus } from '../../src/cli/status/host.ts'
import { openOffer } from '../../src/runner/offer.ts'
import { planAction } from '../../src/runner/plan.ts'
import type { Action } from '../../src/schema/action.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

const GIB = 1024 ** 3
let it: TestContext
/** What the host has. Machines have 4 GiB and 2 CPUs. */
let host: Capacity
let reads: number
const hostOf = (memoryGiB: number, diskGiB = 500): Capacity => ({
  cpus: 8,
  memoryBytes: { total: memoryGiB * GIB, available: memoryGiB * GIB },
  diskBytes: { total: 1000 * GIB, available: diskGiB * GIB },
})
beforeEach(async () => {
  it = await openTestContext()
  host = hostOf(10)
  reads = 0
  wrapProviders(it.context, provider => ({
    ...provider,
    capacity: async () => {
      reads += 1
      return host
    },
  }))
})
afterEach(() => it.close())
const noRoom = (message: string, remedy: string) => ({
  result: 'failed',
  failure: {
    kind: 'capacity',
    message: expect.stringContaining(message),
    remedy: expect.stringContaining(remedy),
    needs: { cpus: 2, memoryMiB: 4096, diskGiB: 4 },
  },
})

test('a create without room fails, names what has it and what to stop, and makes nothing', async () => {
  await it.do(actions.create('KEEP-1'))
  await it.do(actions.create('KEEP-2'))
  expect(await it.do(actions.create('DROP-1'))).toMatchObject(
    noRoom('KEEP-1, KEEP-2 use 8 GiB of 9.5 GiB of memory', 'agent-swarm stop KEEP-1. Or wait for room: '),
  )
  expect(it.machines()).toHaveLength(2)
  expect(it.context.registry.environment('DROP-1')).toBeNull()
  await expect(planAction(it.context, actions.create('DROP-1'))).rejects.toMatchObject({
    failure: { kind: 'capacity' },
  })
})

test('status counts as many machines as creates find room for', async () => {
  const fits = async () => (await hostStatus(it.context, null)).status.fits
  expect(await fits()).toMatchObject({ environments: 2, endsFirst: 'memory' })
  await it.do(actions.create('KEEP-1'))
  expect(await fits()).toMatchObject({ environments: 1 })
  await it.do(actions.create('KEEP-2'))
  expect(await fits()).toMatchObject({ environments: 0 })
})

test('room that a stop or a delete makes is there at once, and a stopped machine needs room to start', async () => {
  await it.do(actions.create('KEEP-1'))
  await it.do(actions.create('KEEP-2'))
  await it.do(actions.stop('KEEP-1'))
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'done' })
  expect(await it.do(actions.start('KEEP-1'))).toMatchObject(noRoom('starting KEEP-1', 'agent-swarm stop KEEP-2'))
  expect(it.context.registry.environment('KEEP-1')).toMatchObject({ status: 'stopped' })
  await it.do(actions.delete('KEEP-2', true))
  expect(await it.do(actions.start('KEEP-1'))).toMatchObject({ result: 'done' })
})

test('a restart and a restore that would start a stopped machine need room too, and touch nothing without', async () => {
  await it.do(actions.create('KEEP-1'))
  await it.do(actions.checkpoint('KEEP-1', 'one'))
  await it.do(actions.stop('KEEP-1'))
  for (const ticket of ['KEEP-2', 'KEEP-3']) await it.do(actions.create(ticket))
  const restart = { ...actions.start('KEEP-1'), kind: 'restart' } as Action
  const restore = actions.restore('KEEP-1', 'one')
  const cold = { ...restore, cold: true } as Action
  for (const action of [restart, restore, cold])
    expect(await it.do(action)).toMatchObject(noRoom('starting KEEP-1', 'agent-swarm stop KEEP-2'))
  expect(it.context.registry.checkpoints('KEEP-1')).toHaveLength(1)
  expect(await (await it.provider()).status(it.vmIdOf('KEEP-1'))).toBe('stopped')
})

test('a delete that has to start the machine to ask it needs memory too, and waits for it; one by force needs none', async () => {
  await it.do(actions.create('KEEP-1'))
  await it.do(actions.stop('KEEP-1'))
  it.context.registry.setUnsavedWork('KEEP-1', null)
  for (const ticket of ['KEEP-2', 'KEEP-3']) await it.do(actions.create(ticket))
  // The plan foresees it.
  await expect(planAction(it.context, actions.delete('KEEP-1'))).rejects.toThrow('starting KEEP-1: it needs')
  expect(await planAction(it.context, actions.delete('KEEP-1', true))).toMatchObject({ would: [expect.any(String)] })
  expect(await it.do(actions.delete('KEEP-1'))).toMatchObject({
    result: 'failed',
    failure: { kind: 'capacity', needs: { cpus: 2, memoryMiB: 4096, diskGiB: 0 } },
  })
  expect(it.context.registry.environment('KEEP-1')).toMatchObject({ status: 'stopped', unsavedWork: null })
  await it.do(actions.stop('KEEP-2'))
  // A full disk is no reason to keep it.
  host = hostOf(10, 0)
  expect(await it.do(actions.delete('KEEP-1'))).toMatchObject({ result: 'done' })
  host = hostOf(5)
  it.context.registry.setUnsavedWork('KEEP-2', null)
  expect(await it.do(actions.delete('KEEP-2', true))).toMatchObject({ result: 'done' })
})

test('of two creates at the same time, one gets the last room', async () => {
  host = hostOf(5)
  const outcomes = await Promise.all([it.do(actions.create('DROP-1')), it.do(actions.create('DROP-2'))])
  expect(outcomes.map(({ result }) => result).sort()).toEqual(['done', 'failed'])
  expect(it.machines()).toHaveLength(1)
})

test('the reserve stays free, and a checkpoint needs disk', async () => {
  host = hostOf(4)
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({
    failure: { kind: 'capacity', message: expect.stringContaining('for machines in all') },
  })
  host = hostOf(10, 13)
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({
    failure: { kind: 'capacity', message: expect.stringContaining('4 GiB of disk, and 3 GiB of disk is free') },
  })
  host = hostOf(10, 14)
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'done' })
})

test('virtual CPUs are limited too', async () => {
  host = { ...hostOf(100), cpus: 1 }
  for (const n of [1, 2, 3, 4]) await it.do(actions.create(`KEEP-${n}`))
  expect(await it.do(actions.create('DROP-1'))).toMatchObject(
    noRoom('KEEP-1, KEEP-2, KEEP-3, KEEP-4 use 8 of 8 virtual CPUs', 'agent-swarm stop KEEP-'),
  )
})

test('a host that cannot tell refuses nothing', async () => {
  host = { ...hostOf(10), memoryBytes: { total: 0, available: 0 } }
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'done' })
})

test('an offer has the machines that take the room, and reads the host no more often for them', async () => {
  const offer = openOffer(it.context, new Set())
  await it.do(actions.create('KEEP-1'))
  reads = 0
  for (const _ of [1, 2, 3])
    expect((await offer.read()).room).toMatchObject({
      free: { memoryMiB: 9728 - 4096, cpus: 62 },
      held: { tickets: ['KEEP-1'], machines: 1, memoryMiB: 4096 },
    })
  expect(reads).toBe(1)
})
