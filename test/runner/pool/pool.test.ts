/** Machines that are kept ready, on synthetic ones: what is made, handed out, given up, and what is not. */
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { hostPage, hostStatus } from '../../../src/cli/status/host.ts'
import { fail } from '../../../src/errors.ts'
import { tryRunnerLock, withRoomLock } from '../../../src/registry/lock.ts'
import { guestHash } from '../../../src/runner/link/guest-files.ts'
import { planAction } from '../../../src/runner/plan.ts'
import { openFiller } from '../../../src/runner/pool/filler.ts'
import { poolStandings, readyText, standingText } from '../../../src/runner/pool/standing.ts'
import { findAll, reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { roomNow } from '../../../src/runner/room.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'
import { openTestFiller, poolOf, setPools, withForks } from '../../support/pools.ts'

const T = 'DROP-1'
const MINUTE = 60_000
const HOUR = 60 * MINUTE
const GIB = 1024 ** 3
const REPO = 'acme/shop'

let it: TestContext
let filler: ReturnType<typeof openTestFiller>
beforeEach(async () => {
  it = await openTestContext()
  filler = openTestFiller(it.context)
})
afterEach(() => it.close())

const machines = () => it.context.registry.poolMachines()
const states = () => machines().map(({ state }) => state)
const problem = (pool = 'agent-swarm-base') => it.context.registry.poolLook(pool)?.problem ?? null
const listed = async (vmId: string) => (await (await it.provider()).listVms()).find(vm => vm.vmId === vmId)
const savedMachines = async () =>
  (await (await it.provider()).listVms()).filter(vm => vm.saved === true).map(({ vmId }) => vmId)
const later = (milliseconds: number) => {
  const now = it.context.clock().getTime()
  it.context.clock = () => new Date(now + milliseconds)
}
const wrap = (change: (provider: Provider) => Provider) => wrapProviders(it.context, change)
const clean = async () => {
  expect((await findAll(it.context)).found).toEqual([])
  expect(it.context.registry.openOperations()).toEqual([])
}

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

describe('a create', () => {
  test('takes a ready machine, which gets its ticket, and the pool is filled again', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    const outcome = await it.do(actions.create(T))
    expect(outcome).toMatchObject({
      result: 'done',
      summary: `${T} has a machine: ${ready?.vmId} on synthetic, a ready machine of the pool agent-swarm-base`,
      environment: { vmId: ready?.vmId, status: 'running', baseImage: 'agent-swarm-base' },
    })
    expect(await listed(ready?.vmId ?? '')).toMatchObject({ ticket: T, status: 'running' })
    expect((await listed(ready?.vmId ?? ''))?.paused).toBeUndefined()
    expect(machines()).toEqual([])
    await clean()
    await filler.fill()
    expect(states()).toEqual(['ready'])
    expect(await it.do(actions.delete(T))).toMatchObject({ result: 'done' })
    expect(it.machines()).toEqual(machines().map(({ vmId }) => vmId))
  })

  test('makes a machine where none is ready, or none is of its size', async () => {
    setPools(it.context, poolOf())
    expect(await it.do(actions.create(T))).toMatchObject({ summary: expect.not.stringContaining('kept ready') })
    await filler.fill()
    it.context.config = { ...it.context.config, limits: { cpus: 8, memoryMiB: 65_536, diskGiB: 100 } }
    const larger = { ...actions.create('DROP-2'), machine: { cpus: 8 } } as Action
    expect(await it.do(larger)).toMatchObject({ summary: expect.not.stringContaining('kept ready') })
    expect(states()).toEqual(['ready'])
  })

  test('takes no machine that is more than a day old, and the filler makes it anew', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [old] = machines()
    later(25 * HOUR)
    await it.do(actions.create(T))
    expect(it.vmIdOf(T)).not.toBe(old?.vmId)
    await filler.fill()
    expect(machines().map(({ vmId }) => vmId)).not.toContain(old?.vmId)
    expect(states()).toEqual(['ready'])
    expect(await listed(old?.vmId ?? '')).toBeUndefined()
  })

  test('takes no machine that somebody woke, or whose mark has a ticket', async () => {
    setPools(it.context, poolOf({ ready: 2 }))
    await filler.fill()
    const [woken, marked] = machines()
    await (await it.provider()).startVm(woken?.vmId ?? '')
    await (await it.provider()).assign?.(marked?.vmId ?? '', 'DROP-9')
    await it.do(actions.create(T))
    expect([woken?.vmId, marked?.vmId]).not.toContain(it.vmIdOf(T))
    await filler.fill()
    // One with a ticket is not the pool's to delete.
    expect(await listed(marked?.vmId ?? '')).toMatchObject({ ticket: 'DROP-9' })
    expect(await listed(woken?.vmId ?? '')).toBeUndefined()
  })

  test('one that cannot be brought up is removed, and another machine is made, which is told', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    wrap(provider => ({
      ...provider,
      startVm: async (id, options) => {
        if (id === ready?.vmId) throw fail('unknown', 'starting it: its memory cannot be read')
        await provider.startVm(id, options)
      },
    }))
    expect(await it.do(actions.create(T))).toMatchObject({
      result: 'done',
      summary: expect.stringContaining(
        '. A ready machine could not be used, and this one was made anew: starting it: its memory cannot be read',
      ),
      environment: { status: 'running' },
    })
    expect(it.machines()).toEqual([it.vmIdOf(T)])
    expect(it.vmIdOf(T)).not.toBe(ready?.vmId)
    expect(machines()).toEqual([])
    await clean()
  })

  test('that is cancelled removes what it took', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const cancelling = new AbortController()
    const onPhase = (phase: string) => {
      if (phase === 'address') cancelling.abort()
    }
    const outcome = await it.do(actions.create(T), { signal: cancelling.signal, onPhase })
    expect(outcome).toMatchObject({ result: 'failed', failure: { kind: 'cancelled' }, environment: null })
    expect([it.machines(), machines()]).toEqual([[], []])
    await clean()
  })

  test.for(['claim', 'start', 'address'])(
    'killed at %s, it is undone, and nothing is handed out twice',
    async phase => {
      setPools(it.context, poolOf())
      await filler.fill()
      const [ready] = machines()
      const { killed } = await killAt(phase)
      expect(killed).toBe(true)
      expect(machines()).toMatchObject([{ vmId: ready?.vmId, state: 'claimed' }])
      // Another create gets another machine meanwhile.
      await it.do(actions.create('DROP-2'))
      expect(it.vmIdOf('DROP-2')).not.toBe(ready?.vmId)
      await recoverAll(it.context)
      expect(it.context.registry.environment(T)).toBeNull()
      expect([machines(), it.machines()]).toEqual([[], [it.vmIdOf('DROP-2')]])
      await clean()
    },
  )

  test.for(['claim', 'start', 'address'])(
    'killed at %s, its next attempt goes on with the same machine',
    async phase => {
      setPools(it.context, poolOf())
      await filler.fill()
      const [ready] = machines()
      await killAt(phase, 'jira:1:0')
      expect(await it.do(actions.create(T), { actionId: 'jira:1:0' })).toMatchObject({ result: 'done' })
      expect(it.vmIdOf(T)).toBe(ready?.vmId)
      expect(machines()).toEqual([])
      await clean()
    },
  )
})

