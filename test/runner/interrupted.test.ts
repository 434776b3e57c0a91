/** kill -9 in the middle of an action, and what the next start makes of it. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sweep } from '../../src/runner/interrupted.ts'
import { actions, openTestWorld } from '../support/world.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

test.for(['disk', 'start', 'address'])('in a create of the CLI at "%s": the next start leaves nothing', async phase => {
  expect(await it.dieAt(phase, actions.create('DROP-1'))).toBe(true)
  expect(it.world.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'creating' }])
  await sweep(it.world, { queueToo: false })
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
  expect(it.world.registry.operations('DROP-1', 1)).toMatchObject([{ kind: 'create', result: 'interrupted' }])
})

test.for(['disk', 'start', 'address'])(
  'in a create of the queue at "%s": the same action goes on, with one machine',
  async phase => {
    expect(await it.dieAt(phase, actions.create('DROP-1'), 'jira:1:0')).toBe(true)
    await sweep(it.world, { queueToo: false })
    expect(it.world.registry.environments()).toHaveLength(1)
    expect(await it.do(actions.create('DROP-1'), { actionId: 'jira:1:0' })).toMatchObject({
      result: 'done',
      environment: { status: 'running' },
    })
    expect(it.machines()).toHaveLength(1)
  },
)

test('in a create of the queue, and another action comes first: nothing half-made is left', async () => {
  expect(await it.dieAt('start', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({
    result: 'failed',
    failure: { kind: 'no-such-environment' },
  })
  expect(it.machines()).toEqual([])
})

test('in a delete: the next start ends it', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('delete', actions.delete('DROP-1'))).toBe(true)
  await sweep(it.world, { queueToo: false })
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('before a delete was decided: nothing is deleted', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('looking for work at risk', actions.delete('DROP-1'))).toBe(true)
  await sweep(it.world, { queueToo: false })
  expect(it.world.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
})

test('in a restore: what was there before is kept once, and the same action ends it', async () => {
  await it.do(actions.create('DROP-1'))
  await it.inside('DROP-1', 'echo one > state')
  await it.do(actions.checkpoint('DROP-1', 'one'))
  await it.inside('DROP-1', 'echo two > state')
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  expect(await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })).toMatchObject({ result: 'done' })
  expect(await it.inside('DROP-1', 'cat state')).toBe('one')
  expect(it.world.registry.checkpoints('DROP-1').filter(one => one.why === 'before restore')).toHaveLength(1)
})

test('in a checkpoint without a name: the same action makes one, not two', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('checkpoint', actions.checkpoint('DROP-1'), 'github:1:0')).toBe(true)
  await it.do(actions.checkpoint('DROP-1'), { actionId: 'github:1:0' })
  expect(it.world.registry.checkpoints('DROP-1')).toHaveLength(1)
})
