/** qemu-img, and the disk that a build begins with. */
import * as v from 'valibot'
import { type Explain, explainBy, fail } from '../src/errors.ts'
import type { Run } from '../src/exec.ts'

/** Texts of qemu-img 7.2. Both words are remedies. */
export const explainQemuImg = (nameADisk: string, freeSpace: string): Explain =>
  explainBy([
    [/Could not open|No such file/, 'usage', nameADisk],
    [/No space left/, 'disk-full', freeSpace, 'the disk is full'],
  ])

const info = v.object({
  format: v.string(),
  'virtual-size': v.number(),
  'backing-filename': v.optional(v.string()),
  'format-specific': v.optional(v.object({ data: v.optional(v.object({ 'data-file': v.optional(v.string()) })) })),
})

/** `bytes`: what a guest sees. */
export type DiskInfo = { format: string; bytes: number }

/** A file of another format, for example vmdk, may be a text that names any file of this host. */
const FORMATS = ['qcow2', 'raw']
/** No machine gets a larger disk (`diskGiB`), and none gets a smaller one than its image has. */
const MOST_DISK_GIB = 16_384

/** Fails with `usage` for a disk that depends on another file, which may be any of this host: what it holds would be in the image. */
export const readDisk = async (
  run: Run,
  path: string,
  options: Parameters<Run>[2],
  format?: string,
): Promise<DiskInfo> => {
  const form = format === undefined ? [] : ['-f', format]
  const { stdout } = await run('qemu-img', ['info', ...form, '--output=json', path], options)
  const read = v.parse(v.pipe(v.string(), v.parseJson(), info), stdout)
  if (!FORMATS.includes(read.format))
    throw fail('usage', `${path} is a disk of the format ${read.format}`, 'Name a qcow2 or raw file.')
  if (read['backing-filename'] !== undefined || read['format-specific']?.data?.['data-file'] !== undefined)
    throw fail('usage', `${path} depends on another image`, 'Flatten it first: qemu-img convert -O qcow2 FILE FLAT')
  const bytes = read['virtual-size']
  if (bytes > MOST_DISK_GIB * 1024 ** 3)
    throw fail(
      'usage',
      `${path} is a disk of ${Math.ceil(bytes / 1024 ** 3)} GiB, and machines have at most ${MOST_DISK_GIB} GiB`,
      'Name a smaller disk.',
    )
  return { format: read.format, bytes }
}

const measured = v.object({ required: v.number() })

/** Bytes that the disk takes once it is converted. A compressed file takes less itself. */
export const measureDisk = async (
  run: Run,
  path: string,
  format: string,
  options: Parameters<Run>[2],
): Promise<number> => {
  // Other formats take about as much, and qemu-img measures no vhdx.
  const argv = ['measure', '-f', format, '-O', 'qcow2', '--output=json', path]
  const { stdout } = await run('qemu-img', argv, options)
  return v.parse(v.pipe(v.string(), v.parseJson(), measured), stdout).required
}
