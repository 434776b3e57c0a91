/** The disk that a build begins with, by the real qemu-img. */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { BuildBase } from '../../../providers/provider.ts'
import { COPY_DEADLINE_MS, THIS_MAC } from '../../../providers/tart/context.ts'
import { rawDisk } from '../../../providers/tart/disk-source.ts'
import { newVmId } from '../../../src/domain.ts'
import { fail } from '../../../src/errors.ts'
import { openRun } from '../../../src/exec.ts'
import { openTartBench, tartOptions } from '../../support/tart/bench.ts'
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

test('Tart has as long for the copy of a raw disk as for any other copy', async () => {
  const bench = openTartBench()
  onTestFinished(bench.close)
  const deadlines: unknown[] = []
  const provider = bench.open({
    wrap: run => (program, argv, options) => {
      if (!argv.includes('--disk')) return run(program, argv, options)
      deadlines.push(options?.deadline)
      throw fail('cancelled', 'that is all')
    },
  })
  const { publicKey, hostKey } = tartOptions('')
  const guest = { publicKey, hostKey, run: () => Promise.reject(new Error('it never boots')) }
  const request: BuildBase = {
    ...{ name: 'other', setup: { profile: 'minimal', extra: [] }, guest, proofGuest: guest },
    from: { kind: 'file', open: async () => ({ path: at('disk.raw'), source: 'test' }) },
    newMachine: () => newVmId('base', randomBytes(4).toString('hex')),
    onPhase: () => {},
    signal: new AbortController().signal,
  }
  await expect(provider.buildBase?.(request)).rejects.toMatchObject({ failure: { kind: 'cancelled' } })
  expect(deadlines).toEqual([COPY_DEADLINE_MS])
})

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
