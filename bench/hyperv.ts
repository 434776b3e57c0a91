/** Row y: how many processes of PowerShell a list and the figures of 100 machines of Hyper-V take, with the tests' stand-in. */
import { hypervOptions, IMAGE, multiplyMachine, openHypervHome } from '../test/support/hyperv/bench.ts'
import { noPwsh } from '../test/support/hyperv/stand-in.ts'
import type { Row } from './main.ts'

const MACHINES = 100
const VM = 'as-ab-1-0000000a'

export const hyperv = async (): Promise<Row[]> => {
  const row = { row: 'y', target: '1' }
  const lists = `processes of PowerShell for list, ${MACHINES} machines of Hyper-V`
  if (noPwsh !== null) return [{ ...row, what: lists, measured: `left out: ${noPwsh}`, ok: null }]
  const { provider, standIn, close } = await openHypervHome()
  try {
    await provider.createVm('AB-1', IMAGE, hypervOptions(VM))
    multiplyMachine(standIn, VM, MACHINES)
    const count = async (work: () => Promise<{ length: number } | { size: number } | undefined>) => {
      const before = standIn.processes()
      await work()
      return standIn.processes() - before
    }
    const [list, usage] = [await count(() => provider.listVms()), await count(async () => provider.usage?.())]
    return [
      { ...row, what: lists, measured: String(list), ok: list === 1 },
      {
        ...row,
        what: 'the same for their figures (status, list --sort disk)',
        measured: String(usage),
        ok: usage === 1,
      },
    ]
  } finally {
    close()
  }
}