/** A create in another context of this home, with the same pools, that dies at a phase. */
const killAt = async (phase: string, actionId: string | null = null): Promise<{ killed: boolean }> => {
  const { writeFileSync } = await import('node:fs')
  writeFileSync(`${it.home}/config.yaml`, 'pool: [{image: agent-swarm-base}]\n', { mode: 0o600 })
  return { killed: await it.dieAt(phase, actions.create(T), actionId) }
}

describe('a pool of a repository', () => {
  const create = { ...actions.create(T), project: { repo: REPO, branch: null, summary: null } } as Action
  const clones: string[] = []
  const moves: string[] = []
  beforeEach(() => {
    clones.length = 0
    // No guest has git here: the scripts say what they would.
    wrap(provider => ({
      ...provider,
      runInGuest: async (vmId, script) => {
        if (script.includes('bring_up_to_date')) clones.push(vmId)
        if (script.includes('from_64=')) moves.push(vmId)
        const branch = Buffer.from('main').toString('base64')
        return { stdout: `branch\t${branch}\nend\n`, stderr: '', exitCode: 0 }
      },
    }))
    setPools(it.context, poolOf({ image: null, repository: REPO }))
    filler.setHead(REPO, 'a'.repeat(40))
  })

  test('has its clone, and is taken for a ticket with that repository alone', async () => {
    await filler.fill()
    const [ready] = machines()
    expect(ready).toMatchObject({ path: '~/shop', madeOf: { repository: REPO, commit: 'a'.repeat(40) } })
    expect(clones).toEqual([ready?.vmId])
    await it.do(actions.create('DROP-2'))
    expect(it.vmIdOf('DROP-2')).not.toBe(ready?.vmId)
    expect(await it.do(create)).toMatchObject({ summary: expect.stringContaining('a ready machine of the pool') })
    expect(it.vmIdOf(T)).toBe(ready?.vmId)
    expect(it.context.registry.project(T)).toMatchObject({ repo: REPO, path: '~/shop' })
  })

  test('its folder is known to the next create, when one died after it had handed the machine out', async () => {
    filler.setFile('workspace:\n  path: ~/work\n')
    await filler.fill()
    const { registry } = it.context
    expect(machines()).toMatchObject([{ path: '~/work' }])
    it.context.projectAccess = (machine, work) => filler.tools.withAccess({ ...machine, provider: 'synthetic' }, work)
    moves.length = 0
    const vmId = machines()[0]?.vmId ?? ''
    const [by, at] = [{ via: 'cli', who: 'tester' } as const, '2026-11-30T00:00:00Z']
    const operation = registry.startOperation({
      ...{ actionId: null, correlation: null, ticket: T, kind: 'create', by, at },
    })
    registry.claimMachine({ ticket: T, provider: 'synthetic', vmId, baseImage: 'agent-swarm-base', by, operation }, at)
    registry.setStatus(T, 'running')
    registry.endOperation(operation, at, 'interrupted', null)
    registry.endClaims()
    expect(await it.do(create)).toMatchObject({ summary: expect.stringContaining('acme/shop is in ~/work') })
    expect(moves).toEqual([])
    registry.endClaims()
    expect(registry.poolMachine(vmId)).toBeNull()
  })

  const commits = () => machines().map(({ madeOf }) => madeOf.commit?.slice(0, 1))
  /** How long the machines take that boot. */
  const slowly = (minutes: number) =>
    wrap(provider => ({
      ...provider,
      createVm: async (...values) => {
        filler.pass(minutes * MINUTE)
        return provider.createVm(...values)
      },
    }))

  test('is made anew when its default branch moves, and the one of before is not taken any more', async () => {
    await filler.fill()
    const [old] = machines()
    filler.setHead(REPO, 'b'.repeat(40))
    await filler.fill()
    expect(machines()).toMatchObject([{ state: 'ready', madeOf: { commit: 'b'.repeat(40) } }])
    expect(await listed(old?.vmId ?? '')).toBeUndefined()
  })

  test('one of a former commit is taken until one of the present commit is ready', async () => {
    await filler.fill()
    const [old] = machines()
    filler.setHead(REPO, 'b'.repeat(40))
    let taken: string | null = null
    wrap(provider => ({
      ...provider,
      suspend: async id => {
        if (taken === null) {
          await it.do(create)
          taken = it.vmIdOf(T)
        }
        await provider.suspend?.(id)
      },
    }))
    await filler.fill()
    expect(taken).toBe(old?.vmId)
    expect(commits()).toEqual(['b'])
  })

  test('one of the present commit is taken before those of a former one', async () => {
    setPools(it.context, poolOf({ image: null, repository: REPO, ready: 2 }))
    await filler.fill()
    filler.setHead(REPO, 'b'.repeat(40))
    await filler.round()
    expect(commits()).toEqual(['a', 'a', 'b'])
    const newest = machines().at(-1)
    await it.do(create)
    expect(it.vmIdOf(T)).toBe(newest?.vmId)
  })

  test('of a branch that moves faster than a machine is made, one is ready all the time, and the host rests', async () => {
    slowly(8)
    let moves = 0
    wrap(provider => ({
      ...provider,
      suspend: async id => {
        moves += 1
        filler.setHead(REPO, moves.toString(16).repeat(40))
        await provider.suspend?.(id)
      },
    }))
    await filler.fill()
    expect([commits(), moves]).toEqual([['a'], 1])
    filler.pass(23 * MINUTE)
    expect(await filler.round()).toBe(false)
    filler.pass(MINUTE)
    await filler.fill()
    expect([commits(), moves]).toEqual([['1'], 2])
    // One that was taken is replaced at once.
    expect(await it.do(create)).toMatchObject({ summary: expect.stringContaining('a ready machine of the pool') })
    await filler.fill()
    expect([commits(), moves]).toEqual([['2'], 3])
  })

  test('a problem with the present commit is told while one of a former commit is ready', async () => {
    await filler.fill()
    filler.setHead(REPO, 'b'.repeat(40))
    wrap(provider => ({
      ...provider,
      suspend: async () => {
        throw fail('refused', 'setup failed')
      },
    }))
    await filler.fill()
    expect(await filler.round()).toBe(false)
    expect([commits(), problem(REPO)]).toEqual([['a'], 'setup failed'])
  })

  test.for<[string, { most: number }, number]>([
    ['the number', { most: 1 }, 64],
    ['the memory of the host', { most: 3 }, 5],
  ])('one of a former commit gives way where %s leaves no place for both', async ([, { most }, memory]) => {
    let atOnce = 0
    wrap(provider => ({
      ...provider,
      createVm: async (...values) => {
        atOnce = Math.max(atOnce, machines().length)
        return provider.createVm(...values)
      },
      capacity: async () => ({
        cpus: 8,
        memoryBytes: { total: memory * GIB, available: memory * GIB },
        diskBytes: { total: 1024 * GIB, available: 1024 * GIB },
      }),
      usage: async () => new Map(),
    }))
    setPools(it.context, poolOf({ image: null, repository: REPO, most }))
    await filler.fill()
    filler.setHead(REPO, 'b'.repeat(40))
    await filler.fill()
    expect([commits(), atOnce, problem(REPO)]).toEqual([['b'], 1, null])
  })

  test('the template of a former commit is forked until it is time for another one', async () => {
    slowly(1)
    const forks: string[] = []
    wrap(withForks(forks, it.home))
    setPools(it.context, poolOf({ image: null, repository: REPO, ready: 2, most: 4 }))
    await filler.fill()
    const [template] = machines()
    filler.setHead(REPO, 'b'.repeat(40))
    await it.do(create)
    forks.length = 0
    await filler.fill()
    expect([states(), commits(), forks]).toEqual([['template', 'ready', 'ready'], ['a', 'a', 'a'], [template?.vmId]])
    filler.pass(HOUR)
    await filler.fill()
    expect([states(), commits()]).toEqual([
      ['template', 'ready', 'ready'],
      ['b', 'b', 'b'],
    ])
  })

  test('a new commit does not end the doubts about machines that could not be taken', async () => {
    await filler.fill()
    const at = it.context.clock().toISOString()
    for (let claims = 0; claims < 2; claims += 1) it.context.registry.claimFailed(REPO, 'it is another one', at)
    filler.setHead(REPO, 'b'.repeat(40))
    await filler.round()
    expect(machines()).toEqual([])
  })

  test('is made anew when the operator changes what makes its workspace', async () => {
    await filler.fill()
    const [old] = machines()
    it.context.config = { ...it.context.config, workspace: { 'Acme/Shop': { setup: 'npm ci' } } }
    await filler.fill()
    expect(machines()).toMatchObject([
      { state: 'ready', madeOf: { workspace: expect.stringMatching(/^[0-9a-f]{64}$/) } },
    ])
    expect(await listed(old?.vmId ?? '')).toBeUndefined()
    expect(await filler.round()).toBe(false)
  })

  test('keeps what is ready while nobody can be asked, and says so', async () => {
    await filler.fill()
    const [ready] = machines()
    filler.setHead(REPO, null)
    expect(await filler.round()).toBe(false)
    expect(problem(REPO)).toContain('could not resolve host')
    expect(await it.do(create)).toMatchObject({ result: 'done' })
    expect(it.vmIdOf(T)).toBe(ready?.vmId)
  })

  test('has the image and size that the repository asks for, within the limits', async () => {
    filler.setFile('baseImage: node-24\nsize: {cpus: 1}\n')
    await filler.fill()
    expect(machines()).toMatchObject([{ madeOf: { image: 'node-24', cpus: 1, memoryMiB: 4096 } }])
    filler.setFile('size: {cpus: 60}\n')
    await filler.round()
    expect(problem(REPO)).toContain('asks for more than this runner allows')
  })
})

