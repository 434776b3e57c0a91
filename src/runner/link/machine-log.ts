/** Warnings that machines cause: one machine does not fill the log of its host. */
import type { Log } from '../../log.ts'

/** Warnings of one machine in one period. */
const MOST = 100
const PERIOD_MS = 10 * 60_000

/** Gives the log for what a machine causes. Only its warnings have a bound: what it was allowed is always written. */
export const openMachineLogs = (log: Log): ((vmId: string) => Log) => {
  const machines = new Map<string, { since: number; count: number }>()
  const end = (vmId: string): void => {
    const count = machines.get(vmId)?.count ?? 0
    machines.delete(vmId)
    if (count > MOST) log.warn({ vmId, count: count - MOST }, 'more warnings about this machine were left out')
  }
  return vmId => {
    const warn = (fields: object, message: string): void => {
      const now = performance.now()
      for (const [id, { since }] of machines) if (now - since > PERIOD_MS) end(id)
      const machine = machines.get(vmId) ?? { since: now, count: 0 }
      machines.set(vmId, machine)
      machine.count += 1
      if (machine.count <= MOST) log.warn(fields, message)
    }
    return Object.assign(Object.create(log), { warn }) as Log
  }
}
