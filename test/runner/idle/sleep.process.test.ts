/** Machines that nobody uses, over a real sshd: warned, saved, woken. Their hypervisor is a synthetic one that can save. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { fail } from '../../../src/errors.ts'
import { openLog } from '../../../src/log.ts'
import { listEnvironments } from '../../../src/runner/context.ts'
import { openIdleWatch } from '../../../src/runner/idle/watch.ts'
import { findAll } from '../../../src/runner/reconciler/reconcile.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { IdleRule } from '../../../src/schema/workspace.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'
import { noSshd, useSshd } from '../../support/sshd.ts'

const MINUTE = 60_000
const T = 'DROP-1'
const rest = { sessions: 0, connections: 0, load: 0 }

let it: TestContext
let guests: Awaited<ReturnType<typeof useSshd>>
let saved: Set<string>
let cold: boolean[]
let refuseSave: string | null
let now: number
const log = openLog('silent')

const withSave = (provider: Provider): Provider => ({
  ...provider,
  save: async id => {
    if (refuseSave !== null) throw fail('disk-full', refuseSave)
    await provider.stopVm(id)
    saved.add(id)
  },
  startVm: async (id, options = {}) => {
    cold.push(options.cold === true)
    saved.delete(id)
    await provider.startVm(id)
  },
  listVms: async () =>
    (await provider.listVms()).map(vm => (saved.has(vm.vmId) ? { ...vm, saved: true as const } : vm)),
})

const open = (rule: IdleRule, changed: string[] = []) => {
  const watch = openIdleWatch({
    ...{ context: it.context, log, rule, onChange: ticket => void changed.push(ticket) },
    ...{ signal: new AbortController().signal, now: () => now },
  })
  if (watch === null) throw new Error('no watch')
  return {
    changed,
    /** One look a minute. */
    looks: async (count: number, activity = rest) => {
      for (let n = 0; n < count; n += 1) {
        now += MINUTE
        await watch.report(it.vmIdOf(T), activity)
      }
    },
    ports: () => watch.ports(it.vmIdOf(T)),
  }
}
const environment = async () => (await listEnvironments(it.context, { usage: false })).environments[0]
const idleOf = async () => (await environment())?.idle

describe.skipIf(noSshd !== null)('a machine that nobody uses', () => {
  beforeEach(async () => {
    it = await openTestContext({ guest: 'shell' })
    guests = await useSshd(it.context, it.home)
    saved = new Set()
    cold = []
    refuseSave = null
    now = 0
    wrapProviders(it.context, withSave)
    expect(await it.do(actions.create(T))).toMatchObject({ result: 'done' })
  })
  afterEach(async () => {
    await guests.close()
    it.close()
  })

  test('is warned 15 minutes before, saved, and wakes with its memory', async () => {
    const watch = open({ minutes: 60 })
    await watch.looks(45)
    expect(await idleOf()).toBeUndefined()
    await watch.looks(1)
    expect(await idleOf()).toMatchObject({ state: 'warned', becomes: 'saved', at: expect.any(String) })
    expect(watch.changed).toEqual([T])
    await watch.looks(14)
    expect(await environment()).toMatchObject({ status: 'running' })
    await watch.looks(1)
    expect(await environment()).toMatchObject({ status: 'stopped', ssh: null, idle: { state: 'saved' } })
    expect(it.context.registry.environment(T)).toMatchObject({ desired: 'stopped', unsavedWork: null })
    expect((await findAll(it.context)).found).toEqual([])
    expect(await it.do(actions.stop(T))).toMatchObject({
      result: 'skipped',
      reason: expect.stringContaining('starts by itself when somebody needs it'),
    })
    expect(await it.do(actions.start(T))).toMatchObject({
      result: 'done',
      summary: expect.stringContaining(`${T} is running again, with its saved memory`),
    })
    expect(await environment()).toMatchObject({ status: 'running' })
    expect(await idleOf()).toBeUndefined()
    expect(it.context.registry.idleness(T)).toBe(null)
    expect(cold.at(-1)).toBe(false)
    // It begins anew.
    await watch.looks(40)
    expect(await idleOf()).toBeUndefined()
  })

  test('keeps its time across restarts of the runner, and a use withdraws the warning', async () => {
    await open({ minutes: 60 }).looks(41)
    const after = open({ minutes: 60 })
    await after.looks(6)
    expect(await idleOf()).toMatchObject({ state: 'warned' })
    const third = open({ minutes: 60 })
    await third.looks(1, { ...rest, sessions: 1 })
    expect(await idleOf()).toBeUndefined()
    expect(third.changed).toEqual([T])
  })

  test('one that seems to be used now and then is warned of every 15 minutes at most', async () => {
    const watch = open({ minutes: 5 })
    for (let n = 0; n < 45; n += 1) {
      await watch.looks(1)
      await watch.looks(1, { ...rest, load: 0.9 })
    }
    // A warning, and its end.
    expect(watch.changed.length).toBeGreaterThan(2)
    expect(watch.changed.length).toBeLessThanOrEqual(2 * 6)
  })

  test('a command on it, and an agent, are a use', async () => {
    const watch = open({ minutes: 60 })
    await watch.looks(44)
    await it.do(actions.checkpoint(T, 'one'))
    await watch.looks(30)
    expect(await idleOf()).toBeUndefined()
  })

  test('commands that need it wake it; others leave it asleep', async () => {
    const sleep = async () => {
      await open({ minutes: 15 }).looks(16)
      expect(await idleOf()).toMatchObject({ state: 'saved' })
    }
    await sleep()
    expect(await it.do(actions.status(T))).toMatchObject({ result: 'done', environment: { idle: { state: 'saved' } } })
    expect(await idleOf()).toMatchObject({ state: 'saved' })
    expect(await it.do(actions.checkpoint(T, 'two'))).toMatchObject({
      result: 'done',
      summary: expect.stringMatching(/^Made checkpoint two of DROP-1\. It slept: DROP-1 is running again/),
      environment: { status: 'running' },
    })
    await sleep()
    expect(await it.do(actions.restore(T, 'two'))).toMatchObject({ result: 'done', environment: { status: 'running' } })
  })

  test('restart gives a saved memory up and boots', async () => {
    await open({ minutes: 15 }).looks(16)
    expect(await it.do({ ...actions.start(T), kind: 'restart' } as never)).toMatchObject({ result: 'done' })
    expect(cold.at(-1)).toBe(true)
    expect(saved.size).toBe(0)
  })

  test('one whose memory cannot be saved runs on, and says why', async () => {
    refuseSave = 'saving it: it needs 900 MiB, but /var has 100 MiB free'
    const watch = open({ minutes: 15 })
    await watch.looks(40)
    expect(await environment()).toMatchObject({
      status: 'running',
      idle: { state: 'warned', becomes: 'left running', at: null, reason: expect.stringContaining('900 MiB') },
    })
    expect(it.context.registry.environment(T)).toMatchObject({ desired: 'running' })
    expect(it.context.registry.operations(T, 10).filter(({ kind }) => kind === 'stop')).toHaveLength(1)
  })

  test('a crash between saving and recording loses neither the memory nor the machine', async () => {
    const { registry } = it.context
    const by = { via: 'clock', who: null } as const
    const at = new Date().toISOString()
    registry.startOperation({ actionId: null, correlation: null, ticket: T, kind: 'stop', by, at })
    await (await it.context.provider('synthetic')).save?.(it.vmIdOf(T))
    // Wanted running: it is woken, with its memory.
    const { reconcile } = await import('../../../src/runner/reconciler/reconcile.ts')
    const signal = new AbortController().signal
    await reconcile(it.context, { dryRun: false, signal })
    await reconcile(it.context, { dryRun: false, signal })
    expect(await environment()).toMatchObject({ status: 'running' })
    expect(cold.at(-1)).toBe(false)
  })
})

