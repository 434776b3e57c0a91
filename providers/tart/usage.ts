/** What machines take of the Mac, and what it has. */
import { statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { fail } from '../../src/errors.ts'
import type { Capacity, VmUsage } from '../provider.ts'
import { type Context, listAll, ofKind, tartHome, vmFile } from './context.ts'
import { machinesOf, readIfThere } from './machines.ts'
import { parseAvailableMemory, parseConfig, parseHost } from './parse.ts'
import { diskBytes } from './recover.ts'

/**
 * With one command: size and disks are in Tart's own files. Its list counts whole gigabytes. What a guest uses of memory and
 * processor is a process of macOS' framework, which does not say whose it is.
 */
export const usageOfMachines = async (context: Context): Promise<Map<string, VmUsage>> => {
  const vms = (await listAll(context)).filter(({ mark }) => mark?.home === context.homeId)
  const checkpoints = ofKind(vms, 'checkpoint')
  return new Map(
    machinesOf(vms).flatMap(({ name, state, mark: { vmId } }) => {
      const text = readIfThere(vmFile(context, name, 'config.json'))
      const config = text === undefined ? null : parseConfig(text)
      if (config === null) return []
      const disks = [name, ...checkpoints.filter(({ mark }) => mark.vmId === vmId).map(vm => vm.name)]
      const use: VmUsage = {
        diskBytes: disks.reduce((sum, disk) => sum + diskBytes(context, disk), 0),
        cpus: config.cpus,
        memoryBytes: config.memoryBytes,
        memoryUsedBytes: state === 'running' ? null : 0,
        cpuSeconds: null,
      }
      return [[vmId, use] as const]
    }),
  )
}

/** Of the volume that Tart's folder is on, also before there is one. */
export const diskRoom = (context: Context): { folder: string; available: number; total: number } => {
  let folder = tartHome(context)
  while (true) {
    try {
      const { bavail, blocks, bsize } = statfsSync(folder)
      return { folder, available: bavail * bsize, total: blocks * bsize }
    } catch (error) {
      if (dirname(folder) === folder) throw error
      folder = dirname(folder)
    }
  }
}

export const capacityOfHost = async (context: Context): Promise<Capacity> => {
  const doing = 'asking what this Mac has'
  const [host, pages] = await Promise.all([
    context.run('sysctl', ['-n', 'hw.ncpu', 'hw.memsize'], { doing }),
    context.run('vm_stat', [], { doing }),
  ])
  const size = parseHost(host.stdout)
  const available = parseAvailableMemory(pages.stdout)
  if (size === null || available === null) throw fail('unknown', `${doing}: sysctl or vm_stat printed something else`)
  const { available: free, total } = diskRoom(context)
  return {
    cpus: size.cpus,
    memoryBytes: { total: size.memoryBytes, available: Math.min(available, size.memoryBytes) },
    diskBytes: { total, available: free },
  }
}
