/** A base image of a raw disk and of a VHDX that the real qemu-img made, with machines of the stand-in's Hyper-V. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inspect } from '../../../providers/hyperv/qemu-img.ts'
import { readVhdx } from '../../../providers/hyperv/vhdx.ts'
import type { BuildBase, GuestAccess } from '../../../providers/provider.ts'
import { openRun } from '../../../src/exec.ts'
import { HOME_ID, openHypervIn } from '../../support/hyperv/bench.ts'
import { type HypervStandIn, noPwsh, openHypervStandIn } from '../../support/hyperv/stand-in.ts'
import { EFI_PARTITION, gptHead, LINUX_PARTITION, writeVhdx } from '../../support/hyperv/vhdx-file.ts'

const QEMU_IMG = '/usr/bin/qemu-img'
const missing = noPwsh ?? (existsSync(QEMU_IMG) ? null : 'qemu-img is not installed')
const timeout = 900_000

describe.skipIf(missing !== null)(`base images on Hyper-V${missing === null ? '' : ` (left out: ${missing})`}`, () => {
  let folder: string
  let standIn: HypervStandIn
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'hyperv-build-'))
    standIn = openHypervStandIn({}, { qemu: QEMU_IMG })
  })
  afterAll(() => {
    standIn.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const rawDisk = (type: string): string => {
    const path = join(folder, `${type}.img`)
    writeFileSync(path, gptHead(type))
    truncateSync(path, 96 * 1024 ** 2)
    return path
  }
  const build = async (name: string, path: string, home: string) => {
    let count = 0
    const ran: string[] = []
    const machines = () => standIn.state().vms.map(vm => vm.name)
    const access = (machineId: string): GuestAccess => ({
      publicKey: 'ssh-ed25519 AAAA test',
      hostKey: { privateKey: 'private', publicKey: 'public' },
      run: async (_, script) => {
        ran.push(script.includes('hyperv-daemons') ? 'a script with hyperv-daemons' : 'a script')
        const identity = `machine-id ${machineId}\nhostname ${machines().at(-1)}\nhost-keys 1\nlogin-keys 1\n`
        return { stdout: script.includes('machine-id') ? identity : 'bash 5.2\n', stderr: '', exitCode: 0 }
      },
    })
    const request: BuildBase = {
      name,
      setup: { profile: 'minimal', extra: [] },
      from: { kind: 'file', open: async () => ({ path, source: 'a test' }) },
      newMachine: () => {
        count += 1
        return `as-base-${String(count).padStart(8, '0')}`
      },
      onPhase: phase => ran.push(phase),
      signal: new AbortController().signal,
      guest: access('a'.repeat(32)),
      proofGuest: access('b'.repeat(32)),
    }
    const manifest = await openHypervIn(standIn, home).buildBase?.(request)
    return { manifest, ran }
  }

  test('a disk that names another file of this host is refused', async () => {
    const secret = join(folder, 'secret')
    writeFileSync(secret, 'x'.repeat(1024 ** 2))
    const make = (name: string, ...words: string[]) => {
      execFileSync(QEMU_IMG, ['create', '-q', ...words, join(folder, name), ...(words.includes('-b') ? [] : ['1M'])])
      return join(folder, name)
    }
    const run = openRun({ PATH: '/usr/bin:/bin' })
    for (const [path, words] of [
      [make('data.qcow2', '-f', 'qcow2', '-o', `data_file=${secret},data_file_raw=on`), 'depends on another'],
      [make('backing.qcow2', '-f', 'qcow2', '-F', 'raw', '-b', secret), 'depends on another'],
      [make('flat.vmdk', '-f', 'vmdk', '-o', 'subformat=monolithicFlat'), 'of the format vmdk'],
    ] as const)
      await expect(inspect(run, path)).rejects.toMatchObject({
        failure: { kind: 'usage', message: expect.stringContaining(words) },
      })
    expect(await inspect(run, make('own.qcow2', '-f', 'qcow2'))).toMatchObject({ format: 'qcow2' })
  })

  test('a disk that qemu-img wrote is not sparse when Hyper-V gets it', { timeout }, async () => {
    const home = join(folder, 'home')
    const { manifest, ran } = await build('debian', rawDisk(EFI_PARTITION), home)
    expect(manifest).toMatchObject({
      name: 'debian',
      provider: 'hyperv',
      source: 'a test',
      contents: ['bash 5.2'],
      homeId: HOME_ID,
    })
    expect(ran).toContain('a script with hyperv-daemons')
    const images = join(home, 'hyperv/images')
    expect(readdirSync(images).sort()).toEqual(['debian.manifest.json', 'debian.vhdx'])
    expect(statSync(join(images, 'debian.vhdx')).mode & 0o222).toBe(0)
    // Neither of the build's machines is left.
    expect(readdirSync(join(home, 'hyperv'))).toEqual(['images'])
    expect(standIn.state().vms).toEqual([])
    const provider = openHypervIn(standIn, home)
    expect(await provider.listBaseImages?.()).toEqual(['debian'])
    await expect(build('debian', rawDisk(EFI_PARTITION), home)).rejects.toMatchObject({
      failure: { kind: 'already-exists' },
    })
    await provider.deleteBaseImage?.('debian')
    expect(readdirSync(images)).toEqual([])
    expect(await standIn.violations()).toBe('')
  })

  test('a disk without an EFI partition is refused before anything is made', { timeout }, async () => {
    const home = join(folder, 'other')
    const raw = rawDisk(LINUX_PARTITION)
    const vhdx = join(folder, 'linux.vhdx')
    const before = standIn.cmdlets().filter(line => line.startsWith('New-'))
    execFileSync(QEMU_IMG, ['convert', '-f', 'raw', '-O', 'vhdx', raw, vhdx])
    for (const path of [raw, vhdx])
      await expect(build('linux', path, home)).rejects.toMatchObject({
        failure: { kind: 'usage', message: expect.stringContaining('no EFI partition') },
      })
    expect(standIn.cmdlets().filter(line => line.startsWith('New-'))).toEqual(before)
    expect(readdirSync(join(home, 'hyperv'))).toEqual(['images'])
  })

  test('a VHDX that depends on another disk, as Hyper-V alone sees, is refused before it boots', {
    timeout,
  }, async () => {
    const home = join(folder, 'differencing')
    const path = join(folder, 'whole.vhdx')
    writeVhdx(path, EFI_PARTITION)
    const copy = join(home, 'hyperv/as-base-00000001/disk.vhdx')
    standIn.change(({ vhds }) => {
      vhds[copy] = { content: 'none', parent: '/any/file', size: 2 * 1024 ** 3 }
    })
    await expect(build('differencing', path, home)).rejects.toMatchObject({
      failure: { kind: 'usage', message: expect.stringContaining('depends on another disk') },
    })
    expect(standIn.state().vms).toEqual([])
    expect(readdirSync(join(home, 'hyperv'))).toEqual(['images'])
  })

  test('a VHDX is read: its first bytes, and whether it is whole', () => {
    const raw = rawDisk(EFI_PARTITION)
    const vhdx = join(folder, 'efi.vhdx')
    execFileSync(QEMU_IMG, ['convert', '-f', 'raw', '-O', 'vhdx', '-o', 'subformat=dynamic', raw, vhdx])
    const { head, hasParent } = readVhdx(vhdx)
    expect(head?.subarray(512, 520).toString('latin1')).toBe('EFI PART')
    expect(hasParent).toBe(false)
    // What the tests without qemu-img begin with is read in the same way.
    writeVhdx(vhdx, EFI_PARTITION)
    expect(readVhdx(vhdx).head?.equals(gptHead(EFI_PARTITION))).toBe(true)
    writeFileSync(vhdx, 'vhdxfile')
    expect(readVhdx(vhdx)).toEqual({ head: null, hasParent: false })
  })
})