describe('a guest that is reached over SSH', () => {
  const ID = '0a'.repeat(16)
  const at = { host: '192.0.2.1', user: 'agent' }
  const portOf = (vmId: string) => Number.parseInt(vmId.slice(-4), 16) || 1
  let guest: { id: string | ((vmId: string) => string); behind: number; names: string[] }
  beforeEach(() => {
    guest = { id: ID, behind: 0, names: [] }
    const { run } = it.context
    it.context.run = async (program, argv, options) => {
      if (program !== 'ssh') return run(program, argv, options)
      const { input = '', onLine = () => {} } = options ?? {}
      const name = input.match(/^name=(.+)$/m)?.[1]
      if (name !== undefined) guest.names.push(name)
      const clock = `clock ${(it.context.clock().getTime() / 1000 - guest.behind).toFixed(3)}`
      const vmId = argv.find(word => word.startsWith('HostKeyAlias='))?.slice('HostKeyAlias='.length) ?? ''
      const asked = /^fresh=|date -s/m.test(input)
      const id = typeof guest.id === 'string' ? guest.id : asked ? guest.id(vmId) : ''
      const lines = asked ? ['random reseeded', `machine-id ${id}`, clock] : [guestHash()]
      for (const line of lines) onLine(line)
      return { stdout: `${lines.join('\n')}\n`, stderr: '', exitCode: 0, milliseconds: 0 }
    }
    wrap(({ runInGuest: _, ownSystem: __, ...provider }) => ({
      ...provider,
      sshInfo: async vmId => ({ ...at, port: portOf(vmId) }),
    }))
    setPools(it.context, poolOf())
  })

  test('gets the host name that a machine made for the ticket would have', async () => {
    await filler.fill()
    expect(machines()).toMatchObject([{ machineId: ID }])
    const [ready] = machines()
    expect(await it.do(actions.create('SHOP_2-7'))).toMatchObject({
      summary: expect.stringContaining('a ready machine of the pool'),
      environment: { ssh: { ...at, port: portOf(ready?.vmId ?? '') } },
    })
    expect(guest.names).toEqual([`as-shop-2-7-${ready?.vmId.slice(-8)}`])
  })

  test.for<[string, Partial<typeof guest>, string]>([
    ['another machine-id', { id: '0b'.repeat(16) }, 'Its machine-id is not the one that it had when it was made ready'],
    ['none', { id: 'none' }, 'It has no machine-id'],
    ['a clock that nothing sets', { behind: 57 }, 'Its clock is 57.0 s behind'],
  ])('with %s is not handed out', async ([, change, text]) => {
    await filler.fill()
    const [ready] = machines()
    Object.assign(guest, change)
    expect(await it.do(actions.create(T))).toMatchObject({
      result: 'done',
      summary: expect.stringContaining(`A ready machine could not be used, and this one was made anew: ${text}`),
    })
    expect(it.vmIdOf(T)).not.toBe(ready?.vmId)
    expect(await listed(ready?.vmId ?? '')).toBeUndefined()
  })

  test('whose machines fail again and again says so; no create pays for it twice more, until other machines are ready', async () => {
    setPools(it.context, poolOf({ ready: 3, most: 3 }))
    // Each has an id of its own when it is made, and another one afterwards.
    let made = 0
    guest.id = () => {
      made += 1
      return made.toString(16).padStart(32, '0')
    }
    await filler.fill()
    expect(problem()).toBeNull()
    const [one, two, third] = machines()
    const create = (ticket: string) => it.do(actions.create(ticket))
    const failed = expect.stringContaining('A ready machine could not be used')
    for (const [ticket, machine] of [
      ['DROP-1', one],
      ['DROP-2', two],
    ] as const) {
      expect(await create(ticket)).toMatchObject({ summary: failed })
      expect(problem()).toMatch(new RegExp(`^a create could not take ${machine?.vmId}: Its machine-id is not`))
    }
    expect(await create('DROP-3')).toMatchObject({ summary: expect.not.stringContaining('ready machine') })
    expect(machines().map(({ vmId }) => vmId)).toEqual([third?.vmId])
    // It waits, as after a failure to make one, and gives up what was made as they were.
    later(1)
    expect(await filler.round()).toBe(false)
    expect(machines()).toEqual([])
    expect(problem()).toContain('a create could not take')
    later(HOUR)
    await filler.fill()
    expect(machines()).toHaveLength(3)
    expect(problem()).toContain('a create could not take')
    const ids = new Map(machines().map(({ vmId, machineId }) => [vmId, machineId]))
    guest.id = vmId => ids.get(vmId) ?? ''
    expect(await create('DROP-4')).toMatchObject({ summary: expect.stringContaining('a ready machine of the pool') })
    expect(problem()).toBeNull()
  })

  test('with the machine-id of another ready machine never becomes ready', async () => {
    setPools(it.context, poolOf({ ready: 2 }))
    await filler.fill()
    expect(states()).toEqual(['ready'])
    expect(problem()).toMatch(/it has the machine-id of as-pool-[0-9a-f]{8}, another ready machine$/)
  })
})

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

