/** What `status` counts. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hostStatus } from '../../src/cli/status/host.ts'
import type { EnvironmentStatus } from '../../src/schema/environment.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

const GIB = 1024 ** 3
let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

test.for<[EnvironmentStatus, number]>([
  ['running', 2],
  ['creating', 2],
  ['stopped', 0],
])('processors and memory of a machine that is %s: allocated %s', async ([status, cpus]) => {
  if (status === 'stopped') await it.do(actions.stop('DROP-1'))
  else it.context.registry.setStatus('DROP-1', status)
  const usage = { cpus: 2, memoryBytes: 2 * GIB, memoryUsedBytes: null, cpuSeconds: null, diskBytes: 0 }
  wrapProviders(it.context, provider => ({ ...provider, usage: async () => new Map([[it.vmIdOf('DROP-1'), usage]]) }))
  expect((await hostStatus(it.context, null)).status).toMatchObject({
    cpus: { allocated: cpus },
    memoryBytes: { allocated: cpus * GIB },
  })
})
