/** The file of a running machine's disk. Somebody may have deleted it: QEMU goes on with it, and it is gone when QEMU ends. */
import { fail } from '../../src/errors.ts'
import type { Context, Machine } from './context.ts'
import { volumesOf } from './definition.ts'
import { listVolumes, refreshPool } from './host.ts'
import { parseVolumes } from './parse.ts'
import type { Answer, Command } from './virsh.ts'

/** libvirt opens the file for the answer. */
export const diskCommand = ({ settings }: Pick<Context, 'settings'>, id: string): Command => [
  ...['vol-info', '--pool', settings.kvmPool, volumesOf(id).disk, '--bytes'],
]

/** `machine`: with the answer to `diskCommand`. Fails with `unsaved-work` when a running machine has lost its file. */
export const requireDiskFile = async (context: Context, machine: Machine & Answer, doing: string): Promise<void> => {
  const { disk } = volumesOf(machine.mark.vmId)
  if (machine.status !== 'running' || parseVolumes(machine.stdout).has(disk)) return
  // libvirt may not know the volume yet, or not answer for another reason.
  await refreshPool(context)
  if ((await listVolumes(context)).includes(disk)) return
  throw fail(
    'unsaved-work',
    `${doing}: somebody deleted the file of its disk, ${disk}, from the pool ${context.settings.kvmPool}. The machine still runs with it, and all that is on the disk is lost when the machine stops`,
    'While it runs, push the work in it or copy it out (agent-swarm ssh). Then delete the machine: that saves unsaved work first.',
  )
}
