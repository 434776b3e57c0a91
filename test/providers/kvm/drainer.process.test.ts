/** The pipe of a live checkpoint's memory, with real readers and writers. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { finishDrainer, openDrainer, releaseDrainer } from '../../../providers/kvm/drainer.ts'
import { COMPLETE } from '../../../providers/kvm/save-image.ts'
import { openRun } from '../../../src/exec.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-drainer-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const memory = 'of a guest'.repeat(100_000)

test.for([
  ['once, with the header in it', [`LibvirtQemudPart${memory}`]],
  ['twice, the last time for the header', [`LibvirtQemudPart${memory}`, COMPLETE]],
] as const)('libvirt opens the pipe %s: the file is whole, and one that libvirt restores', async ([, writes]) => {
  const [fifo, file] = [join(folder, 'fifo'), join(folder, 'memory')]
  await openDrainer({ run: openRun({ PATH: process.env.PATH }) }, fifo, file)
  for (const text of writes) writeFileSync(fifo, text)
  await finishDrainer(fifo, file, 'making a checkpoint')
  // A second time that comes before the first is read goes behind it, where libvirt does not look.
  expect(readFileSync(file, 'utf8').startsWith(`${COMPLETE}${memory}`)).toBe(true)
  await releaseDrainer(fifo)
})
