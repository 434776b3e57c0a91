/** What real libvirt does when something dies, is full or is taken away behind our back, and what a machine is after it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Provider } from '../../providers/provider.ts'
import { isFailure } from '../../src/errors.ts'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { ensureBase, home, inside, listed, makeOlder, program, succeed, swarm, virsh, withProvider } from './cli.ts'
import { openSectors, optionsOf, type Sectors } from './sectors.ts'

const failure = (promise: Promise<unknown> | undefined) =>
  (promise ?? Promise.resolve()).then(
    () => null,
    error => (isFailure(error) ? error.failure : error),
  )
const pidOf = async (vmId: string): Promise<number> =>
  Number((await succeed(program('pgrep', ['-f', `qemu.*guest=${vmId}[,]`]))).split('\n')[0])
const inDisk = async (path: string): Promise<string[]> =>
  [...(await succeed(program('qemu-img', ['snapshot', '-U', '-l', path]))).matchAll(/^\d+\s+(\S+)/gm)].map(
    ([, name = '']) => name,
  )

/** Where a machine keeps its checkpoints, and what virsh does when such a machine gets one. */
const KINDS = [
  {
    kind: 'layers',
    digit: 2,
    snapshot: (stage: Sectors, vmId: string) => [
      ...[
        'snapshot-create-as',
        vmId,
        '--no-metadata',
        '--memspec',
        `file=${stage.folder}/${vmId}.1.memory,snapshot=external`,
      ],
      ...['--diskspec', 'vda,snapshot=no', '--diskspec', 'sda,snapshot=no'],
    ],
  },
  {
    kind: 'snapshots in its disk',
    digit: 3,
    snapshot: (_stage: Sectors, vmId: string) => ['snapshot-create-as', vmId, '--name=cut-off', '--atomic'],
  },
]

const filesOf = (stage: Sectors, vmId: string) =>
  readdirSync(stage.folder)
    .filter(name => name.startsWith(`${vmId}.`))
    .sort()
const restartLibvirt = async () => {
  await succeed(program('rm', ['-f', '/run/libvirt/libvirtd.pid']))
  await succeed(program('libvirtd', ['-d', '-p', '/run/libvirt/libvirtd.pid']))
}

