/** qemu-img, which is not part of Windows: makes a VHDX of another disk. */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { type DiskInfo, explainQemuImg, measureDisk, readDisk } from '../../base-image/qemu-img.ts'
import { allow, fail } from '../../src/errors.ts'
import type { Run } from '../../src/exec.ts'
import { FREE_DISK_SPACE } from './explain.ts'

const COPY_DEADLINE_MS = 30 * 60_000
/** What a partition table and a little more take. */
const HEAD_SECTORS = 128
const SECTOR = 512

const explain = explainQemuImg('Name a disk with a system: a VHDX, qcow2 or raw file.', FREE_DISK_SPACE)

export const doesConvert = async (run: Run): Promise<boolean> =>
  (await run('qemu-img', ['--version']).catch(allow('provider-missing'))) !== undefined

/** Fails without qemu-img, too. */
export const inspect = (run: Run, path: string): Promise<DiskInfo> =>
  readDisk(run, path, { explain, doing: `reading ${path}` }).catch(error => {
    allow('provider-missing')(error)
    throw fail(
      'usage',
      `${path} is not a VHDX file, and qemu-img, which would make one of it, is not on PATH`,
      'Name a VHDX file, or install QEMU for Windows and put its folder on PATH.',
    )
  })

export const measure = (run: Run, path: string, format: string): Promise<number> =>
  measureDisk(run, path, format, { explain, doing: `measuring ${path}` })

/** The first 64 KiB that a guest sees. `folder`: for a file that is made on the way. */
export const firstBytes = async (run: Run, path: string, format: string, folder: string): Promise<Buffer> => {
  const head = join(folder, 'head.raw')
  const argv = ['dd', '-f', format, '-O', 'raw', `bs=${SECTOR}`, `count=${HEAD_SECTORS}`, `if=${path}`, `of=${head}`]
  await run('qemu-img', argv, { explain, doing: `reading ${path}` })
  return readHead(head)
}

const readHead = (path: string): Buffer => {
  const buffer = Buffer.alloc(HEAD_SECTORS * SECTOR)
  const file = openSync(path, 'r')
  try {
    return buffer.subarray(0, readSync(file, buffer, 0, buffer.length, 0))
  } finally {
    closeSync(file)
  }
}

export const convert = async (run: Run, from: string, format: string, to: string, signal: AbortSignal) => {
  const argv = ['convert', '-f', format, '-O', 'vhdx', '-o', 'subformat=dynamic', from, to]
  await run('qemu-img', argv, { deadline: COPY_DEADLINE_MS, explain, signal, doing: `making a VHDX of ${from}` })
}
