import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { openRunnerContext, requireEnvironment, resolveTicket } from '../../../src/runner/context.ts'
import { planAction } from '../../../src/runner/plan.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { actions, configFor, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
let vmId: string
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('OLD-1'))
  await it.do(actions.checkpoint('OLD-1', 'one'))
  vmId = it.vmIdOf('OLD-1')
})
afterEach(() => it.close())

const move = actions.move('OLD-1', 'NEW-1')
const queued = { actionId: 'jira:1:0' }
const tickets = () => it.context.registry.environments().map(({ ticket }) => ticket)
const expectMoved = async () => {
  expect(tickets()).toEqual(['NEW-1'])
  expect(it.context.registry.environment('NEW-1')).toMatchObject({ vmId, status: 'running' })
  expect(it.context.registry.checkpoints('NEW-1').map(({ name }) => name)).toEqual(['one'])
  expect(await it.markedTicket(vmId)).toBe('NEW-1')
  expect(it.machines()).toEqual([vmId])
}

test('machine, checkpoints and history get the new key', async () => {
  expect(await it.do(move)).toMatchObject({
    result: 'done',
    summary: `OLD-1 is now NEW-1: its machine ${vmId}, checkpoints and history moved with it`,
    environment: { ticket: 'NEW-1', vmId },
  })
  await expectMoved()
  expect(it.context.registry.operations('NEW-1', 10).map(({ kind }) => kind)).toEqual(['move', 'checkpoint', 'create'])
  expect(it.context.registry.operations('OLD-1', 10)).toEqual([])
})

test('the old key still leads to the machine, for commands too', async () => {
  await it.do(move)
  expect(resolveTicket(it.context, 'OLD-1')).toBe('NEW-1')
  expect(requireEnvironment(it.context, 'OLD-1')).toMatchObject({ ticket: 'NEW-1', vmId })
  expect(await planAction(it.context, actions.start('OLD-1'))).toEqual({ skipped: 'NEW-1 is already running' })
  expect(await it.do(actions.stop('OLD-1'))).toMatchObject({ result: 'done', environment: { ticket: 'NEW-1' } })
  expect(await it.do(actions.create('OLD-1'))).toMatchObject({ result: 'done', environment: { ticket: 'NEW-1', vmId } })
  expect(it.machines()).toEqual([vmId])
})

test('without an environment there is nothing to move', async () => {
  expect(await it.do(actions.move('OLD-2', 'NEW-2'))).toMatchObject({
    result: 'skipped',
    reason: 'OLD-2 has no machine',
  })
})

test('when both keys have a machine, the old one is stopped and kept', async () => {
  await it.do(actions.create('NEW-1'))
  expect(await planAction(it.context, move)).toEqual({
    would: [`stop ${vmId} and keep it as OLD-1, because NEW-1 already has a machine`],
  })
  for (const _ of [1, 2])
    expect(await it.do(move)).toMatchObject({
      result: 'skipped',
      reason: `NEW-1 already has a machine, ${it.vmIdOf('NEW-1')}. The machine of OLD-1, ${vmId}, is stopped and kept`,
    })
  expect(it.context.registry.environments()).toMatchObject([
    { ticket: 'NEW-1', status: 'running' },
    { ticket: 'OLD-1', status: 'stopped', vmId },
  ])
})

test('it can be moved on, and back', async () => {
  await it.do(move)
  await it.do(actions.move('NEW-1', 'LAST-1'))
  expect(resolveTicket(it.context, 'OLD-1')).toBe('LAST-1')
  expect(resolveTicket(it.context, 'NEW-1')).toBe('LAST-1')
  await it.do(actions.move('LAST-1', 'OLD-1'))
  expect(tickets()).toEqual(['OLD-1'])
  expect(resolveTicket(it.context, 'NEW-1')).toBe('OLD-1')
  expect(resolveTicket(it.context, 'OLD-1')).toBe('OLD-1')
})

test('after a delete, the old key can have a machine of its own', async () => {
  await it.do(move)
  await it.do(actions.delete('NEW-1'))
  expect(await it.do(actions.create('OLD-1'))).toMatchObject({ result: 'done', environment: { ticket: 'OLD-1' } })
  await it.do(actions.create('NEW-1'))
  expect(tickets()).toEqual(['NEW-1', 'OLD-1'])
})