describe.for(KINDS)('a machine of a boot sector, with $kind', ({ kind, digit, snapshot }) => {
  let stage: Sectors
  let provider: Provider
  let vmId: string
  beforeAll(async () => {
    stage = await openSectors(`agent-swarm-faults-${digit}`, digit)
    provider = stage.provider
    vmId = stage.vmIds.idle
    if (kind !== 'layers') await makeOlder(vmId)
    await provider.startVm(vmId)
  })
  afterAll(() => stage.close())
  const disk = async () => (await virsh('domblklist', vmId)).match(/vda\s+(\S+)/)?.[1] ?? ''
  /** QEMU stands still in the middle of it. */
  const beginSnapshot = async () => {
    const qemu = await pidOf(vmId)
    process.kill(qemu, 'SIGSTOP')
    const child = spawn('virsh', ['-q', ...snapshot(stage, vmId)])
    const status = `/run/libvirt/qemu/${vmId}.xml`
    await until('libvirt to begin', () => /async='snapshot'/.test(readFileSync(status, 'utf8')), { within: 20_000 })
    return { child, goOn: () => process.kill(qemu, 'SIGCONT') }
  }

  test('a checkpoint waits for the one whose virsh was killed, and which libvirt goes on with', async () => {
    await provider.checkpoint(vmId, 'first')
    const { child, goOn } = await beginSnapshot()
    child.kill('SIGKILL')
    const second = provider.checkpoint(vmId, 'second')
    await until('the second to ask', async () => (await program('pgrep', ['-f', 'domjobinfo'])).code === 0, {
      within: 20_000,
    })
    goOn()
    await second
    const names = await provider.listCheckpoints(vmId)
    expect(names.filter(name => name !== 'cut-off')).toEqual(['first', 'second'])
    expect(await provider.listVms()).toContainEqual(expect.objectContaining({ vmId, status: 'running' }))
    await provider.deleteCheckpoint?.(vmId, 'cut-off')
  })

  test('libvirtd is killed at the beginning of a checkpoint: the machine runs on, and makes the next one', async () => {
    const { child, goOn } = await beginSnapshot()
    const daemon = Number(readFileSync('/run/libvirt/libvirtd.pid', 'utf8'))
    process.kill(daemon, 'SIGKILL')
    goOn()
    await once(child, 'exit')
    await restartLibvirt()
    await until('libvirt to answer', async () => (await program('virsh', ['-q', 'list'])).code === 0)
    await provider.startVm(vmId)
    expect((await provider.listVms()).find(vm => vm.vmId === vmId)).not.toHaveProperty('paused')
    await provider.deleteCheckpoint?.(vmId, 'cut-off')
    await provider.checkpoint(vmId, 'third')
    expect(await provider.listCheckpoints(vmId)).toEqual(['first', 'second', 'third'])
    await provider.deleteCheckpoint?.(vmId, 'third')
  })

  test('a cold restore leaves the memory out, and the checkpoint as it is', async () => {
    await provider.restore(vmId, 'first', { cold: true })
    expect(await provider.status(vmId)).toBe('stopped')
    await provider.startVm(vmId)
    await provider.restore(vmId, 'first')
    expect(await provider.status(vmId)).toBe('running')
    expect(await provider.listCheckpoints(vmId)).toEqual(['first', 'second'])
  })

  test('a machine whose disk file is gone is not stopped: that would lose it', async () => {
    const path = await disk()
    renameSync(path, `${path}.away`)
    expect(await failure(provider.stopVm(vmId))).toMatchObject({
      kind: 'unsaved-work',
      message: expect.stringContaining('somebody deleted the file of its disk'),
    })
    expect(await failure(provider.checkpoint(vmId, 'fourth'))).toMatchObject({ kind: 'unsaved-work' })
    expect(await provider.status(vmId)).toBe('running')
    renameSync(`${path}.away`, path)
  })

  test('a machine that somebody undefined is left over, and is made again with its checkpoints', async () => {
    await virsh('destroy', vmId)
    await virsh('undefine', vmId, '--snapshots-metadata')
    expect(await failure(provider.status(vmId))).toMatchObject({ kind: 'no-such-vm' })
    const left = (await provider.leftovers?.())?.find(each => each.vmId === vmId)
    expect(left).toMatchObject({ hasDisk: true })
    expect(left?.bytes).toBeGreaterThan(100_000)
    await provider.recoverVm?.(vmId, 'A-1', optionsOf(vmId))
    await provider.recoverVm?.(vmId, 'A-1', optionsOf(vmId))
    expect((await provider.listVms()).find(vm => vm.vmId === vmId)).toMatchObject({ ticket: 'A-1', status: 'stopped' })
    expect(await provider.leftovers?.()).toEqual([])
    expect(await provider.listCheckpoints(vmId)).toEqual(['first', 'second'])
    await provider.startVm(vmId)
    await provider.restore(vmId, 'second')
    expect(await provider.status(vmId)).toBe('stopped')
  })

  test('a full pool: neither a machine nor a checkpoint is made by half', async () => {
    await provider.startVm(vmId)
    const before = [await filesOf(stage, vmId), await inDisk(await disk())]
    await stage.sizeOfFolder('5m')
    const other = `as-state-9-0000000${digit}`
    expect(await failure(provider.createVm(null, 'idle', optionsOf(other)))).toMatchObject({ kind: 'disk-full' })
    expect(await failure(provider.checkpoint(vmId, 'full'))).toMatchObject({ kind: 'disk-full' })
    expect(await provider.leftovers?.()).toEqual([])
    expect([await filesOf(stage, vmId), await inDisk(await disk())]).toEqual(before)
    await stage.sizeOfFolder('600m')
    expect((await provider.listVms()).find(vm => vm.vmId === vmId)).toMatchObject({ status: 'running' })
  })
})

