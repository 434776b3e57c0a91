/**
 * The checkpoints in a machine's disk that libvirt does not know: it lost them with the machine's definition, or died while it
 * made one, whose memory then takes up room that nobody would give back.
 */
import { readFileSync } from 'node:fs'
import { parseCheckpointName } from '../../src/domain.ts'
import type { Context } from './context.ts'
import { volumesOf } from './definition.ts'
import { withFile } from './host.ts'
import { snapshotXml } from './libvirt-xml.ts'
import { parseNames } from './parse.ts'
import { type DiskSnapshot, HEADER_BYTES, parseSnapshotTable, snapshotTable } from './qcow2.ts'

/** Part of a volume. */
export const downloadPart = (context: Context, volume: string, offset: number, length: number): Promise<Buffer> =>
  withFile(context, '', async file => {
    await context.virsh.run([
      ...['vol-download', '--pool', context.settings.kvmPool, volume, file],
      ...['--offset', String(offset), '--length', String(length)],
    ])
    return readFileSync(file)
  })

/** Those that have a checkpoint's name, and that libvirt does not have. */
const unknownInDisk = async (context: Context, id: string): Promise<DiskSnapshot[]> => {
  const { disk } = volumesOf(id)
  const table = snapshotTable(await downloadPart(context, disk, 0, HEADER_BYTES))
  if (table === null) return []
  const snapshots = parseSnapshotTable(await downloadPart(context, disk, table.offset, table.length), table.count)
  // Asked last: libvirt has by now what somebody made meanwhile.
  const known = parseNames(await context.virsh.run(['snapshot-list', id, '--name']))
  return snapshots.filter(({ name }) => parseCheckpointName(name) === name && !known.includes(name))
}

/**
 * Tells libvirt of them, as checkpoints of the disk: their memory is of a definition that is gone. A restore boots them. Returns
 * their names.
 */
export const keepCheckpoints = async (context: Context, id: string): Promise<string[]> => {
  const { virsh } = context
  const snapshots = await unknownInDisk(context, id)
  if (snapshots.length === 0) return []
  const definition = await virsh.run(['dumpxml', id, '--inactive', '--security-info'])
  for (const [at, { name, createdAt }] of snapshots.entries())
    await withFile(context, snapshotXml(name, createdAt, snapshots[at - 1]?.name ?? null, definition), file =>
      virsh.run(['snapshot-create', id, file, '--redefine'], { doing: `keeping the checkpoint ${name} of ${id}` }),
    )
  return snapshots.map(({ name }) => name)
}

/** Removes what a checkpoint left that was reported as interrupted. */
export const removeUnfinished = async (context: Context, id: string): Promise<void> => {
  for (const name of await keepCheckpoints(context, id))
    await context.virsh.run(['snapshot-delete', id, `--snapshotname=${name}`], {
      doing: `removing the unfinished checkpoint ${name} of ${id}`,
    })
}