test('a provider that cannot mark machines leaves the new key to the registry', async () => {
  wrapProviders(it.context, ({ assign: _assign, ...provider }): Provider => provider)
  expect(await it.do(move)).toMatchObject({ result: 'done' })
  expect(tickets()).toEqual(['NEW-1'])
  expect(await it.markedTicket(vmId)).toBe('OLD-1')
})

describe('a process that dies', () => {
  test('before the registry changed: the next attempt moves', async () => {
    expect(await it.dieAt('move', move, queued.actionId)).toBe(true)
    expect(tickets()).toEqual(['OLD-1'])
    expect(await it.do(move, queued)).toMatchObject({ result: 'done' })
    await expectMoved()
  })

  /** Dies after the registry changed: the mark is the old one. */
  const dieBeforeMark = async (actionId: string | null) => {
    const other = openRunnerContext(await configFor(it.home))
    wrapProviders(other, provider => ({
      ...provider,
      assign: async () => {
        other.registry.close()
        throw new Error('the process died here')
      },
    }))
    const { execute } = await import('../../../src/runner/executor.ts')
    const signal = new AbortController().signal
    await execute(other, move, { actionId, correlation: null, signal, onPhase: () => {} })
    expect(tickets()).toEqual(['NEW-1'])
    expect(await it.markedTicket(vmId)).toBe('OLD-1')
    expect(it.context.registry.openOperations('NEW-1')).toHaveLength(1)
  }

  test('before the mark changed: the next attempt writes it', async () => {
    await dieBeforeMark(queued.actionId)
    expect(await it.do(move, queued)).toMatchObject({ result: 'done', environment: { ticket: 'NEW-1' } })
    await expectMoved()
  })

  test('before the mark changed: the next start writes it', async () => {
    await dieBeforeMark(null)
    expect(await recoverAll(it.context)).toEqual([])
    await expectMoved()
  })

  test('before the mark changed: another action writes it first', async () => {
    await dieBeforeMark(queued.actionId)
    await it.do(actions.status('NEW-1'))
    await expectMoved()
  })
})

describe('an action that was begun under the old key', () => {
  test('continues under the new one, which the queue gave it before the move', async () => {
    await it.do(actions.create('OLD-2'))
    expect(await it.dieAt('checkpoint', actions.checkpoint('OLD-2'), 'github:1:0')).toBe(true)
    expect(await it.do(actions.checkpoint('NEW-2'), { actionId: 'github:1:0' })).toMatchObject({
      result: 'done',
      environment: { ticket: 'NEW-2', checkpoints: [{ why: 'command' }] },
    })
    expect(await it.do(actions.move('OLD-2', 'NEW-2'), queued)).toMatchObject({ result: 'done' })
    expect(tickets()).toEqual(['NEW-2', 'OLD-1'])
  })

  test('a create makes one machine', async () => {
    expect(await it.dieAt('start', actions.create('OLD-2'), 'github:1:0')).toBe(true)
    expect(await it.do(actions.create('NEW-2'), { actionId: 'github:1:0' })).toMatchObject({ result: 'done' })
    expect(tickets()).toEqual(['NEW-2', 'OLD-1'])
    expect(it.machines()).toHaveLength(2)
    expect(await it.markedTicket(it.vmIdOf('NEW-2'))).toBe('NEW-2')
  })

  test('waits for the move, and then acts on the machine under its new key', async () => {
    const [moved, stopped] = await Promise.all([it.do(move), it.do(actions.stop('OLD-1'))])
    expect(moved).toMatchObject({ result: 'done' })
    expect(stopped).toMatchObject({ result: 'done', environment: { ticket: 'NEW-1', status: 'stopped' } })
  })
})

test('two moves of the same two tickets in opposite directions do not wait for each other forever', async () => {
  const outcomes = await Promise.all([it.do(move), it.do(actions.move('NEW-1', 'OLD-1'))])
  expect(outcomes.map(({ result }) => result)).not.toContain('failed')
  expect(tickets()).toHaveLength(1)
})
