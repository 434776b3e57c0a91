/** The disk that a build begins with, by the real qemu-img. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { THIS_MAC } from '../../../providers/tart/context.ts'
import { rawDisk } from '../../../providers/tart/disk-source.ts'
import { openRun } from '../../../src/exec.ts'
import { writeRawImage } from '../../support/tart/install.ts'

const hasQemuImg = spawnSync('qemu-img', ['--version']).status === 0
const usage = { failure: { kind: 'usage' } }

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-disk-'))
  writeRawImage(join(folder, 'disk.raw'), 'hello')
})
afterEach(() => rmSync(folder, { recursive: true }))
const at = (name: string) => join(folder, name)
const read = (name: string) => {
  const context = {
    ...{ run: openRun(process.env), home: folder, homeId: '00112233445566ff', knows: () => false, host: THIS_MAC },
    settings: { tartHome: folder, tartAllow: [] },
  }
  return rawDisk(context, at(name), at('made.raw'))
}
const qemuImg = (...argv: string[]) => expect(spawnSync('qemu-img', argv).status).toBe(0)

test('a raw disk is taken as it is', async () =>
  expect(await read('disk.raw')).toEqual({ path: at('disk.raw'), bytes: 100 * 1024 ** 2 }))

test.for<[string, string | Buffer]>([
  ['a text', 'hello'],
  ['an empty file', ''],
  ['a small disk', Buffer.concat([Buffer.alloc(510), Buffer.from([0x55, 0xaa])])],
])('%s is not a disk', async ([, content]) => {
  writeFileSync(at('x.raw'), content)
  await expect(read('x.raw')).rejects.toMatchObject(usage)
})
test('a file that is missing', () => expect(read('missing')).rejects.toMatchObject(usage))

describe.skipIf(!hasQemuImg)('qcow2', () => {
  test('becomes raw', async () => {
    qemuImg('convert', '-O', 'qcow2', at('disk.raw'), at('disk.qcow2'))
    expect(await read('disk.qcow2')).toEqual({ path: at('made.raw'), bytes: 100 * 1024 ** 2 })
    const text = Buffer.alloc(5)
    readSync(openSync(at('made.raw'), 'r'), text, 0, 5, 16)
    expect([text.toString(), statSync(at('made.raw')).size]).toEqual(['hello', 100 * 1024 ** 2])
  })

  test('on top of another file, which may be any of this host, is refused', async () => {
    qemuImg('create', '-f', 'qcow2', '-b', at('disk.raw'), '-F', 'raw', at('top.qcow2'))
    await expect(read('top.qcow2')).rejects.toMatchObject({
      failure: { kind: 'usage', message: expect.stringContaining('depends on another image') },
    })
  })

  test('with its data in another file, which may be any of this host, is refused', async () => {
    const data = `data_file=${at('disk.raw')},data_file_raw=on`
    qemuImg('create', '-f', 'qcow2', '-o', data, at('data.qcow2'), '100M')
    await expect(read('data.qcow2')).rejects.toMatchObject({
      failure: { kind: 'usage', message: expect.stringContaining('depends on another image') },
    })
  })

  test('that is cut off is refused', async () => {
    writeFileSync(at('cut.qcow2'), Buffer.from('QFI\u00fb\0\0\0\u0003', 'latin1'))
    await expect(read('cut.qcow2')).rejects.toThrow('qemu-img')
  })
})
