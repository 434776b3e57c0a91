/** Forks without a memory: stopped machines that get their identity as they boot, from their seed. */
import { randomBytes } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { fail } from '../../src/errors.ts'
import type { ForkTarget } from '../provider.ts'
import { defineMachine, volumesOf } from './definition.ts'
import { requireSpace } from './disk-space.ts'
import { explainQemuImg } from './explain.ts'
import type { ForkSource } from './fork-source.ts'
import { copyNvram, type Forking, forkSeed, uploadVolume } from './fork-volumes.ts'
import { freshMac, refreshPool, withFile } from './host.ts'
import { parseBacking, parseVolumes } from './parse.ts'
import { makeOverlay } from './pool-layers.ts'
import { spaceIn } from './saved.ts'

const COPY_DEADLINE_MS = 10 * 60_000

/** What a definition says of its machine's size. libvirt writes memory in KiB. */
const sizeIn = (definition: string) => ({
  domainType: /^\s*<domain\s[^>]*type=["']kvm["']/m.test(definition) ? ('kvm' as const) : ('qemu' as const),
  cpus: Number(definition.match(/<vcpu[^>]*>(\d+)</)?.[1] ?? 1),
  memoryMiB: Math.round(Number(definition.match(/<memory\s[^>]*unit=["']KiB["'][^>]*>(\d+)</)?.[1] ?? 0) / 1024),
})

/** Defines the fork, whose disk is there. */
const defineFork = async (forking: Forking, target: ForkTarget, definition: string): Promise<void> => {
  const { context, isolator, pool, doing } = forking
  const { vmId, ticket } = target
  const size = sizeIn(definition)
  if (size.memoryMiB === 0) throw fail('unknown', `${doing}: its definition does not tell how much memory it has`)
  const mac = freshMac()
  const isUefi = /<nvram[\s>]/.test(definition)
  if (isUefi) await copyNvram(forking, vmId)
  const seed = forkSeed(target, mac, randomBytes(16).toString('hex'))
  const kvmFirmware = isUefi ? ('uefi' as const) : ('bios' as const)
  await defineMachine(
    { ...context, settings: { ...context.settings, kvmFirmware } },
    { vmId, ticket, mac, ...size, seed, folder: pool.folder, isolator, checkpoints: 'external' },
  )
}

const canRead = (path: string): boolean => {
  try {
    accessSync(path, constants.R_OK)
    return true
  } catch {
    return false
  }
}

/** Calls `use` with a file of the source's disk as it was at the snapshot: what it has on top of its image. */
const withSnapshot = async (
  { context, machine, pool, doing }: Forking,
  snapshot: string | null,
  count: number,
  use: (file: string) => Promise<void>,
): Promise<void> => {
  const { run, virsh, settings, home } = context
  const { disk } = volumesOf(machine.mark.vmId)
  const volume = ['--pool', settings.kvmPool, disk]
  const told = await virsh.all([
    ['vol-info', ...volume, '--bytes'],
    ['vol-dumpxml', ...volume],
  ])
  const [bytes, backing] = [parseVolumes(told).get(disk) ?? 0, parseBacking(told).get(disk)]
  const path = `${pool.folder}/${disk}`
  // libvirt keeps disks to itself: a member of its group asks it for the bytes.
  const isOpen = canRead(path)
  requireSpace(doing, count * bytes, pool)
  requireSpace(doing, (isOpen ? 1 : 2) * bytes, await spaceIn(home))
  const options = { deadline: COPY_DEADLINE_MS, doing }
  await withFile(context, '', async source => {
    if (!isOpen) await virsh.run(['vol-download', ...volume, source, '--sparse'], options)
    await withFile(context, '', async file => {
      await run(
        'qemu-img',
        [
          // The source may run. What a snapshot refers to does not change.
          ...['convert', '-U', '-f', 'qcow2', '-O', 'qcow2'],
          ...(snapshot === null ? [] : ['-l', `snapshot.name=${snapshot}`]),
          ...(backing === undefined ? [] : ['-B', `${pool.folder}/${backing}`, '-F', 'qcow2']),
          ...[isOpen ? path : source, file],
        ],
        { ...options, explain: explainQemuImg },
      )
      await use(file)
    })
  })
}

export const forkDisks = async (
  forking: Forking,
  source: ForkSource,
  targets: readonly ForkTarget[],
): Promise<void> => {
  const { context, machine, pool, doing } = forking
  const definition = await context.virsh.run(['dumpxml', machine.mark.vmId, '--inactive'], { doing })
  if (source.kind === 'layer')
    for (const target of targets) {
      const volume = volumesOf(target.vmId).disk
      await makeOverlay(context, { volume, on: source.layer, folder: pool.folder, doing })
      await defineFork(forking, target, definition)
    }
  else
    await withSnapshot(forking, source.snapshot, targets.length, async file => {
      for (const target of targets) {
        await uploadVolume(forking, volumesOf(target.vmId).disk, file)
        await defineFork(forking, target, definition)
      }
      // libvirt finds out then that they are qcow2.
      await refreshPool(context)
    })
}
