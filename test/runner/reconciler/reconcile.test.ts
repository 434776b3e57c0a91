/** Registry and hypervisor apart, and together again. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { ifUnlocked } from '../../../src/registry/lock.ts'
import { planAction } from '../../../src/runner/plan.ts'
import { reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const { signal } = new AbortController()
const run = (dryRun = false) => reconcile(it.context, { dryRun, signal })
const row = (ticket = 'DROP-1') => it.context.registry.environment(ticket)
const status = async (ticket = 'DROP-1') => (await it.provider()).status(it.vmIdOf(ticket))
const nothing = { findings: [], unread: [], failed: [] }

/** What it finds, as a plan and when it is carried out; afterwards all is well. */
const settle = async () => {
  const { findings } = await run(true)
  expect(await run()).toEqual({ findings, unread: [], failed: [] })
  return findings
}

test('all is well: nothing is found', async () => {
  expect(await run(true)).toEqual(nothing)
  expect(await run()).toEqual(nothing)
})

test('after the host lost its power, machines come back to what was last asked for', async () => {
  await it.do(actions.create('DROP-2'))
  await it.do(actions.stop('DROP-2'))
  await it.losePower('DROP-1')
  const [first, ...others] = await settle()
  expect(first).toMatchObject({ ticket: 'DROP-1', vmId: it.vmIdOf('DROP-1'), step: 'start it' })
  expect(others).toEqual([])
  expect(await Promise.all([status(), status('DROP-2')])).toEqual(['running', 'stopped'])
  expect(it.context.registry.operations('DROP-1', 1)).toMatchObject([{ kind: 'start', by: { via: 'clock' } }])
  expect(row()?.desiredBy).toEqual({ via: 'cli', who: 'tester' })
  expect(await run()).toEqual(nothing)
})

test('one that somebody started is stopped again, and its unsaved work is noted', async () => {
  await it.do(actions.stop('DROP-1'))
  await (await it.provider()).startVm(it.vmIdOf('DROP-1'))
  it.addUnsavedWork('DROP-1')
  expect(await settle()).toMatchObject([{ ticket: 'DROP-1' }])
  expect(await status()).toBe('stopped')
  expect(row()?.unsavedWork).toMatchObject({ known: true, repositories: [{ path: '/work' }] })
})

test('one that is gone is lost, once; its disk is kept', async () => {
  const vmId = it.vmIdOf('DROP-1')
  it.forgetMachine('DROP-1')
  expect(await settle()).toMatchObject([
    { ticket: 'DROP-1', vmId, finding: expect.stringContaining('no longer exists') },
  ])
  expect(row()?.status).toBe('lost')
  expect(await run(true)).toEqual(nothing)
  expect(it.machines()).toEqual([vmId])
})

test('a create makes a lost machine again from its disk, with the work in it', async () => {
  const vmId = it.vmIdOf('DROP-1')
  it.write('DROP-1', 'work', 'of a day')
  it.forgetMachine('DROP-1')
  await run()
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({
    result: 'done',
    environment: { vmId, status: 'running' },
  })
  expect(it.read('DROP-1', 'work')).toBe('of a day')
})

test('a create makes a lost machine again that was stopped with nothing unsaved: its checkpoints are there', async () => {
  const vmId = it.vmIdOf('DROP-1')
  await it.do(actions.checkpoint('DROP-1', 'kept'))
  it.write('DROP-1', '.env', 'ignored by git')
  await it.do(actions.stop('DROP-1'))
  it.forgetMachine('DROP-1')
  await run()
  const create = actions.create('DROP-1')
  expect(await planAction(it.context, create)).toMatchObject({
    would: [expect.stringContaining(vmId), `start ${vmId}`, expect.any(String)],
  })
  expect(await it.do(create)).toMatchObject({
    environment: { vmId, status: 'running', checkpoints: [{ name: 'kept' }] },
  })
  expect(it.read('DROP-1', '.env')).toBe('ignored by git')
})

test('a machine whose row is gone is adopted with the ticket of its mark', async () => {
  const vmId = it.vmIdOf('DROP-1')
  for (const name of ['second', 'first', 'third']) await it.do(actions.checkpoint('DROP-1', name))
  const names = () => it.context.registry.checkpoints('DROP-1').map(({ name }) => name)
  it.context.registry.remove('DROP-1')
  expect(await settle()).toMatchObject([{ ticket: 'DROP-1', vmId, step: expect.stringContaining('adopt it') }])
  expect(row()).toMatchObject({ vmId, status: 'running', desired: 'running' })
  expect(names()).toEqual(['second', 'first', 'third'])
  expect(await run()).toEqual(nothing)
  it.context.registry.removeCheckpoint('DROP-1', 'first')
  await it.do(actions.restore('DROP-1', 'third'))
  expect(names().slice(0, 3)).toEqual(['second', 'first', 'third'])
})

