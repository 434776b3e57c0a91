/** The cloud image that a build begins with, as a raw disk. */
import { open, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { readDisk } from '../../base-image/qemu-img.ts'
import { fail } from '../../src/errors.ts'
import { COPY_DEADLINE_MS, type Context } from './context.ts'
import { explainQemuImg, NAME_AN_IMAGE } from './explain.ts'

/** No system fits into less. */
const SMALLEST_DISK_BYTES = 64 * 1024 ** 2
const SECTOR = 512
const QCOW2 = Buffer.from('QFI\u00fb', 'latin1')
/** The last bytes of a disk's first sector, also of one with a GPT. */
const BOOT_SIGNATURE = Buffer.from([0x55, 0xaa])
const OTHER_PROCESSOR = /amd64|x86[_-]64/i

const readStart = async (path: string): Promise<Buffer> => {
  const file = await open(path, 'r').catch(error => {
    throw fail('usage', `opening ${path}: ${error.message}`, NAME_AN_IMAGE)
  })
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SECTOR), 0, SECTOR, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** Returns a raw disk: the file itself, or what is made of it at `raw`. */
export const rawDisk = async (
  context: Context,
  path: string,
  raw: string,
): Promise<{ path: string; bytes: number }> => {
  if (OTHER_PROCESSOR.test(basename(path)))
    throw fail('usage', `${path} is for another processor: machines of Tart are arm64`, NAME_AN_IMAGE)
  const start = await readStart(path)
  let disk = path
  if (start.subarray(0, QCOW2.length).equals(QCOW2)) {
    await readDisk(context.run, path, { explain: explainQemuImg }, 'qcow2')
    await context.run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw], {
      ...{ deadline: COPY_DEADLINE_MS, explain: explainQemuImg },
    })
    disk = raw
  }
  const signature = (await readStart(disk)).subarray(SECTOR - BOOT_SIGNATURE.length)
  const bytes = (await stat(disk)).size
  if (!signature.equals(BOOT_SIGNATURE) || bytes < SMALLEST_DISK_BYTES)
    throw fail('usage', `${path} is not a disk that a system boots from`, NAME_AN_IMAGE)
  return { path: disk, bytes }
}
