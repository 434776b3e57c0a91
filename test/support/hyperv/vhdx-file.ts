/** A VHDX with little in it ([MS-VHDX] 2): the tables that lead to the first block, and a GPT with one partition there. */
import { closeSync, openSync, writeSync } from 'node:fs'

const MIB = 1024 ** 2
const bytesOf = (hex: string) => Buffer.from(hex, 'hex')
/** As they stand in a file. */
const IDS = {
  blocks: bytesOf('6677c22d23f600429d64115e9bfd4a08'),
  metadata: bytesOf('06a27c8b90479a4bb8fe575f050f886e'),
  parameters: bytesOf('3767a1ca36fa434db3b633f0aa44e76b'),
}

/** `type`: of the partition, as it stands in a GPT. */
export const gptHead = (type: string): Buffer => {
  const head = Buffer.alloc(64 * 1024)
  head.write('EFI PART', 512, 'latin1')
  head.writeBigUInt64LE(2n, 512 + 72)
  head.writeUInt32LE(128, 512 + 80)
  head.writeUInt32LE(128, 512 + 84)
  bytesOf(type).copy(head, 1024)
  return head
}
export const EFI_PARTITION = '28732ac11ff8d211ba4b00a0c93ec93b'
export const LINUX_PARTITION = '0fc63daf848347728e793d69d8477de4'

export const writeVhdx = (path: string, type: string): void => {
  const region = Buffer.alloc(16 + 64)
  region.write('regi', 0, 'latin1')
  region.writeUInt32LE(2, 8)
  for (const [at, id, offset] of [
    [16, IDS.blocks, 3],
    [48, IDS.metadata, 2],
  ] as const) {
    id.copy(region, at)
    region.writeBigUInt64LE(BigInt(offset * MIB), at + 16)
    region.writeUInt32LE(MIB, at + 24)
  }
  const items = Buffer.alloc(64 * 1024 + 8)
  items.write('metadata', 0, 'latin1')
  items.writeUInt16LE(1, 10)
  IDS.parameters.copy(items, 32)
  items.writeUInt32LE(64 * 1024, 48)
  items.writeUInt32LE(8, 52)
  items.writeUInt32LE(32 * MIB, 64 * 1024)
  const block = Buffer.alloc(8)
  block.writeBigUInt64LE((4n << 20n) | 6n)
  const file = openSync(path, 'w')
  try {
    writeSync(file, 'vhdxfile', 0)
    writeSync(file, region, 0, region.length, 192 * 1024)
    writeSync(file, items, 0, items.length, 2 * MIB)
    writeSync(file, block, 0, block.length, 3 * MIB)
    writeSync(file, gptHead(type), 0, 64 * 1024, 4 * MIB)
  } finally {
    closeSync(file)
  }
}
