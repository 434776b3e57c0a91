/** What the tests of pools share: a home, its filler, and what they ask of both. */
import { expect } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { findAll } from '../../../src/runner/reconciler/reconcile.ts'
import { openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'
import { openTestFiller } from '../../support/pools.ts'

/** `it` is closed by the caller. */
export const openStage = async () => {
  const it: TestContext = await openTestContext()
  const machines = () => it.context.registry.poolMachines()
  return {
    ...{ it, filler: openTestFiller(it.context), machines },
    states: () => machines().map(({ state }) => state),
    problem: (pool = 'agent-swarm-base') => it.context.registry.poolLook(pool)?.problem ?? null,
    listed: async (vmId: string) => (await (await it.provider()).listVms()).find(vm => vm.vmId === vmId),
    savedMachines: async () =>
      (await (await it.provider()).listVms()).filter(vm => vm.saved === true).map(({ vmId }) => vmId),
    later: (milliseconds: number) => {
      const now = it.context.clock().getTime()
      it.context.clock = () => new Date(now + milliseconds)
    },
    wrap: (change: (provider: Provider) => Provider) => wrapProviders(it.context, change),
    clean: async () => {
      expect((await findAll(it.context)).found).toEqual([])
      expect(it.context.registry.openOperations()).toEqual([])
    },
  }
}
export type Stage = Awaited<ReturnType<typeof openStage>>
