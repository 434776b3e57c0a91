/** The promises of every provider, on a real PowerShell 7 with stubs of Hyper-V's cmdlets. */
import { describe } from 'vitest'
import { hyperv } from '../../../providers/hyperv/description.ts'
import { openHypervBench } from '../../support/hyperv/bench.ts'
import { noPwsh } from '../../support/hyperv/stand-in.ts'
import { keepsItsPromises } from '../conformance.ts'

describe.skipIf(noPwsh !== null)(`Hyper-V${noPwsh === null ? '' : `: left out, since ${noPwsh}`}`, () => {
  keepsItsPromises(hyperv, openHypervBench, { machines: 2, timeout: 300_000 })
})
