import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
const state = () => it.read('DROP-1', 'state')
const write = (text: string) => it.write('DROP-1', 'state', text)
const preRestores = () =>
  it.context.registry
    .checkpoints('DROP-1')
    .filter(({ why }) => why === 'before restore')
    .map(({ name }) => name)

beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
  write('one')
  await it.do(actions.checkpoint('DROP-1', 'one'))
  write('two')
})
afterEach(() => it.close())

test('two restores in one second each keep the state that they replace', async () => {
  const now = Date.now()
  it.context.clock = () => new Date(now)
  await it.do(actions.restore('DROP-1', 'one'))
  write('three')
  await it.do(actions.restore('DROP-1', 'one'))
  expect(preRestores()).toHaveLength(2)
  await it.do(actions.restore('DROP-1', preRestores()[1]))
  expect(state()).toBe('three')
})

test('another attempt after a failed one keeps also what was done in between', async () => {
  const disk = join(it.home, 'synthetic', it.machines()[0] ?? '', 'checkpoints/one/disk')
  renameSync(disk, `${disk}.away`)
  const attempt = () => it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })
  expect(await attempt()).toMatchObject({ result: 'failed' })
  renameSync(`${disk}.away`, disk)
  write('three')
  const outcome = await attempt()
  expect(state()).toBe('one')
  const [first, second] = preRestores()
  expect(outcome).toMatchObject({ summary: expect.stringContaining(`are kept as ${first} and ${second}`) })
  await it.do(actions.restore('DROP-1', second))
  expect(state()).toBe('three')
})

test('a checkpoint that was restored before the process died is not restored again', async () => {
  expect(await it.dieAt('address', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  expect(state()).toBe('one')
  write('later')
  expect(await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })).toMatchObject({
    result: 'done',
    summary: expect.stringContaining(`is kept as ${preRestores()[0]}`),
  })
  expect(state()).toBe('later')
  expect(preRestores()).toHaveLength(1)
})

test('after an interrupted restore, the mark is written again: by the next start, and by another attempt', async () => {
  const assigned: string[] = []
  wrapProviders(it.context, provider => ({ ...provider, assign: async (_id, ticket) => void assigned.push(ticket) }))
  await it.do(actions.restore('DROP-1', 'one'))
  expect(assigned).toEqual([])
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'))).toBe(true)
  expect(await recoverAll(it.context)).toEqual([])
  expect(assigned).toEqual(['DROP-1'])
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })
  expect(assigned).toEqual(['DROP-1', 'DROP-1'])
})

// ── When it fails ──

const failing = (fails: (name: string) => boolean, before: () => Promise<unknown> = async () => {}) =>
  wrapProviders(it.context, provider => ({
    ...provider,
    restore: async (id, name, options) => {
      if (!fails(name)) return provider.restore(id, name, options)
      await before()
      throw fail('unknown', `restoring ${name}: load of migration failed`)
    },
  }))

test('a restore that fails leaves the machine as it was: it is brought back when it stopped on the way', async () => {
  failing(
    name => name === 'one',
    async () => {
      write('half')
      await it.losePower('DROP-1')
    },
  )
  const outcome = await it.do(actions.restore('DROP-1', 'one'))
  expect(outcome).toMatchObject({
    result: 'failed',
    failure: { message: 'restoring one: load of migration failed. The machine is as it was before' },
  })
  expect(state()).toBe('two')
  expect(await (await it.provider()).status(it.vmIdOf('DROP-1'))).toBe('running')
})

test('one that the hypervisor refused changed nothing', async () => {
  failing(name => name === 'one')
  expect(await it.do(actions.restore('DROP-1', 'one'))).toMatchObject({
    failure: {
      message: expect.stringMatching(
        /^restoring one: load of migration failed. The machine runs, and its state before is kept as pre-restore-[0-9-]+$/,
      ),
    },
  })
  expect(state()).toBe('two')
})

test('one that cannot be brought back says where it stands, and how to go on', async () => {
  failing(
    () => true,
    () => it.losePower('DROP-1'),
  )
  const { failure } = (await it.do(actions.restore('DROP-1', 'one'))) as {
    failure: { message: string; remedy: string }
  }
  expect(failure.message).toContain('The machine is stopped: it could not be brought back either')
  expect(failure.remedy).toBe(
    `Its state before is kept as ${preRestores()[0]}: agent-swarm restore DROP-1 ${preRestores()[0]} --cold. Or restore the other one without its memory: agent-swarm restore DROP-1 one --cold`,
  )
})