test('people see what is ready, how many are wanted, and what is wrong', async () => {
  setPools(it.context, poolOf({ ready: 2 }), poolOf({ image: null, repository: 'acme/shop' }))
  filler.setHead(REPO, null)
  await filler.fill()
  const standings = poolStandings(it.context)
  expect(standings).toMatchObject([
    { pool: 'agent-swarm-base', ready: 2, wanted: 2, problem: null },
    { pool: 'acme/shop', ready: 0, wanted: 1, problem: expect.stringContaining('could not resolve host') },
  ])
  expect(standings.map(readyText)).toEqual(['2 ready machines of agent-swarm-base', '0 ready machines of acme/shop'])
  const { status } = await hostStatus(it.context, null)
  expect(status.pools).toEqual(standings)
  const terminal = { stdout: { isTTY: false }, env: {} } as never
  const page = hostPage(status, it.home, { now: it.context.clock(), terminal })
  expect(page).toContain(
    'READY\nagent-swarm-base: 2 of 2 machines ready\nacme/shop: 0 of 1 machine ready. The runner makes them; it is not running: agent-swarm up\n',
  )
})

test('machines of a pool that the settings have no more are not ready for anybody', async () => {
  setPools(it.context, poolOf({ ready: 2 }))
  await filler.fill()
  setPools(it.context)
  const [standing] = poolStandings(it.context)
  if (standing === undefined) throw new Error('no pool')
  const left = 'agent-swarm-base: 2 machines left from earlier settings; the runner deletes them'
  expect(standingText(it.context, standing)).toEqual({
    ...{ text: `${left}; it is not running: agent-swarm up`, isStuck: true },
  })
  const release = tryRunnerLock(it.home)
  onTestFinished(() => release?.())
  expect(standingText(it.context, standing)).toEqual({ text: left, isStuck: false })
})