describe.skipIf(noSshd !== null)('where the provider cannot save', () => {
  beforeEach(async () => {
    it = await openTestContext({ guest: 'shell' })
    guests = await useSshd(it.context, it.home)
    wrapProviders(it.context, ({ save: _, ...provider }) => provider)
    now = 0
    expect(await it.do(actions.create(T))).toMatchObject({ result: 'done' })
  })
  afterEach(async () => {
    await guests.close()
    it.close()
  })

  test('it is only warned of', async () => {
    await open({ minutes: 20 }).looks(60)
    expect(await environment()).toMatchObject({
      status: 'running',
      idle: { state: 'warned', becomes: 'left running', reason: expect.stringContaining('idle.stop') },
    })
  })

  test('with idle.stop it is stopped, its work looked for, and starts when it is needed', async () => {
    await open({ minutes: 20, stop: true }).looks(22)
    expect(await environment()).toMatchObject({ status: 'stopped', idle: { state: 'stopped' } })
    expect(it.context.registry.environment(T)?.unsavedWork).not.toBeNull()
    expect(await it.do(actions.checkpoint(T, 'one'))).toMatchObject({
      result: 'done',
      environment: { status: 'running' },
    })
  })
})

test('a saved machine is started to be asked for its work before it is deleted, and work in it is kept', async () => {
  it = await openTestContext()
  saved = new Set()
  cold = []
  refuseSave = null
  wrapProviders(it.context, withSave)
  await it.do(actions.create(T))
  // What an earlier stop found is no answer for what runs on in the memory.
  await it.do(actions.stop(T))
  await it.do(actions.start(T))
  expect(await it.do({ ...actions.stop(T), idle: true } as Action)).toMatchObject({ result: 'done' })
  expect(saved.size).toBe(1)
  it.addUnsavedWork(T)
  expect(await it.do(actions.delete(T))).toMatchObject({ result: 'failed', failure: { kind: 'unsaved-work' } })
  expect(saved.size).toBe(0)
  it.removeUnsavedWork(T)
  expect(await it.do({ ...actions.start(T) })).toMatchObject({ result: 'done' })
  expect(await it.do({ ...actions.stop(T), idle: true } as Action)).toMatchObject({ result: 'done' })
  const starts = cold.length
  expect(await it.do(actions.delete(T))).toMatchObject({ result: 'done' })
  expect(cold.length).toBe(starts + 1)
  it.close()
})

test('a machine that is a folder of this host is not watched', async () => {
  it = await openTestContext()
  now = 0
  await it.do(actions.create(T))
  await open({ minutes: 15, stop: true }).looks(40)
  expect(await environment()).toMatchObject({ status: 'running' })
  expect(await idleOf()).toBeUndefined()
  it.close()
})
