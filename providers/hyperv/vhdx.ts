/** The little that is read of a disk before Hyper-V gets it: whether it is a whole VHDX ([MS-VHDX] 2), and whether UEFI boots it. */
import { closeSync, openSync, readSync } from 'node:fs'

const KIB = 1024
const MIB = 1024 ** 2
const HEAD_BYTES = 64 * KIB
const REGION_TABLE = 192 * KIB
const MOST_ENTRIES = 2047
const SECTOR = 512

/** As it stands in a file: the first three parts are little-endian. */
const guid = (text: string): string => {
  const [a = '', b = '', c = '', ...rest] = text.toLowerCase().split('-')
  const reversed = (hex: string) => hex.match(/../g)?.reverse().join('') ?? ''
  return [reversed(a), reversed(b), reversed(c), ...rest].join('')
}
const BLOCKS = guid('2DC27766-F623-4200-9D64-115E9BFD4A08')
const METADATA = guid('8B7CA206-4790-4B9A-B8FE-575F050F886E')
const FILE_PARAMETERS = guid('CAA16737-FA36-4D43-B3B6-33F0AA44E76B')
const HAS_PARENT = 2
const EFI_SYSTEM = guid('C12A7328-F81F-11D2-BA4B-00A0C93EC93B')
const EFI_IN_MBR = 0xef

type Read = (offset: number, length: number) => Buffer

const withFile = <T>(path: string, work: (read: Read) => T): T => {
  const file = openSync(path, 'r')
  try {
    return work((offset, length) => {
      const buffer = Buffer.alloc(length)
      readSync(file, buffer, 0, length, offset)
      return buffer
    })
  } finally {
    closeSync(file)
  }
}

export const isVhdx = (path: string): boolean => withFile(path, read => read(0, 8).toString('latin1') === 'vhdxfile')

/** Numbers of 8 bytes in a damaged file may be anything. */
const offsetAt = (buffer: Buffer, at: number): number => Number(buffer.readBigUInt64LE(at) % 2n ** 52n)

/** The values of a table: entries of 32 bytes that begin with a GUID. */
const tableOf = (table: Buffer, first: number, count: number): Map<string, Buffer> =>
  new Map(
    Array.from({ length: Math.min(count, MOST_ENTRIES) }, (_, n) => table.subarray(first + 32 * n, first + 32 * n + 32))
      .filter(entry => entry.length === 32)
      .map(entry => [entry.subarray(0, 16).toString('hex'), entry.subarray(16)]),
  )

/** The first 64 KiB that a guest sees; null when the file is damaged. */
export const readVhdx = (path: string): { head: Buffer | null; hasParent: boolean } =>
  withFile(path, read => {
    const regions = read(REGION_TABLE, HEAD_BYTES)
    const table = tableOf(regions, 16, regions.readUInt32LE(8))
    const [blocks, metadata] = [table.get(BLOCKS), table.get(METADATA)]
    if (blocks === undefined || metadata === undefined) return { head: null, hasParent: false }
    const at = offsetAt(metadata, 0)
    const items = read(at, HEAD_BYTES)
    const parameters = tableOf(items, 32, items.readUInt16LE(10)).get(FILE_PARAMETERS)
    if (parameters === undefined) return { head: null, hasParent: false }
    const hasParent = (read(at + parameters.readUInt32LE(0), 8).readUInt32LE(4) & HAS_PARENT) !== 0
    const block = read(offsetAt(blocks, 0), 8).readBigUInt64LE(0)
    const begin = Number(block >> 20n) * MIB
    // A block that nothing was written to.
    return { head: begin === 0 ? Buffer.alloc(HEAD_BYTES) : read(begin, HEAD_BYTES), hasParent }
  })

/** Whether the disk that begins so has a partition for EFI, without which a machine of generation 2 does not boot. */
export const hasEfiPartition = (head: Buffer): boolean => {
  if (head.subarray(SECTOR, SECTOR + 8).toString('latin1') === 'EFI PART') {
    const [begin, count, size] = [
      offsetAt(head, SECTOR + 72) * SECTOR,
      head.readUInt32LE(SECTOR + 80),
      head.readUInt32LE(SECTOR + 84),
    ]
    if (size < 128) return false
    return Array.from({ length: Math.min(count, 128) }, (_, n) => begin + n * size).some(
      at => head.subarray(at, at + 16).toString('hex') === EFI_SYSTEM,
    )
  }
  return head.readUInt16LE(510) === 0xaa55 && [0, 1, 2, 3].some(n => head[446 + 16 * n + 4] === EFI_IN_MBR)
}
