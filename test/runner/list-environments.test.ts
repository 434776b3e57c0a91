import { afterEach, beforeEach, expect, test } from 'vitest'
import { listEnvironments } from '../../src/runner/context.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())
const statuses = async () =>
  (await listEnvironments(it.context, { usage: false })).environments.map(({ status }) => status)

test('a machine whose create ends after the hypervisor was read is not reported as lost', async () => {
  it.context.registry.setStatus('DROP-1', 'creating')
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => {
      it.context.registry.setStatus('DROP-1', 'running')
      return []
    },
  }))
  expect(await statuses()).toEqual(['running'])
})

test('what the hypervisor does by itself is reported, and why a machine that is gone ended', async () => {
  const interruption = { state: 'announced', by: 'AWS', cause: 'no room', next: 'it comes back' } as const
  const vmId = it.vmIdOf('DROP-1')
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => (await provider.listVms()).map(vm => ({ ...vm, interruption })),
    endings: async () => new Map([[vmId, 'AWS says: terminated']]),
  }))
  const only = async () => (await listEnvironments(it.context, { usage: false })).environments[0]
  expect(await only()).toMatchObject({ status: 'running', interruption })
  expect(await only()).not.toHaveProperty('ending')
  it.forgetMachine('DROP-1')
  expect(await only()).toMatchObject({ status: 'lost', ending: 'AWS says: terminated' })
})

test('a machine that the hypervisor no longer has is lost', async () => {
  it.forgetMachine('DROP-1')
  expect(await statuses()).toEqual(['lost'])
})
