/** kill -9 of whole processes: their locks are free at once, and what they left is recovered. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { recoverAll } from '../../src/runner/recovery.ts'
import { actions, openTestContext, type TestContext } from '../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
})
afterEach(() => it.close())

test('a killed create of the CLI leaves nothing after the next start', async () => {
  expect(await it.killAt('start', actions.create('DROP-1'))).toBe(true)
  expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'creating' }])
  expect(await recoverAll(it.context)).toEqual([])
  expect(it.context.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('a killed create of the queue continues with the same machine', async () => {
  expect(await it.killAt('address', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  const vmId = it.vmIdOf('DROP-1')
  expect(await it.do(actions.create('DROP-1'), { actionId: 'jira:1:0' })).toMatchObject({
    result: 'done',
    environment: { vmId, status: 'running' },
  })
  expect(it.machines()).toEqual([vmId])
})

test('a killed move continues', async () => {
  await it.do(actions.create('OLD-1'))
  const vmId = it.vmIdOf('OLD-1')
  expect(await it.killAt('move', actions.move('OLD-1', 'NEW-1'), 'jira:1:0')).toBe(true)
  expect(await it.do(actions.move('OLD-1', 'NEW-1'), { actionId: 'jira:1:0' })).toMatchObject({ result: 'done' })
  expect(it.vmIdOf('NEW-1')).toBe(vmId)
  expect(await it.markedTicket(vmId)).toBe('NEW-1')
})
