/** The room that ready machines take of a host, and give. */
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { fail } from '../../../src/errors.ts'
import { withRoomLock } from '../../../src/registry/lock.ts'
import { roomNow } from '../../../src/runner/room.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions } from '../../support/context.ts'
import { poolOf, setPools } from '../../support/pools.ts'
import { openStage, type Stage } from './stage.ts'

const T = 'DROP-1'
const GIB = 1024 ** 3

let it: Stage['it']
let filler: Stage['filler']
let machines: Stage['machines']
let states: Stage['states']
let problem: Stage['problem']
let listed: Stage['listed']
let wrap: Stage['wrap']
let clean: Stage['clean']
beforeEach(async () => {
  ;({ it, filler, machines, states, problem, listed, wrap, clean } = await openStage())
})
afterEach(() => it.close())

describe('room', () => {
  const host = (memory: number, used = 0): Partial<Provider> => ({
    capacity: async () => ({
      cpus: 64,
      memoryBytes: { total: memory * GIB, available: (memory - used) * GIB },
      diskBytes: { total: 1024 * GIB, available: 1024 * GIB },
    }),
    usage: async () => new Map(),
  })
  const freeMiB = async (emptied: boolean) => {
    const provider = await it.provider()
    const [capacity, usage] = await Promise.all([provider.capacity?.(), provider.usage?.()])
    if (capacity === undefined || usage === undefined) throw new Error('the provider has no capacity')
    return roomNow(it.context, 'synthetic', { capacity, usage }, { emptied })
  }

  test('ready machines count, and people are told of them', async () => {
    wrap(provider => ({ ...provider, ...host(16) }))
    setPools(it.context, poolOf({ ready: 2 }))
    await filler.fill()
    const [beside, without] = [await freeMiB(false), await freeMiB(true)]
    expect(without.free.memoryMiB - beside.free.memoryMiB).toBe(2 * 4096)
    expect(beside.held).toMatchObject({ machines: 2, ready: 2, tickets: [] })
    const { behindWhat } = await import('../../../src/room.ts')
    expect(behindWhat('memoryMiB', beside)).toMatch(/^2 ready machines use 8 GiB of/)
  })

  test('they give way to a create, the oldest first, and are not made again while there is no room', async () => {
    wrap(provider => ({ ...provider, ...host(9) }))
    setPools(it.context, poolOf({ ready: 2, image: 'other' }))
    await filler.fill()
    const [oldest, newer] = machines()
    expect(await it.do(actions.create(T))).toMatchObject({ result: 'done' })
    expect(machines()).toMatchObject([{ vmId: newer?.vmId, state: 'ready' }])
    expect(await listed(oldest?.vmId ?? '')).toBeUndefined()
    await filler.round()
    expect(problem('other')).toContain('the host has no room for 4 GiB of memory more')
    expect(machines()).toMatchObject([{ vmId: newer?.vmId }])
    expect(await it.do(actions.create('DROP-2'))).toMatchObject({ result: 'done' })
    expect(machines()).toEqual([])
    expect(await it.do(actions.create('DROP-3'))).toMatchObject({ result: 'failed', failure: { kind: 'capacity' } })
    await clean()
  })

  test('they give way to a fork, too', async () => {
    await it.do(actions.create(T))
    wrap(provider => ({ ...provider, ...host(18) }))
    setPools(it.context, poolOf({ ready: 2, image: 'other' }))
    await filler.fill()
    const [oldest, newer] = machines()
    expect(await it.do(actions.fork(T, 2))).toMatchObject({ result: 'done' })
    expect(await listed(oldest?.vmId ?? '')).toBeUndefined()
    expect(machines()).toMatchObject([{ vmId: newer?.vmId, state: 'ready' }])
  })

  test('while one leaves, it has its room, and nobody else waits for it', async () => {
    const deleting = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    wrap(provider => ({
      ...provider,
      ...host(9),
      deleteVm: async id => {
        begun.resolve()
        await deleting.promise
        await provider.deleteVm(id)
      },
    }))
    setPools(it.context, poolOf({ ready: 2, image: 'other' }))
    await filler.fill()
    const creating = it.do(actions.create(T))
    await begun.promise
    expect(states().toSorted()).toEqual(['leaving', 'ready'])
    expect((await freeMiB(false)).held).toMatchObject({ ready: 2 })
    await withRoomLock(it.home, AbortSignal.timeout(10_000), async () => {})
    deleting.resolve()
    expect(await creating).toMatchObject({ result: 'done' })
    expect(states()).toEqual(['ready'])
  })

  test('a create waits for room while one that gives way cannot be deleted', async () => {
    wrap(provider => ({
      ...provider,
      ...host(5),
      deleteVm: id => (id.startsWith('as-pool-') ? Promise.reject(fail('busy', 'locked')) : provider.deleteVm(id)),
    }))
    setPools(it.context, poolOf({ image: 'other' }))
    await filler.fill()
    const outcome = {
      result: 'failed',
      failure: {
        kind: 'capacity',
        message: `creating ${T}: a ready machine gives way to it, and is not gone yet: locked`,
        needs: { memoryMiB: 4096 },
      },
    }
    expect(await it.do(actions.create(T))).toMatchObject(outcome)
    // Still so: it has its memory until it is gone.
    expect(await it.do(actions.create(T))).toMatchObject(outcome)
    expect(it.context.registry.environments()).toEqual([])
  })

  test('one that is given up begins no further step', async () => {
    const cancelling = new AbortController()
    const steps: string[] = []
    wrap(provider => ({
      ...provider,
      createVm: async (...values) => {
        cancelling.abort()
        return provider.createVm(...values)
      },
      startVm: async id => {
        steps.push('start')
        await provider.startVm(id)
      },
    }))
    setPools(it.context, poolOf())
    expect(await filler.round({ signal: cancelling.signal })).toBe(false)
    expect([steps, machines(), it.machines()]).toEqual([[], [], []])
  })

  test('one that is being made gives way, too', async () => {
    wrap(provider => ({ ...provider, ...host(5) }))
    setPools(it.context, poolOf())
    const begun = Promise.withResolvers<string>()
    const cancelling = new AbortController()
    const suspending = Promise.withResolvers<void>()
    wrap(provider => ({
      ...provider,
      suspend: async id => {
        suspending.resolve()
        // Until it is given up.
        if (!cancelling.signal.aborted) await once(cancelling.signal, 'abort')
        await provider.suspend?.(id)
      },
    }))
    const filling = filler.round({ signal: cancelling.signal, onBegun: begun.resolve })
    const vmId = await begun.promise
    await suspending.promise
    const creating = it.do({ ...actions.create(T), machine: { memoryMiB: 4096 } } as Action, {
      onPhase: phase => {
        if (phase.startsWith('room:')) setTimeout(() => cancelling.abort(), 0)
      },
    })
    expect(await creating).toMatchObject({ result: 'done' })
    expect(await filling).toBe(false)
    expect(await listed(vmId)).toBeUndefined()
    expect(machines()).toEqual([])
  })
})