describe('a machine with a system', () => {
  const TICKET = 'FAULT-1'
  let vmId: string
  beforeAll(async () => {
    await ensureBase()
    await swarm('delete', TICKET, '--force')
    await succeed(swarm('create', TICKET))
    vmId = (await listed(TICKET)).vmId
  })
  afterAll(async () => {
    await swarm('delete', TICKET, '--force')
  })
  const now = () => Date.now() / 1000
  /** What a restored machine says at once, in one login. */
  const look = async () => {
    const before = now()
    const text = await inside(
      TICKET,
      'head -c 16 /dev/urandom | od -An -tx1; kill -USR1 $(cat keeper.pid); until [ -s answer ]; do sleep 0.1; done; cat answer state; date +%s.%N',
    )
    const [random = '', nonce = '', state = '', time = ''] = text.split('\n').map(line => line.trim())
    const clock = Number(time)
    expect(clock).toBeGreaterThan(before - 1)
    expect(clock).toBeLessThan(now() + 1)
    return { random, nonce, state }
  }

  test('two restores of one checkpoint: the same memory and disk, the right time, and other random numbers', async () => {
    const nonce = `nonce-${process.pid}-${Date.now()}`
    // Only a process's memory has it.
    await inside(
      TICKET,
      `rm -f answer; echo then >state; (N=${nonce}; trap 'echo $N >answer' USR1; echo $BASHPID >keeper.pid; while :; do sleep 0.2; done) >/dev/null 2>&1 </dev/null & sleep 1; sync`,
    )
    expect(await swarm('checkpoint', TICKET, 'with-nonce')).toMatchObject({ code: 0 })
    await inside(TICKET, 'kill -9 $(cat keeper.pid); echo later >state; sync')
    const pinned = join(home, 'ssh', `${vmId}.known_hosts`)
    const key = readFileSync(pinned, 'utf8')
    const [first, second] = [
      await succeed(swarm('restore', TICKET, 'with-nonce')).then(look),
      await succeed(swarm('restore', TICKET, 'with-nonce')).then(look),
    ]
    expect([first.nonce, first.state]).toEqual([nonce, 'then'])
    expect([second.nonce, second.state]).toEqual([nonce, 'then'])
    expect(first.random).not.toBe(second.random)
    expect(readFileSync(pinned, 'utf8')).toBe(key)
  })

  test('libvirtd is killed in the middle of a checkpoint: the machine is interrupted, and start lets it go on', async () => {
    const making = swarm('checkpoint', TICKET, 'cut-off')
    await until(
      'QEMU to write',
      async () => /state.state=3/.test(await virsh('domstats', vmId, '--state', '--nowait')),
      { within: 60_000, every: 1 },
    )
    process.kill(Number(readFileSync('/run/libvirt/libvirtd.pid', 'utf8')), 'SIGKILL')
    expect(await making).toMatchObject({ code: 1, stderr: expect.stringContaining('libvirt') })
    await restartLibvirt()
    const paused = await until(
      'libvirtd to see it paused',
      async () => {
        const ran = await swarm('list', '--json')
        return ran.code === 0 && JSON.parse(ran.stdout).find((row: { ticket: string }) => row.ticket === TICKET)?.paused
      },
      { within: 60_000, every: 500 },
    )
    expect(paused).toBe('making a checkpoint')
    expect(await swarm('start', TICKET)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('it was paused (making a checkpoint)'),
    })
    expect(await inside(TICKET, 'echo alive')).toBe('alive')
    expect((await listed(TICKET)).checkpoints).not.toContain('cut-off')
    expect(await swarm('checkpoint', TICKET, 'cut-off')).toMatchObject({ code: 0 })
  })

  test.skipIf(!isLong)('restore --cold brings the disk back, and boots it', async () => {
    await inside(TICKET, 'echo later >state; sync')
    const { stdout } = await swarm('restore', TICKET, 'with-nonce', '--cold')
    expect(stdout).toContain(`Restored ${TICKET} to with-nonce, its disk alone`)
    expect(await inside(TICKET, 'cat state; kill -0 $(cat keeper.pid) 2>/dev/null || echo gone')).toBe('then\ngone')
    expect((await listed(TICKET)).checkpoints).toContain('with-nonce')
  })

  test.skipIf(!isLong)(
    'a machine that somebody undefined comes back from its disk, with its pinned host key',
    async () => {
      await inside(TICKET, 'echo work >work; sync')
      await virsh('destroy', vmId)
      await virsh('undefine', vmId, '--snapshots-metadata')
      expect(await swarm('checkpoints', TICKET)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('no longer exists'),
      })
      // It has its own.
      const keys = { publicKey: 'ssh-ed25519 A x', hostKey: { privateKey: 'p', publicKey: 'q' } }
      await withProvider(async kvm =>
        kvm.recoverVm?.(vmId, TICKET, { vmId, cpus: 2, memoryMiB: 1024, diskGiB: 8, ...keys }),
      )
      expect(await swarm('start', TICKET)).toMatchObject({ code: 0 })
      expect(await inside(TICKET, 'cat work')).toBe('work')
      expect((await listed(TICKET)).checkpoints).toContain('with-nonce')
    },
  )
})
