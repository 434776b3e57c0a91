import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const queued = { actionId: 'github:1:0' }

test('a name that is taken stays taken, however often the action is handed out', async () => {
  await it.do(actions.checkpoint('DROP-1', 'one'))
  for (const _ of [1, 2])
    expect(await it.do(actions.checkpoint('DROP-1', 'one'), queued)).toMatchObject({
      result: 'failed',
      failure: { kind: 'already-exists' },
    })
})

test('a checkpoint that does not exist is never reported as deleted, however often the action is handed out', async () => {
  const action = { kind: 'delete-checkpoint', ticket: 'DROP-1', name: 'one', replyTo: null } as const
  for (const _ of [1, 2])
    expect(await it.do({ ...action, by: { via: 'github', who: 'dev' } }, queued)).toMatchObject({
      result: 'failed',
      failure: { kind: 'no-such-checkpoint' },
    })
})

test('a cancelled checkpoint that cannot be undone is reported', async () => {
  const cancel = new AbortController()
  const outcome = await it.do(actions.checkpoint('DROP-1', 'one'), {
    signal: cancel.signal,
    onPhase: phase => {
      if (phase !== 'checkpoint') return
      cancel.abort()
      it.forgetMachine('DROP-1')
    },
  })
  expect(outcome).toMatchObject({
    failure: { kind: 'unknown', message: expect.stringMatching(/^undoing the checkpoint one of DROP-1: /) },
  })
})

test('the checkpoint of a killed attempt, which the hypervisor ends meanwhile, is that of the next attempt', async () => {
  expect(await it.dieAt('checkpoint', actions.checkpoint('DROP-1', 'one'), 'github:1:0')).toBe(true)
  wrapProviders(it.context, provider => ({
    ...provider,
    checkpoint: async (id, name) => {
      // It waits for what the hypervisor still does.
      await provider.checkpoint(id, name)
      throw fail('already-exists', `making the checkpoint ${name}: it already exists`)
    },
  }))
  expect(await it.do(actions.checkpoint('DROP-1', 'one'), queued)).toMatchObject({
    result: 'done',
    environment: { checkpoints: [{ name: 'one' }] },
  })
  // Nobody else's.
  expect(await it.do(actions.checkpoint('DROP-1', 'two'))).toMatchObject({ failure: { kind: 'already-exists' } })
})

test.for([
  ['a live one', 64.3, '65 ms'],
  ['one that stops the guest', 2281.5, '2.3 s'],
] as const)('a checkpoint tells how long the machine stood still: %s', async ([, livePauseMs, told]) => {
  wrapProviders(it.context, provider => ({
    ...provider,
    checkpoint: async (id, name) => ({ ...(await provider.checkpoint(id, name)), livePauseMs }),
  }))
  expect(await it.do(actions.checkpoint('DROP-1', 'one'))).toMatchObject({
    summary: `Made checkpoint one of DROP-1; it stood still for ${told}`,
    pauseMs: livePauseMs,
  })
})

test('the last checkpoint of a machine is kept, however old; older automatic ones and no named ones are deleted', async () => {
  let now = Date.now()
  it.context.clock = () => new Date(now)
  const names = () => it.context.registry.checkpoints('DROP-1').map(({ name }) => name)
  const push = (commit: string) => it.do({ ...actions.push('DROP-1', commit), keep: { newest: 0, days: 1 } } as Action)
  await it.do(actions.checkpoint('DROP-1', 'named'))
  now += 1_000
  await push('aaaaaaa')
  expect(names()).toEqual(['named', 'push-aaaaaaa'])
  now += 3 * 24 * 60 * 60_000
  await push('bbbbbbb')
  expect(names()).toEqual(['named', 'push-bbbbbbb'])
})
