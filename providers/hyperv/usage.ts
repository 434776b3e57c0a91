/** What machines take of the host, and what the host has. */
import type { Capacity, VmUsage } from '../provider.ts'
import { type Context, freeSpace, isOurs, surveyHost, surveyMachines } from './context.ts'
import { bytesOf } from './folders.ts'
import { isStopped } from './parse.ts'

/** Hyper-V counts no processor seconds. */
export const usageOfMachines = async (context: Context): Promise<Map<string, VmUsage>> => {
  const machines = (await surveyMachines(context)).filter(machine => isOurs(context, machine))
  return new Map(
    await Promise.all(
      machines.map(async ({ vmId, row }): Promise<[string, VmUsage]> => {
        const memoryUsedBytes = isStopped(row.state) ? 0 : row.assigned > 0 ? row.assigned : null
        const diskBytes = await bytesOf(context.home, vmId)
        return [vmId, { diskBytes, cpus: row.cpus, memoryBytes: row.memory, memoryUsedBytes, cpuSeconds: null }]
      }),
    ),
  )
}

export const capacityOfHost = async (context: Context): Promise<Capacity> => {
  const { cpus, memory, free } = await surveyHost(context)
  return { cpus, memoryBytes: { total: memory, available: free }, diskBytes: freeSpace(context) }
}
