/** Machines whose disk is a boot sector: they are there within a second, and do nothing but get into a state. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKvm } from '../../providers/kvm/index.ts'
import { type KvmSettings, kvmSettings } from '../../providers/kvm/settings.ts'
import type { CreateOptions, Provider } from '../../providers/provider.ts'
import { openRun } from '../../src/exec.ts'
import { program, succeed } from './cli.ts'

export const defaults = Object.fromEntries(
  Object.entries(kvmSettings).map(([name, row]) => [name, row.default]),
) as unknown as KvmSettings

/** What the BIOS loads to 0x7c00 and runs. */
const sectors = {
  /** hlt, again and again */
  idle: [0xf4, 0xeb, 0xfd],
  /** Writes SLP_TYP 1 and SLP_EN to the power management of q35: the guest sleeps (S3). */
  sleeper: [0xba, 0x04, 0x06, 0xb8, 0x00, 0x24, 0xef, 0xf4, 0xeb, 0xfd],
  /** Writes 32 KiB of its memory after the other to the disk, by the BIOS: `add dword [7c30], 64; int 13h, ah=43h`, DAP at 7c28. */
  writer: [
    ...[0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x28, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13],
    ...[0x66, 0x83, 0x06, 0x30, 0x7c, 0x40, 0xeb, 0xec],
  ],
}
const DAP = [0x10, 0, 64, 0, 0x00, 0x7c, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]
export type Kind = keyof typeof sectors
const kinds = Object.keys(sectors) as Kind[]

const diskOf = (kind: Kind): Buffer => {
  const disk = Buffer.alloc(1024 ** 2)
  disk.set(sectors[kind], 0)
  disk.set(DAP, 0x28)
  disk.set([0x55, 0xaa], 510)
  return disk
}

export const optionsOf = (vmId: string): CreateOptions => ({
  ...{ vmId, cpus: 1, memoryMiB: 64, diskGiB: 1, publicKey: 'ssh-ed25519 A x' },
  hostKey: { privateKey: 'p', publicKey: 'q' },
})

export type Sectors = {
  home: string
  provider: Provider
  folder: string
  vmIds: Record<Kind, string>
  sizeOfFolder(size: string): Promise<unknown>
  close(): Promise<void>
}

/** A pool of its own in memory, which can be made small, and one stopped machine of each kind. `digit`: of their names. */
export const openSectors = async (pool: string, digit: number, more: Partial<KvmSettings> = {}): Promise<Sectors> => {
  const folder = `/var/lib/libvirt/${pool}`
  const home = mkdtempSync(join(tmpdir(), `${pool}-`))
  const vmIds = Object.fromEntries(
    kinds.map((kind, n) => [kind, `as-state-${n + 1}-0000000${digit}`]),
  ) as Sectors['vmIds']
  mkdirSync(folder, { recursive: true })
  await succeed(program('mount', ['-t', 'tmpfs', '-o', 'mode=711,size=600m', 'states', folder]))
  const settings = { ...defaults, kvmPool: pool, kvmDomainType: 'qemu', ...more } as const
  const run = openRun({ PATH: process.env.PATH, HOME: home })
  const provider = openKvm({ run, home, homeId: '00112233445566ff', knows: () => false, settings })
  // Makes the pool.
  await provider.capacity?.()
  for (const kind of kinds) {
    const raw = join(home, kind)
    writeFileSync(raw, diskOf(kind))
    await succeed(program('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, join(folder, `${kind}.qcow2`)]))
    writeFileSync(join(folder, `${kind}.manifest.json`), '{}')
    await provider.createVm(null, kind, optionsOf(vmIds[kind]))
  }
  const virsh = (...words: string[]) => succeed(program('virsh', ['-q', ...words]))
  return {
    ...{ home, provider, folder, vmIds },
    sizeOfFolder: size => succeed(program('mount', ['-o', `remount,size=${size}`, folder])),
    close: async () => {
      for (const vmId of Object.values(vmIds)) await provider.deleteVm(vmId)
      await virsh('pool-destroy', pool)
      await virsh('pool-undefine', pool)
      await succeed(program('umount', [folder]))
      rmSync(home, { recursive: true })
    },
  }
}