test('a machine that does not answer after it is not called restored', async () => {
  wrapProviders(it.context, ({ runInGuest: _, ...provider }) => ({
    ...provider,
    memoryCheckpoints: true,
    sshInfo: async () => {
      throw fail('guest-unreachable', 'no SSH reply from 192.0.2.1')
    },
  }))
  const { failure } = (await it.do(actions.restore('DROP-1', 'one'))) as {
    failure: { message: string; remedy: string }
  }
  expect(failure.message).toBe(
    'DROP-1: the checkpoint one is back, and the machine does not answer: no SSH reply from 192.0.2.1',
  )
  expect(failure.remedy).toBe(
    `Restore its disk alone, and boot it: agent-swarm restore DROP-1 one --cold. Its state before is kept: agent-swarm restore DROP-1 ${preRestores()[0]}`,
  )
})

// ── Without the memory ──

const cold = (name: string): Action => ({ ...actions.restore('DROP-1', name), cold: true }) as Action

test('--cold brings the disk back and starts the machine', async () => {
  const calls: string[] = []
  wrapProviders(it.context, provider => ({
    ...provider,
    restore: async (id, name, options) => {
      calls.push(`restore ${JSON.stringify(options)}`)
      await provider.restore(id, name, options)
    },
    startVm: async id => {
      calls.push('start')
      await provider.startVm(id)
    },
  }))
  expect(await it.do(cold('one'))).toMatchObject({
    result: 'done',
    summary: expect.stringMatching(
      /^Restored DROP-1 to one, its disk alone; its previous state is kept as pre-restore-/,
    ),
    environment: { status: 'running' },
  })
  expect(calls).toEqual(['restore {"cold":true}', 'start'])
  expect(state()).toBe('one')
})

test('a checkpoint that lost its memory boots all the same', async () => {
  wrapProviders(it.context, provider => ({
    ...provider,
    memoryCheckpoints: true,
    restore: (id, name) => provider.restore(id, name, { cold: true }),
  }))
  await it.do(actions.checkpoint('DROP-1', 'with-memory'))
  expect(await it.do(actions.restore('DROP-1', 'with-memory'))).toMatchObject({ environment: { status: 'running' } })
})

test('a provider that cannot says so, and keeps no state for it', async () => {
  wrapProviders(it.context, ({ coldRestores: _, ...provider }) => provider)
  expect(await it.do(cold('one'))).toMatchObject({ failure: { kind: 'unsupported' } })
  expect(preRestores()).toEqual([])
})

test('a machine that was paused when the checkpoint was made is restored as that', async () => {
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => (await provider.listVms()).map(vm => ({ ...vm, paused: 'restored as paused' })),
  }))
  expect(await it.do(actions.restore('DROP-1', 'one'))).toMatchObject({
    summary: expect.stringContaining('It is paused (restored as paused), as it was then: agent-swarm start DROP-1'),
  })
})

test('after a restore that was killed, the machine goes on, and its clock is looked at', async () => {
  const calls: string[] = []
  wrapProviders(it.context, ({ ownSystem: _, ...provider }) => ({
    ...provider,
    listVms: async () =>
      (await provider.listVms()).map(vm => ({
        ...vm,
        paused: 'restored as paused',
        pauseCause: 'interrupted' as const,
      })),
    startVm: async id => {
      calls.push('start')
      await provider.startVm(id)
    },
    runInGuest: async (_id, script) => {
      calls.push(script.includes('RNDADDENTROPY') ? 'set right' : 'another script')
      return { stdout: `clock ${Date.now() / 1000}\n`, stderr: '', exitCode: 0 }
    },
  }))
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'))).toBe(true)
  expect(await recoverAll(it.context)).toEqual([])
  expect(calls).toEqual(['start', 'set right'])
})

test('states that restores keep have a retention; named checkpoints have none', async () => {
  let now = Date.now()
  it.context.clock = () => new Date(now)
  for (let n = 0; n < 8; n += 1) {
    now += 1_000
    await it.do(actions.restore('DROP-1', 'one'))
  }
  expect(preRestores()).toHaveLength(5)
  expect(it.context.registry.checkpoints('DROP-1').map(({ name }) => name)).toContain('one')
})

test('a restore whose present state cannot be kept for lack of room touches nothing', async () => {
  let restored = 0
  wrapProviders(it.context, provider => ({
    ...provider,
    checkpoint: async () => {
      throw fail('disk-full', 'making a checkpoint: it needs about 4096 MiB, but the pool has 12 MiB free')
    },
    restore: async (...given) => {
      restored += 1
      return provider.restore(...given)
    },
  }))
  expect(await it.do(actions.restore('DROP-1', 'one'))).toMatchObject({
    result: 'failed',
    failure: { kind: 'disk-full', message: expect.stringContaining('12 MiB free') },
  })
  expect(restored).toBe(0)
  expect(state()).toBe('two')
  expect(it.context.registry.environment('DROP-1')).toMatchObject({ status: 'running' })
})
