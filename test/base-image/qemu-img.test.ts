/** What is read of the disk that a build begins with. `run` answers as qemu-img 7.2 does. */
import { expect, test } from 'vitest'
import { measureDisk, readDisk } from '../../base-image/qemu-img.ts'
import type { Run } from '../../src/exec.ts'

const runWith = (info: object) =>
  (async () => ({ stdout: JSON.stringify({ 'virtual-size': 2 ** 30, ...info }) })) as unknown as Run

test.for(['qcow2', 'raw'])('a disk of the format %s is read', async format => {
  expect(await readDisk(runWith({ format }), '/disk', {})).toEqual({ format, bytes: 2 ** 30 })
})
test('what a disk takes once it is converted is measured', async () => {
  const run = runWith({ required: 5_636_096, 'fully-allocated': 1_074_135_040 })
  expect(await measureDisk(run, '/disk', 'qcow2', {})).toBe(5_636_096)
})
test.for([
  ['a vmdk, which may be a text that names any file', { format: 'vmdk' }, 'of the format vmdk'],
  ['a vdi', { format: 'vdi' }, 'of the format vdi'],
  ['a disk on top of another file', { format: 'qcow2', 'backing-filename': '/etc/shadow' }, 'depends on another image'],
  [
    'a disk whose data is in another file',
    { format: 'qcow2', 'format-specific': { data: { 'data-file': '/etc/shadow' } } },
    'depends on another image',
  ],
  ['a disk that is larger than that of any machine', { format: 'raw', 'virtual-size': 2 ** 50 }, '1048576 GiB'],
] as const)('%s is refused', async ([, info, words]) => {
  await expect(readDisk(runWith(info), '/disk', {})).rejects.toMatchObject({
    failure: { kind: 'usage', message: expect.stringContaining(words) },
  })
})
