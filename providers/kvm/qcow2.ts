/** The snapshots in a qcow2 file, which outlive their libvirt domain. QEMU, docs/interop/qcow2.txt; numbers are big-endian. */

export type DiskSnapshot = { name: string; createdAt: Date }

/** Bytes of the header that `snapshotTable` reads. */
export const HEADER_BYTES = 72
const MAGIC = 0x51_46_49_fb
const MOST_SNAPSHOTS = 1_000
/** Of one entry: its name, id and extra data take less. */
const ENTRY_BYTES = 512

/** Where the table of snapshots lies in the file, and at most how long it is; null when there are none. */
export const snapshotTable = (header: Buffer): { offset: number; length: number; count: number } | null => {
  if (header.length < HEADER_BYTES || header.readUInt32BE(0) !== MAGIC) return null
  const count = Math.min(header.readUInt32BE(60), MOST_SNAPSHOTS)
  return count === 0 ? null : { offset: Number(header.readBigUInt64BE(64)), length: count * ENTRY_BYTES, count }
}

export const parseSnapshotTable = (table: Buffer, count: number): DiskSnapshot[] => {
  const snapshots: DiskSnapshot[] = []
  let at = 0
  while (snapshots.length < count && at + 40 <= table.length) {
    const [idLength, nameLength] = [table.readUInt16BE(at + 12), table.readUInt16BE(at + 14)]
    const nameAt = at + 40 + table.readUInt32BE(at + 36) + idLength
    const end = nameAt + nameLength
    if (end > table.length) break
    snapshots.push({
      name: table.toString('utf8', nameAt, end),
      createdAt: new Date(table.readUInt32BE(at + 16) * 1000),
    })
    at = Math.ceil(end / 8) * 8
  }
  return snapshots
}
