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
  'actual-size': v.optional(v.number(), 0),
  'backing-filename': v.optional(v.string()),
  'format-specific': v.optional(v.object({ data: v.optional(v.object({ 'data-file': v.optional(v.string()) })) })),
})

/** `bytes`: what a guest sees; `used`: what the file takes. */
export type DiskInfo = { format: string; bytes: number; used: number }

/** A file of another format, for example vmdk, may be a text that names any file of this host. */
const FORMATS = ['qcow2', 'raw']

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
  return { format: read.format, bytes: read['virtual-size'], used: read['actual-size'] }
}
