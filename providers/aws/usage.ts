/** What machines take. AWS says what a machine has, and nothing of what it uses now. */
import type { VmUsage } from '../provider.ts'
import { type Context, ownMachines } from './context.ts'
import { parseSize } from './marks.ts'

const MIB = 1024 ** 2
const GIB = 1024 ** 3

/** The size is in the mark. One whose type somebody changed has another size than that. */
export const usageOfMachines = async (context: Context): Promise<Map<string, VmUsage>> =>
  new Map(
    (await ownMachines(context)).flatMap(({ mark, instance }) => {
      const size = parseSize(instance.Tags)
      if (size === null || size.type !== instance.InstanceType) return []
      const usage: VmUsage = {
        diskBytes: size.diskGiB * GIB,
        cpus: size.cpus,
        memoryBytes: size.memoryMiB * MIB,
        memoryUsedBytes: instance.State.Name === 'stopped' ? 0 : null,
        cpuSeconds: null,
      }
      return [[mark.vmId, usage] as const]
    }),
  )