describe('what becomes of it without its filler', () => {
  const by = { via: 'clock', who: null } as const
  const signal = new AbortController().signal

  test.for(['filling', 'leaving'] as const)('one that is %s when its process dies is deleted', async state => {
    const { registry } = it.context
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    if (ready === undefined) throw new Error('none is ready')
    const vmId = 'as-pool-0000abcd'
    const at = new Date().toISOString()
    registry.beginPoolMachine({ ...ready, vmId }, { by, at })
    if (state === 'leaving') registry.leavePool(vmId, at)
    const provider = await it.provider()
    const keys = { publicKey: '', hostKey: { privateKey: '', publicKey: '' } }
    await provider.createVm(null, 'none', { vmId, cpus: 1, memoryMiB: 256, diskGiB: 2, ...keys })
    expect((await findAll(it.context)).found).toMatchObject([{ vmId, does: 'remove-temporary' }])
    await reconcile(it.context, { dryRun: false, signal })
    expect(await listed(vmId)).toBeUndefined()
    expect(machines()).toMatchObject([{ vmId: ready.vmId }])
    await clean()
  })

  test('one that the hypervisor lost is told, and forgotten', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    await (await it.provider()).deleteVm(ready?.vmId ?? '')
    expect((await findAll(it.context)).found).toMatchObject([
      { vmId: ready?.vmId, finding: 'a ready machine of agent-swarm-base no longer exists' },
    ])
    await reconcile(it.context, { dryRun: false, signal })
    expect(machines()).toEqual([])
    await clean()
  })

  test('a pool that the settings have no more is given up', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    setPools(it.context)
    await filler.round()
    expect([machines(), it.machines()]).toEqual([[], []])
  })
})

