/** Machines that are kept ready with the project of a repository, on synthetic ones. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions } from '../../support/context.ts'
import { poolOf, setPools, withForks } from '../../support/pools.ts'
import { openStage, type Stage } from './stage.ts'

const T = 'DROP-1'
const MINUTE = 60_000
const HOUR = 60 * 60_000
const GIB = 1024 ** 3
const REPO = 'acme/shop'

let it: Stage['it']
let filler: Stage['filler']
let machines: Stage['machines']
let states: Stage['states']
let problem: Stage['problem']
let listed: Stage['listed']
let wrap: Stage['wrap']
beforeEach(async () => {
  ;({ it, filler, machines, states, problem, listed, wrap } = await openStage())
})
afterEach(() => it.close())

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

  test('a problem with the present commit is reported while a machine of a former commit is ready', async () => {
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
