/** What is left of machines that Tart does not have any more: their checkpoints, which hold a disk each, and our own files. */
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Ticket, VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { CreateOptions, Leftover } from '../provider.ts'
import {
  type Context,
  cloneVm,
  deleteVms,
  folderOf,
  listAll,
  look,
  ofKind,
  renameVm,
  seedFile,
  vmFile,
} from './context.ts'
import { machinesOf } from './machines.ts'
import { type MachineMark, vmName } from './marks.ts'
import { writeSeed } from './seed.ts'

const BLOCK = 512

/** What the VM's disk takes, also of blocks that it shares with its clones. Zero where Tart's layout is another one. */
export const diskBytes = (context: Context, name: string): number => {
  const disk = statSync(vmFile(context, name, 'disk.img'), { throwIfNoEntry: false })
  return disk === undefined ? 0 : disk.blocks * BLOCK
}

const foldersOf = ({ home }: Context): string[] => {
  const root = join(home, 'tart', 'machines')
  return existsSync(root) ? readdirSync(root).filter(name => VM_ID.test(name)) : []
}
const fileBytes = (folder: string): number =>
  readdirSync(folder).reduce(
    (sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  )

/** A machine that is made at this moment may be among them: its files come first. */
export const listLeftovers = async (context: Context): Promise<Leftover[]> => {
  const folders = foldersOf(context)
  const vms = await listAll(context)
  const machines = new Set(machinesOf(vms).map(({ mark }) => mark.vmId))
  const left = new Map<string, Leftover>()
  const add = (vmId: string, bytes: number, hasDisk: boolean) => {
    if (machines.has(vmId)) return
    const before = left.get(vmId) ?? { vmId, hasDisk: false, bytes: 0 }
    left.set(vmId, { vmId, hasDisk: before.hasDisk || hasDisk, bytes: before.bytes + bytes })
  }
  for (const { name, mark } of ofKind(vms, 'checkpoint')) add(mark.vmId, diskBytes(context, name), true)
  // Nobody has worked in it: it is a clone of an image, of a machine, or of a checkpoint.
  for (const { name, mark } of ofKind(vms, 'new')) add(mark.vmId, diskBytes(context, name), false)
  for (const vmId of folders)
    if (existsSync(folderOf(context, vmId))) add(vmId, fileBytes(folderOf(context, vmId)), false)
  return [...left.values()]
}

export const hasLeftDisk = async (context: Context, id: string): Promise<boolean> =>
  (await look(context, id)).checkpoints.length > 0

/**
 * Makes the machine again from its newest checkpoint. With the seed that it left, the guest is what it was. Without one, cloud-init
 * takes it for a new machine at its next boot, and installs the keys of `options`.
 */
export const recoverMachine = async (
  context: Context,
  id: string,
  ticket: Ticket | null,
  { publicKey, hostKey }: CreateOptions,
): Promise<string | null> => {
  const doing = `making ${id} again from its newest checkpoint`
  const { machine, checkpoints, all } = await look(context, id, doing)
  if (machine !== null) return null
  const newest = checkpoints.at(-1)
  if (newest === undefined) throw fail('no-such-vm', `${doing}: no checkpoint of it is left`)
  if (!existsSync(seedFile(context, id)))
    await writeSeed(context, id, { publicKey, hostKey, instanceId: `${id}-${randomBytes(4).toString('hex')}` })
  const unfinished = vmName({ kind: 'new', vmId: id, home: context.homeId })
  await deleteVms(
    context,
    ofKind(all, 'new').map(({ name }) => name),
    doing,
  )
  const mark: MachineMark = { kind: 'machine', vmId: id, ticket, home: context.homeId }
  await cloneVm(context, newest.name, unfinished, doing)
  await renameVm(context, unfinished, vmName(mark))
  return `What it had since its newest checkpoint, ${newest.mark.name}, is gone`
}
