/** The file of a running machine's disk. Somebody may have deleted it: QEMU goes on with it, and it is gone when QEMU ends. */
import { fail } from '../../src/errors.ts'
import type { Context, Machine } from './context.ts'
import { volumesOf } from './definition.ts'
import { listVolumes, refreshPool, withFile } from './host.ts'
import { withDisk } from './libvirt-xml.ts'
import { parseDisks, parseVolumes } from './parse.ts'
import type { Answer, Command } from './virsh.ts'

/** libvirt opens the file for the answer. */
const infoOf = ({ settings }: Pick<Context, 'settings'>, volume: string): Command => [
  ...['vol-info', '--pool', settings.kvmPool, volume, '--bytes'],
]
export const diskCommand = (context: Pick<Context, 'settings'>, id: string): Command =>
  infoOf(context, volumesOf(id).disk)
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
    const again = await context.virsh.ask([infoOf(context, disk)])
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

/** What the machine uses now, and what it will use after its next start. */
export const bothDisks = (id: string): Command[] => [
  ['domblklist', id],
  ['domblklist', id, '--inactive'],
]

/**
 * Makes the definition of a running machine name the disk that it uses, and returns that disk. A memory that libvirt saved brings its
 * own disk back, and leaves the definition as it is (libvirt 9.0): after a crash in a checkpoint of it, that is the next layer, which
 * lacks everything that is written now. libvirt's snapshots change the definition only while both are the same.
 */
export const settleDisk = async (context: Context, id: string): Promise<string | null> => {
  const { virsh } = context
  const [active, next] = parseDisks((await virsh.ask(bothDisks(id))).stdout)
  if (active === undefined || next === undefined || active === next) return active ?? null
  const definition = await virsh.run(['dumpxml', id, '--inactive', '--security-info'])
  await withFile(context, withDisk(definition, active), file =>
    virsh.run(['define', file], { doing: `correcting the disk in the definition of ${id}` }),
  )
  return active
}
