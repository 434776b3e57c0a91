/** Machines that are kept ready, on synthetic ones: how they are made, and when not. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { fail } from '../../../src/errors.ts'
import { planAction } from '../../../src/runner/plan.ts'
import { openFiller } from '../../../src/runner/pool/filler.ts'
import { actions } from '../../support/context.ts'
import { poolOf, setPools, withForks } from '../../support/pools.ts'
import { openStage, type Stage } from './stage.ts'

const T = 'DROP-1'
const HOUR = 60 * 60_000
const GIB = 1024 ** 3

let it: Stage['it']
let filler: Stage['filler']
let machines: Stage['machines']
let states: Stage['states']
let problem: Stage['problem']
let listed: Stage['listed']
let savedMachines: Stage['savedMachines']
let later: Stage['later']
let wrap: Stage['wrap']
let clean: Stage['clean']
beforeEach(async () => {
  ;({ it, filler, machines, states, problem, listed, savedMachines, later, wrap, clean } = await openStage())
})
afterEach(() => it.close())

describe('filling', () => {
  test('keeps as many machines ready as the pool says, suspended and without a ticket, and no more', async () => {
    setPools(it.context, poolOf({ ready: 2 }))
    await filler.fill()
    expect(states()).toEqual(['ready', 'ready'])
    for (const { vmId } of machines())
      expect(await listed(vmId)).toMatchObject({ ticket: null, status: 'running', pauseCause: 'asked' })
    expect(await filler.round()).toBe(false)
    expect(it.machines()).toHaveLength(2)
    await clean()
  })

  test('without the setting, nothing is made', async () => {
    expect(await filler.round()).toBe(false)
    expect(it.machines()).toEqual([])
  })

  test('saves them where the pool holds them on disk', async () => {
    setPools(it.context, poolOf({ hold: 'disk' }))
    await filler.fill()
    expect(await savedMachines()).toEqual(machines().map(({ vmId }) => vmId))
    expect(await it.do(actions.create(T))).toMatchObject({ result: 'done', environment: { status: 'running' } })
    expect(await savedMachines()).toEqual([])
  })

  test('one on disk needs its memory again: the plan of a create on a full host says so', async () => {
    setPools(it.context, poolOf({ hold: 'disk' }))
    await filler.fill()
    wrap(provider => ({
      ...provider,
      capacity: async () => ({
        cpus: 8,
        memoryBytes: { total: 8 * GIB, available: GIB },
        diskBytes: { total: 100 * GIB, available: 100 * GIB },
      }),
    }))
    await expect(planAction(it.context, actions.create(T))).rejects.toMatchObject({
      failure: { kind: 'capacity', needs: expect.anything() },
    })
  })

  test.for<[string, Partial<Provider>, 'memory' | 'disk', string]>([
    ['suspend', { suspend: undefined } as never, 'memory', 'synthetic cannot suspend a machine'],
    ['save', { save: undefined } as never, 'disk', "synthetic cannot save a machine's memory"],
    ['assign', { assign: undefined } as never, 'memory', 'synthetic cannot give a machine its ticket later'],
    [
      'the image',
      { listBaseImages: async () => ['other'] },
      'memory',
      'synthetic has no base image agent-swarm-base; it has other',
    ],
  ])('a provider without %s: the problem is noted, and creates go on without', async ([, without, hold, text]) => {
    wrap(provider => ({ ...provider, ...without }))
    setPools(it.context, poolOf({ hold }))
    expect(await filler.round()).toBe(false)
    expect(problem()).toContain(text)
    expect(it.machines()).toEqual([])
    expect(await it.do(actions.create(T))).toMatchObject({ result: 'done' })
  })

  test('never begins while an action runs or waits', async () => {
    setPools(it.context, poolOf())
    const { registry } = it.context
    const by = { via: 'cli', who: 'tester' } as const
    const since = it.context.clock().toISOString()
    const waiting = registry.beginWaiting({ pid: process.pid, ticket: T, kind: 'create', by, since, why: 'no room' })
    expect(await filler.round()).toBe(false)
    expect(it.machines()).toEqual([])
    registry.endWaiting(waiting)
    registry.setQueued(since, [{ ticket: T, kind: 'create', by, since, why: 'no runner has room' }])
    expect(await filler.round()).toBe(false)
    // What waits for so long waits for something else.
    later(HOUR)
    expect(await filler.round()).toBe(true)
    expect(states()).toEqual(['ready'])
  })

  test('one that fails leaves nothing, says why, and is tried again later', async () => {
    setPools(it.context, poolOf())
    let broken = true
    wrap(provider => ({
      ...provider,
      suspend: async id => {
        if (broken) throw fail('busy', 'suspending it: the hypervisor is busy')
        await provider.suspend?.(id)
      },
    }))
    expect(await filler.round()).toBe(true)
    expect([machines(), it.machines(), problem()]).toEqual([[], [], 'suspending it: the hypervisor is busy'])
    broken = false
    expect(await filler.round()).toBe(false)
    filler.pass(HOUR)
    expect(await filler.round()).toBe(true)
    expect([states(), problem()]).toEqual([['ready'], null])
  })

  test('forks one template where the provider can, which is made once and kept stopped', async () => {
    const forks: string[] = []
    wrap(withForks(forks, it.home))
    setPools(it.context, poolOf({ ready: 2, most: 4 }))
    await filler.fill()
    expect(states()).toEqual(['template', 'ready', 'ready'])
    const [template] = machines()
    expect(forks).toEqual([template?.vmId, template?.vmId])
    expect(await listed(template?.vmId ?? '')).toMatchObject({ status: 'stopped', ticket: null })
    expect(await it.do(actions.create(T))).toMatchObject({ result: 'done' })
    expect(it.vmIdOf(T)).not.toBe(template?.vmId)
    await filler.fill()
    expect(states()).toEqual(['template', 'ready', 'ready'])
    await clean()
  })

  test('a template that nothing can be forked from is given up, and another one is made; no lock of it stays', async () => {
    const forks: string[] = []
    let broken = true
    wrap(provider => {
      const forking = withForks(forks, it.home)(provider)
      const fork: Provider['fork'] = async (...values) => {
        if (broken) throw fail('damaged', 'forking it: a layer is damaged')
        await forking.fork?.(...values)
      }
      return { ...forking, fork }
    })
    setPools(it.context, poolOf({ ready: 1, most: 4 }))
    expect(await filler.round()).toBe(true)
    expect([machines(), problem()]).toEqual([[], 'forking it: a layer is damaged'])
    expect(readdirSync(join(it.home, 'locks')).filter(name => name.startsWith('as-'))).toEqual([])
    broken = false
    filler.pass(HOUR)
    await filler.fill()
    expect(states()).toEqual(['template', 'ready'])
    await clean()
  })

  test('a template gets a second try after a failure that nobody foresaw, and no third one', async () => {
    const forks: string[] = []
    let broken = 1
    wrap(provider => {
      const forking = withForks(forks, it.home)(provider)
      const fork: Provider['fork'] = async (...values) => {
        broken -= 1
        if (broken >= 0) throw new Error('the monitor closed')
        await forking.fork?.(...values)
      }
      return { ...forking, fork }
    })
    setPools(it.context, poolOf({ ready: 1, most: 4 }))
    expect(await filler.round()).toBe(true)
    const [template] = machines()
    expect([states(), problem()]).toEqual([['template'], expect.stringContaining('the monitor closed')])
    filler.pass(HOUR)
    await filler.fill()
    expect(forks).toEqual([template?.vmId])
    await it.do(actions.create(T))
    broken = 2
    for (const left of [['template'], []]) {
      filler.pass(HOUR)
      expect(await filler.round()).toBe(true)
      expect(states()).toEqual(left)
    }
    await clean()
  })
})

describe('beside a create that begins while a machine is made', () => {
  /** A runner's filler, which sees the create when its machine starts. */
  const openRunning = (change: (provider: Provider) => Partial<Provider>) => {
    setPools(it.context, poolOf())
    wrap(provider => {
      const changed = { ...provider, ...change(provider) }
      return {
        ...changed,
        startVm: async (id, options) => {
          if (!id.startsWith('as-pool-')) await running.nudge()
          await changed.startVm(id, options)
        },
      }
    })
    const changed = Promise.withResolvers<void>()
    filler.tools.onChange = changed.resolve
    const running = openFiller(filler.tools)
    onTestFinished(() => running.close(10_000))
    return { running, changed: changed.promise }
  }

  test('one that boots gives way, and another one is made afterwards', async () => {
    const booting = Promise.withResolvers<string>()
    const mayAnswer = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<string>()
    const { running, changed } = openRunning(provider => ({
      startVm: async (id, options) => {
        await provider.startVm(id, options)
        if (!id.startsWith('as-pool-')) return mayAnswer.resolve()
        booting.resolve(id)
        await mayAnswer.promise
      },
      deleteVm: async id => {
        await provider.deleteVm(id)
        ended.resolve(`${id} is deleted`)
      },
      suspend: async id => {
        await provider.suspend?.(id)
        ended.resolve(`${id} is ready`)
      },
    }))
    const vmId = await booting.promise
    expect(await it.do(actions.create(T))).toMatchObject({ result: 'done' })
    expect(await ended.promise).toBe(`${vmId} is deleted`)
    await running.nudge()
    await changed
    expect(states()).toEqual(['ready'])
    expect(it.machines()).not.toContain(vmId)
  })

  test('one that has booted is made to its end', async () => {
    let vmId = ''
    const { changed } = openRunning(provider => ({
      suspend: async id => {
        vmId = id
        expect(await it.do(actions.create(T))).toMatchObject({ result: 'done' })
        await provider.suspend?.(id)
      },
    }))
    await changed
    expect(machines()).toMatchObject([{ vmId, state: 'ready' }])
  })
})