test('a create after the registry was lost takes the machine that is there', async () => {
  const vmId = it.vmIdOf('DROP-1')
  it.context.registry.remove('DROP-1')
  await it.losePower('DROP-1').catch(() => {})
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({ environment: { vmId, status: 'running' } })
  expect(it.machines()).toEqual([vmId])
})

test('a second machine of a ticket is reported and kept', async () => {
  await it.do(actions.create('DROP-2'))
  const second = it.vmIdOf('DROP-2')
  await (await it.provider()).assign?.(second, 'DROP-1')
  it.context.registry.remove('DROP-2')
  const { findings } = await run()
  expect(findings).toMatchObject([{ ticket: 'DROP-1', vmId: second, step: expect.stringContaining('kept') }])
  expect(it.machines()).toHaveLength(2)
})

test('a disk without a machine and a row is reported and kept', async () => {
  const vmId = 'as-drop-9-0000000a'
  mkdirSync(join(it.home, 'synthetic', vmId, 'disk'), { recursive: true })
  for (const dryRun of [true, false])
    expect((await run(dryRun)).findings).toMatchObject([
      { ticket: null, vmId, finding: expect.stringContaining('may hold work') },
    ])
  expect(it.machines()).toContain(vmId)
})

test('a host key of a machine that does not exist is reported', async () => {
  writeFileSync(join(it.home, 'ssh', 'as-drop-9-0000000a.known_hosts'), 'a key')
  expect((await run()).findings).toMatchObject([
    { vmId: 'as-drop-9-0000000a', finding: expect.stringContaining('host key') },
  ])
})

test('an unfinished create is removed, a decided delete is finished and told', async () => {
  await it.dieAt('start', actions.create('DROP-2'))
  it.addUnsavedWork('DROP-1')
  await it.dieAt('delete', actions.delete('DROP-1', true))
  const findings = await settle()
  expect(findings.map(({ ticket, step }) => [ticket, step])).toEqual([
    ['DROP-1', 'finish the delete'],
    ['DROP-2', 'remove what the create left'],
  ])
  expect(it.machines()).toEqual([])
  expect(it.context.registry.operations('DROP-1', 1)).toMatchObject([
    { kind: 'delete', result: 'done', outcome: { summary: expect.stringContaining('Deleted the machine of DROP-1') } },
  ])
  expect(await run()).toEqual(nothing)
})

test('a create again after a kill goes on with the machine that boots', async () => {
  await it.dieAt('address', actions.create('DROP-2'))
  const vmId = it.vmIdOf('DROP-2')
  expect(await it.do(actions.create('DROP-2'))).toMatchObject({
    result: 'done',
    environment: { vmId, status: 'running' },
  })
  expect(it.machines()).toHaveLength(2)
})

test('an interrupted operation is ended, and then the table holds', async () => {
  await it.dieAt('stop', actions.stop('DROP-1'))
  await settle()
  expect(row()).toMatchObject({ desired: 'stopped', status: 'stopped' })
  expect(await status()).toBe('stopped')
})

test('a ticket that somebody works on is left alone', async () => {
  await it.losePower('DROP-1')
  await ifUnlocked(it.home, 'DROP-1', async () => {
    expect(await run(true)).toEqual(nothing)
    expect(await run()).toEqual(nothing)
  })
  expect(await status()).toBe('stopped')
})

test('an action of the queue that runs now is no finding; one whose process died waits for the queue', async () => {
  const started = Promise.withResolvers<void>()
  const proceed = Promise.withResolvers<void>()
  wrapProviders(it.context, provider => ({
    ...provider,
    checkpoint: async (...values) => {
      started.resolve()
      await proceed.promise
      return provider.checkpoint(...values)
    },
  }))
  const running = it.do(actions.checkpoint('DROP-1', 'two'), { actionId: 'github:1:0' })
  await started.promise
  expect(await run(true)).toEqual(nothing)
  proceed.resolve()
  await running
  await it.dieAt('stop', actions.stop('DROP-1'), 'github:2:0')
  expect((await run()).findings).toMatchObject([{ ticket: 'DROP-1', step: expect.stringContaining('queue') }])
  expect(await status()).toBe('running')
})

