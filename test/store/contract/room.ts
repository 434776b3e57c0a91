/** What waits: for room on a host, or for one of its person's machines to go. */
import { describe, expect, test } from 'vitest'
import type { Offer } from '../../../src/schema/runner-protocol.ts'
import { ROOM_PATIENCE_MS, ROOM_RETRY_MS } from '../../../src/store/port.ts'
import { done, environmentOf, failure, heartbeatOf, queued, withFree } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

const create = (id: string, ticket: string, more: object = {}) => queued(id, 'create', ticket, more)
const ada = { via: 'jira', who: 'ada' } as const
const needs = { cpus: 2, memoryMiB: 4096, diskGiB: 4 }
const noRoom = {
  ...{ failure: { kind: 'capacity', message: 'no room', remedy: null, needs } as const, retry: false },
  ...{ environment: null, messages: [] },
} as const

export const roomContract = (open: Open) => {
  describe('room', () => {
    test('an action that found no room waits until there is as much, which counts as no attempt', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      await add(queued('1', 'start', 'DROP-1'))
      for (let n = 0; n < 20; n += 1) {
        const lease = await claim('runner-1', withFree(8192))
        expect(lease.attempt).toBe(1)
        expect(await store.queue.fail(lease.id, lease.token, noRoom)).toBe('retry')
        expect(await store.queue.claim('runner-1', withFree(8192))).toBeNull()
        pass(ROOM_RETRY_MS)
      }
      expect(await store.queue.get('1')).toMatchObject({ state: 'pending', attempt: 0, needs })
      expect(await store.queue.claim('runner-1', withFree(4095))).toBeNull()
      expect(await claim('runner-1', withFree(4096))).toMatchObject({ id: '1' })
    })

    test('a fork that found no room ends, and keeps nobody waiting', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      await add(queued('fork', 'fork', 'DROP-1', { from: null, count: 2 }))
      const lease = await claim('runner-1', withFree(2048))
      expect(await store.queue.fail(lease.id, lease.token, noRoom)).toBe('dead')
      expect(await store.queue.get('fork')).toMatchObject({ state: 'dead', outcome: { failure: noRoom.failure } })
      await add(queued('delete', 'delete', 'DROP-1'), create('small', 'DROP-2'))
      pass(ROOM_PATIENCE_MS)
      expect(await claim('runner-1', withFree(2048))).toMatchObject({ id: 'delete' })
      expect(await claim('runner-1', withFree(2048))).toMatchObject({ id: 'small' })
    })

    test('a create that found no room, or made nothing, is any runner’s', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await add(create('1', 'DROP-1'), create('2', 'DROP-2'), create('3', 'DROP-3'))
      const [first, second, third] = [await claim(), await claim(), await claim()]
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
      await store.queue.fail(first.id, first.token, noRoom)
      const made = { failure, environment: null, messages: [] }
      expect(await store.queue.fail(second.id, second.token, { ...made, retry: true })).toBe('retry')
      expect(await store.queue.fail(third.id, third.token, { ...made, retry: false })).toBe('dead')
      for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3']) expect(await store.queue.pinnedTo(ticket)).toBeNull()
      pass(60_000)
      expect(await claim('runner-2', withFree(8192))).toMatchObject({ id: '1' })
    })

    test('a create that left something stays with its runner', async () => {
      const { store, add, claim } = await openStage(open)
      await add(create('1', 'DROP-1'))
      const lease = await claim()
      const environment = environmentOf('DROP-1', { status: 'failed' })
      await store.queue.fail(lease.id, lease.token, { failure, retry: false, environment, messages: [] })
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
    })

    test('a large create that has waited for room for long is not overtaken any more', async () => {
      const { add, claim, pass, store } = await openStage(open)
      await add(create('large', 'DROP-1', { machine: { memoryMiB: 8192 } }))
      await add(create('small-1', 'DROP-2'), create('small-2', 'DROP-3'), queued('stop', 'stop', 'DROP-4'))
      expect(await claim('runner-1', withFree(4096))).toMatchObject({ id: 'small-1' })
      pass(ROOM_PATIENCE_MS)
      // What needs no room goes on.
      expect(await claim('runner-1', withFree(4096))).toMatchObject({ id: 'stop' })
      expect(await store.queue.claim('runner-1', withFree(4096))).toBeNull()
      expect(await claim('runner-1', withFree(8192))).toMatchObject({ id: 'large' })
      expect(await claim('runner-1', withFree(4096))).toMatchObject({ id: 'small-2' })
    })

    test('a start that has waited for room for long is not overtaken by creates any more', async () => {
      const { add, claim, pass, store } = await openStage(open)
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      await add(queued('start', 'start', 'DROP-1'))
      const lease = await claim('runner-1', withFree(2048))
      expect(await store.queue.fail(lease.id, lease.token, noRoom)).toBe('retry')
      await add(create('small-1', 'DROP-2'), create('small-2', 'DROP-3'))
      expect(await claim('runner-1', withFree(2048))).toMatchObject({ id: 'small-1' })
      pass(ROOM_PATIENCE_MS)
      expect(await store.queue.claim('runner-1', withFree(2048))).toBeNull()
      // It waits for the room of its own host.
      expect(await claim('runner-2', withFree(2048))).toMatchObject({ id: 'small-2' })
      expect(await claim('runner-1', withFree(4096))).toMatchObject({ id: 'start' })
    })

    test('nobody waits behind what cannot have its room although all machines stop', async () => {
      const { add, claim, pass, store } = await openStage(open)
      const busy = (memoryMiB: number, diskGiB = 100): Offer => {
        const { room, ...offer } = withFree(4096)
        if (room === null) throw new Error('unreachable')
        const held = { tickets: ['DROP-9'], machines: 1, cpus: 2, memoryMiB }
        return { ...offer, room: { ...room, free: { ...room.free, diskGiB }, held } }
      }
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      await add(queued('start', 'start', 'DROP-1'))
      const lease = await claim()
      const needs = { cpus: 2, memoryMiB: 8192, diskGiB: 8 }
      await store.queue.fail(lease.id, lease.token, { ...noRoom, failure: { ...noRoom.failure, needs } })
      await add(create('large', 'DROP-2', { machine: { memoryMiB: 8192 } }))
      for (let n = 3; n <= 5; n += 1) await add(create(`small-${n}`, `DROP-${n}`))
      pass(ROOM_PATIENCE_MS)
      expect(await store.queue.claim('runner-1', busy(4096))).toBeNull()
      // Other programs have the memory, or the disk is full.
      expect(await claim('runner-1', busy(2048))).toMatchObject({ id: 'small-3' })
      expect(await claim('runner-1', busy(4096, 4))).toMatchObject({ id: 'small-4' })
      expect(await store.queue.claim('runner-1', busy(4096))).toBeNull()
    })
  })

  describe('machines of one person', () => {
    const limited = async (machinesPerPerson: number | null = 2) =>
      openStage(clock => open(clock, { machinesPerPerson }))
    const ofAda = (ticket: string) => environmentOf(ticket, { createdBy: ada })

    test('a create beyond the limit waits, and goes on when one of them is gone', async () => {
      const { store, add, claim } = await limited()
      await store.runners.heartbeat(heartbeatOf([ofAda('DROP-1')]))
      await add(create('2', 'DROP-2', { by: ada }), create('3', 'DROP-3', { by: ada }), create('4', 'DROP-4'))
      const second = await claim()
      expect(second).toMatchObject({ id: '2' })
      // Somebody else's.
      expect(await claim()).toMatchObject({ id: '4' })
      expect(await store.queue.claim('runner-1', withFree(8192))).toBeNull()
      expect(await store.queue.beyondLimit('3')).toEqual(['DROP-1', 'DROP-2'])
      await store.queue.complete(second.id, second.token, done(ofAda('DROP-2')), [])
      expect(await store.queue.beyondLimit('3')).toEqual(['DROP-1', 'DROP-2'])
      await add(queued('delete', 'delete', 'DROP-1'))
      const gone = await claim()
      await store.queue.complete(gone.id, gone.token, done(), [])
      expect(await store.queue.beyondLimit('3')).toBeNull()
      expect(await claim()).toMatchObject({ id: '3' })
    })

    test('the assignee counts, whoever asked; the command line counts for nobody', async () => {
      const { store, add, effects } = await limited(1)
      await effects({ kind: 'ticket-decided', ticket: 'DROP-1', state: { category: 'indeterminate', assignee: 'ada' } })
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1'), environmentOf('DROP-9')]))
      await add(create('2', 'DROP-2', { by: ada }), create('3', 'DROP-3', { by: { via: 'cli', who: null } }))
      expect(await store.queue.beyondLimit('2')).toEqual(['DROP-1'])
      expect(await store.queue.beyondLimit('3')).toBeNull()
    })

    test('attempts count, those that a fork is making too; a fork beyond the limit is not given out', async () => {
      const { store, add, claim } = await limited(4)
      const fork = (id: string, ticket: string, count: number) =>
        queued(id, 'fork', ticket, { from: null, count, by: ada })
      await store.runners.heartbeat(heartbeatOf([ofAda('DROP-1'), ofAda('DROP-1~1')]))
      await add(fork('2', 'DROP-1', 3))
      expect(await store.queue.claim('runner-1', withFree(8192))).toBeNull()
      expect(await store.queue.beyondLimit('2')).toEqual(['DROP-1', 'DROP-1~1'])
      await store.queue.cancel('2')
      await add(fork('3', 'DROP-1', 2), create('4', 'DROP-2', { by: ada }))
      const forking = await claim()
      expect(forking).toMatchObject({ id: '3' })
      expect(await store.queue.beyondLimit('4')).toEqual(['DROP-1', 'DROP-1~1'])
      const made = [ofAda('DROP-1~2'), ofAda('DROP-1~3')]
      await store.runners.heartbeat(heartbeatOf([ofAda('DROP-1'), ofAda('DROP-1~1'), ...made]))
      await store.queue.complete(forking.id, forking.token, done(ofAda('DROP-1')), [])
      expect(await store.queue.beyondLimit('4')).toEqual(['DROP-1', 'DROP-1~1', 'DROP-1~2', 'DROP-1~3'])
    })

    test('an attempt is its ticket’s assignee’s', async () => {
      const { store, add, effects } = await limited(2)
      await effects({ kind: 'ticket-decided', ticket: 'DROP-1', state: { category: 'indeterminate', assignee: 'ada' } })
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1'), environmentOf('DROP-1~1')]))
      await add(create('2', 'DROP-2', { by: ada }))
      expect(await store.queue.beyondLimit('2')).toEqual(['DROP-1', 'DROP-1~1'])
    })

    test('without a limit, nobody waits', async () => {
      const { store, add, claim } = await limited(null)
      await store.runners.heartbeat(heartbeatOf([ofAda('DROP-1')]))
      await add(create('2', 'DROP-2', { by: ada }))
      expect(await store.queue.beyondLimit('2')).toBeNull()
      expect(await claim()).toMatchObject({ id: '2' })
    })
  })
}
