import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Action } from '../../../src/schema/action.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const restart = (ticket: string): Action => ({
  ...{ kind: 'restart', ticket, replyTo: null },
  by: { via: 'cli', who: 'dev' },
})

test('a restart stops the machine and starts it, under one lock and in one operation', async () => {
  const phases: string[] = []
  expect(await it.do(restart('DROP-1'), { onPhase: phase => phases.push(phase) })).toMatchObject({
    result: 'done',
    summary: 'Restarted DROP-1',
    environment: { status: 'running' },
  })
  expect(phases).toEqual(expect.arrayContaining(['stop', 'start']))
  expect(phases.indexOf('stop')).toBeLessThan(phases.indexOf('start'))
  const { registry } = it.context
  expect(registry.operations('DROP-1', 10).map(({ kind }) => kind)).toEqual(['restart', 'create'])
  // The bot learns that a person wants it to run.
  expect(registry.lastManualOperation('DROP-1')).toMatchObject({ kind: 'start' })
})

test('a machine that is gone cannot be restarted, and the failure says what to do', async () => {
  it.forgetMachine('DROP-1')
  expect(await it.do(restart('DROP-1'))).toMatchObject({ result: 'failed', failure: { kind: 'no-such-vm' } })
  expect(await it.do(restart('DROP-2'))).toMatchObject({ result: 'failed', failure: { kind: 'no-such-environment' } })
})