describe('stop --save', () => {
  const save = (ticket: string) => ({ ...actions.stop(ticket), save: true }) as Action

  test('keeps the memory; a start goes on with it, and it takes no memory of the host', async () => {
    await it.do(actions.create(T))
    expect(await it.do(save(T))).toMatchObject({
      result: 'done',
      summary: `The memory of ${T} is saved and the machine is off. It goes on where it is: agent-swarm start ${T}`,
      environment: { status: 'stopped', idle: { state: 'saved' } },
    })
    expect(await savedMachines()).toEqual([it.vmIdOf(T)])
    expect(await it.do(save(T))).toMatchObject({ result: 'skipped' })
    await clean()
    expect(await it.do(actions.checkpoint(T, 'one'))).toMatchObject({ result: 'done' })
    expect(await savedMachines()).toEqual([])
    expect(await it.do(save(T))).toMatchObject({ result: 'done' })
    expect(await it.do(actions.start(T))).toMatchObject({ summary: expect.stringContaining('with its saved memory') })
  })

  test('is refused where the provider cannot, and the machine runs on', async () => {
    wrap(({ save: _, ...provider }) => provider)
    await it.do(actions.create(T))
    expect(await it.do(save(T))).toMatchObject({
      result: 'failed',
      failure: { kind: 'unsupported', remedy: `Stop it without its memory: agent-swarm stop ${T}` },
      environment: { status: 'running' },
    })
  })
})
