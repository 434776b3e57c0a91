/** The promises of every provider (src/selftest/promises.ts), as tests. Each provider's test file calls this. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { ProviderDescription } from '../../providers/provider.ts'
import { newVmId } from '../../src/domain.ts'
import { type Bench, type BenchTools, openBench } from '../../src/selftest/bench.ts'
import { promises } from '../../src/selftest/promises.ts'

export type TestBench = Omit<BenchTools, 'newMachine'> & { close(): Promise<void> }

/** `machines`: how many run at the same time. `timeout`: milliseconds for a test that boots one. */
export const keepsItsPromises = (
  description: Pick<ProviderDescription<never>, 'name' | 'live'>,
  open: () => Promise<TestBench>,
  { machines, timeout }: { machines: number; timeout: number },
) => {
  describe(`${description.name} keeps a provider's promises`, () => {
    let bench: Bench
    let close: TestBench['close']
    beforeAll(async () => {
      const { close: closeTools, ...tools } = await open()
      close = closeTools
      const newMachine = (ticket: string) => newVmId(ticket, randomBytes(4).toString('hex'))
      bench = openBench(description, { ...tools, newMachine }, machines)
    }, timeout)
    afterAll(async () => {
      await bench.forAll(({ vmId }) => bench.provider.deleteVm(vmId))
      await close()
    }, timeout)

    for (const { name, needs, run } of promises)
      test(name, { timeout }, async ({ skip }) => {
        if (needs !== undefined && bench.provider[needs] === undefined) skip(`it has no ${needs}`)
        await run(bench)
      })
  })
}