test('a hypervisor that does not answer loses nothing', async () => {
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => {
      throw fail('hypervisor-unreachable', 'listing: no answer')
    },
  }))
  expect(await run()).toEqual({
    findings: [],
    unread: [{ provider: 'synthetic', message: 'listing: no answer' }],
    failed: [],
  })
  expect(row()?.status).toBe('running')
})

test('a start that fails is reported, and keeps what the last stop found', async () => {
  it.addUnsavedWork('DROP-1')
  await it.do(actions.stop('DROP-1'))
  const found = row()?.unsavedWork
  wrapProviders(it.context, provider => ({
    ...provider,
    startVm: async () => {
      throw fail('capacity', 'starting it: no memory')
    },
  }))
  it.removeUnsavedWork('DROP-1')
  expect(await it.do(actions.start('DROP-1'))).toMatchObject({ failure: { kind: 'capacity' } })
  expect(row()?.unsavedWork).toEqual(found)
  expect((await run()).failed).toMatchObject([{ ticket: 'DROP-1', failure: { kind: 'capacity' } }])
  expect(row()?.unsavedWork).toEqual(found)
})

test('a start that fails keeps that nothing was unsaved', async () => {
  await it.do(actions.stop('DROP-1'))
  wrapProviders(it.context, provider => ({
    ...provider,
    startVm: async () => {
      throw fail('capacity', 'starting it: no memory')
    },
  }))
  await it.do(actions.start('DROP-1'))
  expect(row()?.unsavedWork).toEqual({ known: true, repositories: [] })
})

test.for(['disk-full', 'interrupted', 'asked'] as const)('a machine that is paused: %s', async pauseCause => {
  let paused: string | null = 'for a reason'
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => (await provider.listVms()).map(vm => (paused === null ? vm : { ...vm, paused, pauseCause })),
    startVm: async () => {
      paused = null
    },
  }))
  const findings = await settle()
  expect(paused).toBe(pauseCause === 'asked' ? 'for a reason' : null)
  expect(findings.map(({ step }) => step)).toEqual(pauseCause === 'asked' ? [] : ['resume it'])
})

test('a machine that its hypervisor stopped by itself is recorded and told, not started, and recorded again when it is back', async () => {
  const provider = await it.provider()
  const vmId = it.vmIdOf('DROP-1')
  let isTaken = true
  const interruption = { state: 'stopped', by: 'AWS', cause: 'no room', next: 'it comes back' } as const
  wrapProviders(it.context, each => ({
    ...each,
    listVms: async () => (await each.listVms()).map(vm => (isTaken ? { ...vm, interruption } : vm)),
    startVm: async () => {
      throw fail('busy', 'starting it: AWS alone does that')
    },
  }))
  await provider.stopVm(vmId)
  const told = { ticket: 'DROP-1', finding: 'AWS stopped it (no room)', step: 'none: it is kept; it comes back' }
  expect(await settle()).toMatchObject([told, { step: 'record it' }])
  expect(row()).toMatchObject({ status: 'stopped', desired: 'running' })
  expect(await settle()).toMatchObject([told])
  isTaken = false
  await provider.startVm(vmId)
  expect(await settle()).toMatchObject([{ finding: 'it is running, and the registry says stopped' }])
  expect(row()).toMatchObject({ status: 'running', desired: 'running' })
})

test('what waits of a dead process is removed', async () => {
  const since = new Date().toISOString()
  it.context.registry.beginWaiting({
    pid: 2 ** 22 + 1,
    ticket: 'DROP-1',
    kind: 'stop',
    why: null,
    by: { via: 'cli', who: null },
    since,
  })
  expect(await settle()).toMatchObject([{ ticket: 'DROP-1', finding: 'a stop waits whose process is gone' }])
  expect(it.context.registry.waiting()).toEqual([])
})

test('a mark that names another ticket is written again', async () => {
  await (await it.provider()).assign?.(it.vmIdOf('DROP-1'), 'DROP-7')
  expect(await settle()).toMatchObject([{ ticket: 'DROP-1', finding: 'its mark names DROP-7' }])
  expect(await it.markedTicket(it.vmIdOf('DROP-1'))).toBe('DROP-1')
})

test('the number of questions to the hypervisor does not grow', async () => {
  let calls = 0
  wrapProviders(
    it.context,
    provider =>
      new Proxy(provider, {
        get: (target, name) => {
          const member = Reflect.get(target, name)
          if (typeof member !== 'function') return member
          return (...values: unknown[]) => {
            calls += 1
            return member(...values)
          }
        },
      }),
  )
  await run()
  const one = calls
  for (const ticket of ['DROP-2', 'DROP-3', 'DROP-4']) await it.do(actions.create(ticket))
  calls = 0
  await run()
  expect(calls).toBe(one)
})
