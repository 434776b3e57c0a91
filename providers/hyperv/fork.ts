/**
 * Machines made of another machine's checkpoint or present state: of its disk alone. They are stopped, and get their identity as they
 * boot, from their seed.
 *
 * Hyper-V exports a checkpoint, and merges its differencing disks into a new one
 * (https://learn.microsoft.com/windows/win32/hyperv_v2/msvm-virtualsystemexportsettingdata, ExportOneSnapshot); machines and their
 * checkpoints are exported started or stopped
 * (https://learn.microsoft.com/windows-server/virtualization/hyper-v/deploy/export-and-import-virtual-machines). Convert-VHD takes no
 * disk that is attached (https://learn.microsoft.com/powershell/module/hyper-v/convert-vhd), and nobody says whether one below it is:
 * it converts what was exported, which nobody uses. So a fork depends on no disk, whether an export is merged or a chain.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import type { CheckpointName } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { ForkTarget } from '../provider.ts'
import { checked, deleteTemporary, TEMPORARY } from './checkpoints.ts'
import { aboutMachine, type Context, FULL_BYTES, machinesIn, orDiskFull, requireSpace, surveyHost } from './context.ts'
import {
  filesIn,
  filesOf,
  folderOf,
  isDisk,
  makeFolder,
  REMOVAL,
  readOwner,
  requireShortExport,
  requireShortPath,
} from './folders.ts'
import { imageFiles } from './images.ts'
import { defineNew, deleteMachine, requireOurs } from './machines.ts'
import { doneAnswer, type Host, type Row } from './parse.ts'

const COPY_DEADLINE_MS = 30 * 60_000
const MIB = 1024 ** 2

/** `source`: the source as Hyper-V lists it. `doing`: for failures. */
type Forking = { context: Context; source: Row; checkpoint: CheckpointName | null; doing: string }

const remove = async (context: Context, targets: readonly ForkTarget[]): Promise<void> => {
  const failures: unknown[] = []
  for (const { vmId } of targets) await deleteMachine(context, vmId).catch(error => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

/** Of which an earlier call left something. */
const begun = ({ home }: Context, { machines }: Host, targets: readonly ForkTarget[]) => {
  const names = new Set(machines.map(({ name }) => name))
  return targets.filter(({ vmId }) => names.has(vmId) || existsSync(folderOf(home, vmId)))
}

/** The export and each fork have the whole disk. The checkpoint of a machine that is not off has its memory, as its export does. */
const requireRoom = async ({ context, source, checkpoint, doing }: Forking, count: number): Promise<void> => {
  const { home } = context
  const disks = (await filesIn(folderOf(home, source.name))).filter(({ path }) => isDisk(path))
  const image = readOwner(home, source.name)?.image ?? null
  const base = image === null ? null : statSync(imageFiles(home, image).image, { throwIfNoEntry: false })
  const whole = disks.reduce((sum, { bytes }) => sum + bytes, base?.size ?? 0)
  const present = source.state === 'Off' ? 0 : 2 * source.memory
  const memory = checkpoint === null ? present : source.memory
  requireSpace(context, doing, (count + 1) * whole + memory + FULL_BYTES)
}

/** Makes the folder of each, with a disk of its own. */
const copyDisks = async (
  { context, source, checkpoint, doing }: Forking,
  targets: readonly [ForkTarget, ...ForkTarget[]],
): Promise<void> => {
  const { home, homeId, script } = context
  for (const { vmId } of targets)
    makeFolder(home, vmId, { home: homeId, mac: '', address: null, gateway: null, image: null })
  // In the folder of the first, so that it has an owner.
  const folder = filesOf(home, targets[0].vmId).export
  mkdirSync(folder)
  const data = {
    ...{ ...aboutMachine(context, source.name), checkpoint, temporary: TEMPORARY, export: folder },
    copies: targets.map(({ vmId }) => ({ vmId, disk: filesOf(home, vmId).disk })),
  }
  try {
    await script('fork', data, doneAnswer, { doing, deadline: COPY_DEADLINE_MS }).catch(orDiskFull(context, doing))
  } finally {
    // What it leaves, the next fork removes.
    if (checkpoint === null) await deleteTemporary(context, source.name).catch(() => {})
  }
  await rm(folder, REMOVAL)
}

/** Defines the fork, whose disk is there. It is as large as its source. */
const defineFork = async ({ context, source }: Forking, target: ForkTarget): Promise<void> => {
  const { ticket, ...keys } = target
  const options = { ...keys, cpus: source.cpus, memoryMiB: source.memory / MIB, diskGiB: 0 }
  const machineId = randomBytes(16).toString('hex')
  // Each look has the address of the fork before.
  const host = await surveyHost(context)
  await defineNew(context, { ticket, image: null, base: null, options, host, machineId }, () => {})
}

/** All forks are of one moment. The disk has what the guest had written to it, as after a power failure. */
export const forkMachine = async (
  context: Context,
  id: string,
  checkpoint: CheckpointName | null,
  targets: readonly ForkTarget[],
): Promise<void> => {
  const { home } = context
  const name = checkpoint === null ? TEMPORARY : checked(checkpoint)
  const doing = checkpoint === null ? `forking ${id}` : `forking ${id} from ${checkpoint}`
  aboutMachine(context, id)
  const [first, ...rest] = targets
  if (first === undefined) return
  for (const { vmId } of targets) {
    aboutMachine(context, vmId)
    requireShortPath(home, vmId)
  }
  requireShortExport(home, first.vmId, name.length > id.length ? name : id)
  const host = await surveyHost(context)
  const source = await requireOurs(context, id, machinesIn(host))
  if (source === undefined) throw fail('no-such-vm', `${doing}: Hyper-V has no such machine`)
  await remove(context, begun(context, host, targets))
  const forking = { context, source: source.row, checkpoint, doing }
  await requireRoom(forking, targets.length)
  try {
    await copyDisks(forking, [first, ...rest])
    for (const target of targets) await defineFork(forking, target)
  } catch (error) {
    // The runner deletes what is left of them.
    await remove(context, targets).catch(() => {})
    throw error
  }
}
