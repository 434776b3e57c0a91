/** The promises of every provider, on a real PowerShell 7 with stubs of Hyper-V's cmdlets. */
import { describe, expect, test } from 'vitest'
import { hyperv } from '../../../providers/hyperv/description.ts'
import { hypervOptions, IMAGE, openHypervBench, openHypervHome } from '../../support/hyperv/bench.ts'
import { noPwsh } from '../../support/hyperv/stand-in.ts'
import { isLong } from '../../support/samples.ts'
import { keepsItsPromises } from '../conformance.ts'

describe.skipIf(noPwsh !== null)(`Hyper-V${noPwsh === null ? '' : `: left out, since ${noPwsh}`}`, () => {
  keepsItsPromises(hyperv, openHypervBench, { machines: 2, timeout: 300_000 })

  test.skipIf(!isLong)('each script in a process of its own, as on Windows', { timeout: 300_000 }, async () => {
    const { provider, standIn, machineFolders, close } = await openHypervHome({}, { warm: false })
    const vmId = 'as-ab-1-0000000a'
    try {
      await provider.createVm('AB-1', IMAGE, hypervOptions(vmId))
      expect(await provider.listVms()).toMatchObject([{ vmId, ticket: 'AB-1', status: 'stopped' }])
      await provider.deleteVm(vmId)
      expect(machineFolders()).toEqual([])
      expect(await standIn.violations()).toBe('')
    } finally {
      close()
    }
  })
})
