/** How libvirt gets the memory of a fork: a virsh that is a script reads it as libvirt does, out of a real pipe. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Context } from '../../../providers/kvm/context.ts'
import { readMemoryImage, removePipe, restoreMemory, timesRead } from '../../../providers/kvm/memory-image.ts'
import { parseSaveImage, saveImageStart } from '../../../providers/kvm/save-image.ts'
import { openVirsh } from '../../../providers/kvm/virsh.ts'
import { openRun } from '../../../src/exec.ts'
import { until } from '../../support/wait.ts'
import { failureOf } from './fake-virsh.ts'

const VM = 'as-a-1-0000000b'
const [OLD, OWN] = ['<domain>source</domain>', '<domain>its fork</domain>']
/** More than a pipe holds. */
const STREAM = Buffer.alloc(3_000_000, 'QEVM a memory ')
const START = saveImageStart({ xml: OLD, cookie: '<cookie/>', wasRunning: true, format: 0 }, 2_000)

const OWN_START = saveImageStart({ xml: OWN, cookie: '<cookie/>', wasRunning: true, format: 0 })

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-memory-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** `reads`: how often `restore` opens the file. */
const context = (libvirt: string, { reads = 1, restore = '', download = '' } = {}): Context => {
  writeFileSync(join(folder, 'image'), Buffer.concat([START, STREAM]))
  mkdirSync(join(folder, 'bin'))
  writeFileSync(
    join(folder, 'bin/virsh'),
    `#!/bin/bash
cd '${folder}'
shift 3
case $1 in
  version) echo 'Running against daemon: ${libvirt}' ;;
  vol-info) printf 'Name: memory\\nAllocation: 3000000\\n' ;;
  vol-download) ${download}
    at=$7 most=\${9:-3100000}
    tail -c +$((at + 1)) image | head -c $most >"$5" ;;
  restore) ${restore}
    for n in $(seq 2 ${reads}); do head -c ${OWN_START.length} "$2" >first; done
    cat "$2" >restored; [ "$3" = --paused ] ;;
esac
`,
  )
  chmodSync(join(folder, 'bin/virsh'), 0o755)
  const run = openRun({ PATH: `${folder}/bin:${process.env.PATH}` })
  const settings = { kvmUri: 'qemu:///system', kvmPool: 'pool' }
  return { run, virsh: openVirsh(run, settings), home: folder, settings } as unknown as Context
}
/** Whether this process is cat, and waits: for the other end of the pipe that it opens. */
const isWaitingCat = (pid: number): boolean => / \(cat\) S /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
const restored = () => readFileSync(join(folder, 'restored'))
const left = () => readdirSync(join(folder, 'kvm'))
const restore = async (of: Context) =>
  restoreMemory(of, { image: await readMemoryImage(of, 'memory'), vmId: VM, doing: 'forking' }, OWN)

test.for([
  ['libvirt 9.0 reads our definition and the stream in one pass', '9.0.0', 1],
  ['libvirt 11.3 opens it twice', '11.3.0', 2],
  ['libvirt between them gets a file', '10.0.0', 1],
] as const)('%s', async ([, libvirt, reads]) => {
  await restore(context(libvirt, { reads }))
  const bytes = restored()
  expect(parseSaveImage(bytes)).toMatchObject({ xml: OWN, cookie: '<cookie/>', wasRunning: true })
  expect(bytes.subarray(-STREAM.length).equals(STREAM)).toBe(true)
  // Nothing between our definition and the stream; in a file, the padding of before.
  const isFile = timesRead(libvirt) === null
  expect(bytes.length).toBe(STREAM.length + (isFile ? START : OWN_START).length)
  expect(left()).toEqual([])
})

test('forks that get a file get it one after the other: there is room for one copy at a time', async () => {
  const of = context('10.0.0', { restore: 'ls -d kvm/tmp-* >>copies' })
  await Promise.all([restore(of), restore(of), restore(of)])
  const copies = readFileSync(join(folder, 'copies'), 'utf8').trim().split('\n')
  expect([copies.length, new Set(copies).size]).toEqual([3, 3])
  expect(left()).toEqual([])
})

test('a libvirt that refuses the image does not leave the writer waiting', async () => {
  const refused = context('9.0.0', { restore: 'echo "error: domain already exists" >&2; exit 1' })
  expect(await failureOf(restore(refused))).toMatchObject({ message: expect.stringContaining('domain already exists') })
  expect(left()).toEqual([])
})

test.for([
  ['before libvirt reads', 'until [ -e half ]; do sleep 0.05; done; sleep 0.3'],
  ['while libvirt reads', ''],
])('a stream that breaks off %s ends the restore, and is reported as the reason', async ([, late = '']) => {
  const of = context('9.0.0', {
    restore: late,
    download: '[ "$7" = 0 ] || { echo half >"$5"; touch half; echo "error: cannot read the volume" >&2; exit 1; }',
  })
  expect(await failureOf(restore(of))).toMatchObject({ message: expect.stringContaining('cannot read the volume') })
  expect(left()).toEqual([])
})

test('who waits for a pipe that a killed process left goes on when it is removed', async () => {
  const of = context('9.0.0')
  mkdirSync(join(folder, 'kvm'))
  const pipe = join(folder, 'kvm', `fork-${VM}`)
  await of.run('mkfifo', [pipe])
  let pid = 0
  const reader = of.run('sh', ['-c', 'echo $$; exec cat "$0"', pipe], { onLine: line => (pid ||= Number(line)) })
  await until('the reader', () => pid > 0 && isWaitingCat(pid))
  removePipe(of, VM)
  expect((await reader).exitCode).toBe(0)
  expect(existsSync(pipe)).toBe(false)
})
