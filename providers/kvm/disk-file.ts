/** The file of a running machine's disk. Somebody may have deleted it: QEMU goes on with it, and it is gone when QEMU ends. */
import { fail } from '../../src/errors.ts'
import type { Context, Machine } from './context.ts'
import { volumesOf } from './definition.ts'
import { listVolumes, refreshPool, withFile } from './host.ts'
import { layerOf } from './layers.ts'
import { withDisk } from './libvirt-xml.ts'
import { monitor } from './monitor.ts'
import { parseBlocks, parseDisks, parseStates, parseVolumes } from './parse.ts'
import type { Answer, Command } from './virsh.ts'
import { volumeInfo } from './volumes.ts'

/** libvirt opens the file for the answer. */
export const diskCommand = (context: Pick<Context, 'settings'>, id: string): Command =>
  volumeInfo(context, volumesOf(id).disk)
/** With the disk in use, which is another one after a checkpoint (layers.ts). */
export const diskCommands = (context: Pick<Context, 'settings'>, id: string): Command[] => [
  diskCommand(context, id),
  ['domblklist', id],
]

/** The file of the disk in use, in an answer to `diskCommands`. */
export const activeDisk = (text: string): string | null => parseDisks(text)[0] ?? null

/** `machine`: with the answer to `diskCommands`. Fails with `unsaved-work` when a running machine has lost its file. */
export const requireDiskFile = async (context: Context, machine: Machine & Answer, doing: string): Promise<void> => {
  const { stdout, status, mark } = machine
  if (status !== 'running') return
  const disk = activeDisk(stdout)?.replace(/^.*\//, '') ?? volumesOf(mark.vmId).disk
  if (parseVolumes(stdout).has(disk)) return
  if (disk !== volumesOf(mark.vmId).disk) {
    const again = await context.virsh.ask([volumeInfo(context, disk)])
    if (parseVolumes(again.stdout).has(disk)) return
  }
  // libvirt may not know the volume yet, or not answer for another reason.
  await refreshPool(context)
  if ((await listVolumes(context)).includes(disk)) return
  throw fail(
    'unsaved-work',
    `${doing}: somebody deleted the file of its disk, ${disk}, from the pool ${context.settings.kvmPool}. The machine still runs with it, and all that is on the disk is lost when the machine stops`,
    'While it runs, push the work in it or copy it out (agent-swarm ssh). Then delete the machine: that saves unsaved work first.',
  )
}

export type DiskInUse = {
  /** The file that the machine writes into; null when nobody can name it. */
  active: string | null
  /** Whether libvirt takes another file for it: it was killed within a snapshot, after QEMU had changed to the new layer. */
  isUnknown: boolean
  /** Files and volumes that the machine uses, or will use after its next start. */
  used: string[]
  /** Whether that is all of them: QEMU answered, or there is none. */
  isAll: boolean
}

/** The volume of a file. */
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)

const readDisks = async ({ virsh }: Context, id: string): Promise<DiskInUse & { next: string | null }> => {
  const { stdout } = await virsh.ask([
    ...[['domblklist', id], ['domblklist', id, '--inactive'], monitor(id, 'query-block')],
    ['domstats', id, '--state', '--nowait'],
  ])
  const [known, next] = parseDisks(stdout)
  const { written, open } = parseBlocks(stdout)
  const layer = written.find(volume => layerOf(volume, id) !== null)
  const isUnknown = known !== undefined && layer !== undefined && layer !== nameOf(known)
  return {
    active: isUnknown ? `${known.slice(0, -nameOf(known).length)}${layer}` : (known ?? null),
    isUnknown,
    next: next ?? null,
    used: [...(known === undefined ? [] : [known]), ...(next === undefined ? [] : [next]), ...open].map(nameOf),
    isAll: layer !== undefined || parseStates(stdout).get(id)?.status === 'stopped',
  }
}

/**
 * Makes the definition of a running machine name the disk that it uses. A memory that libvirt saved brings its own disk back, and leaves
 * the definition as it is (libvirt 9.0): after a crash in a checkpoint of it, that is the next layer, which lacks everything that is
 * written now. libvirt's snapshots change the definition only while both are the same.
 */
export const settleDisk = async (context: Context, id: string): Promise<DiskInUse> => {
  const { virsh } = context
  const { next, ...disk } = await readDisks(context, id)
  if (disk.active === null || next === null || disk.active === next) return disk
  const definition = await virsh.run(['dumpxml', id, '--inactive', '--security-info'])
  await withFile(context, withDisk(definition, disk.active), file =>
    virsh.run(['define', file], { doing: `correcting the disk in the definition of ${id}` }),
  )
  return disk
}

/** The disk of a running machine, which libvirt must know: it would save the memory with another one. */
export const requireKnownDisk = async (context: Context, id: string, doing: string): Promise<void> => {
  const { active, isUnknown } = await settleDisk(context, id)
  if (isUnknown)
    throw fail(
      'refused',
      `${doing}: libvirt ended within a checkpoint, and does not know ${active}, the layer that the machine writes into`,
      'Restart the machine, which keeps its disk: agent-swarm restart <TICKET>',
    )
}
