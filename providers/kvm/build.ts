/** Builds a base image: a machine is set up and sealed, its disk becomes the image, and a machine cloned from it proves it. */
import { rmSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { bootMachine } from '../../base-image/build-machine.ts'
import { duringBuild } from '../../base-image/build-note.ts'
import { imageExists, sha256Of } from '../../base-image/image.ts'
import { type DiskInfo, measureDisk, readDisk } from '../../base-image/qemu-img.ts'
import { seedImage } from '../../base-image/seed.ts'
import { askProver, prepareGuest, proveMachine } from '../../base-image/stages.ts'
import { fail } from '../../src/errors.ts'
import type { BaseManifest, BuildBase } from '../provider.ts'
import { buildMachines } from './build-machine.ts'
import { folderOf, removeOldMachines } from './build-note.ts'
import type { Context } from './context.ts'
import { debianDisk } from './debian-image.ts'
import { defineMachine, volumesOf } from './definition.ts'
import { requireSpace } from './disk-space.ts'
import { findDomainType } from './domain-type.ts'
import { explainQemuImg, NAME_A_CLOUD_IMAGE, USE_BIOS, whyNoUefi } from './explain.ts'
import { ensurePool, freshMac, refreshPool, withFile } from './host.ts'
import { dependentsOf, requireUnused } from './image-list.ts'
import { COPY_DEADLINE_MS, imageVolumes, listImages, publishVolume } from './images.ts'
import { openIsolator } from './isolation.ts'
import { createMachine, deleteMachine, stopMachine } from './machines.ts'
import { ensureNetwork } from './network.ts'
import { type Pool, parseVersions } from './parse.ts'
import { proveIsolation } from './proof.ts'
import { removeVolume, uploadAs } from './volumes.ts'

/** No system fits into less. */
const SMALLEST_DISK_BYTES = 64 * 1024 ** 2
/** What the set-up takes: in the image, on the machine's disk, and in memory. The disk has room for what is only needed meanwhile. */
const NEEDS = {
  minimal: { bytes: 512 * 1024 ** 2, diskBytes: 0, size: { cpus: 2, memoryMiB: 1024 } },
  full: { bytes: 4 * 1024 ** 3, diskBytes: 8 * 1024 ** 3, size: { cpus: 2, memoryMiB: 2048 } },
}
/** Added to the image's size, for the disk of the machine that proves it. */
const PROOF_EXTRA_GIB = 4

type Build = {
  context: Context
  request: BuildBase
  pool: Pool
  /** Versions of libvirt and QEMU. */
  versions: string
  /** A temporary folder. */
  folder: string
  /** The machine that becomes the image, and the one that proves it. */
  builder: string
  prover: string
}

export const buildBase = async (context: Context, request: BuildBase): Promise<BaseManifest> => {
  const checked = await checkBuild(context, request)
  await removeOldMachines(context)
  return duringBuild(folderOf(context), request.name, folder => {
    const [builder, prover] = [request.newMachine(), request.newMachine()]
    return makeImage({ context, request, ...checked, folder, builder, prover })
  })
}

const makeImage = async (build: Build): Promise<BaseManifest> => {
  const { context, request, builder, prover } = build
  const { name } = request
  const volumes = imageVolumes(name)
  /** Whether the pool has the image of this build, not proven yet. */
  let isUnproven = false
  try {
    const { disk, source } = await prepareDisk(build)
    const { contents, machineId } = await setUp(build, disk)
    request.onPhase('image')
    const file = await downloadDisk(build)
    // An image without a manifest is what a killed build left.
    await requireUnused(context, name, `building ${name}`)
    await removeVolume(context, volumes.image)
    isUnproven = true
    await publishVolume(context, volumes.image, file)
    const proof = await prove(build, file, machineId)
    const manifest: BaseManifest = {
      ...{
        name,
        provider: 'kvm',
        sha256: await sha256Of(file),
        source,
        profile: request.setup.profile,
        contents,
        ...proof,
      },
      ...{ homeId: context.homeId, createdAt: new Date().toISOString(), sizeBytes: statSync(file).size },
    }
    await withFile(context, JSON.stringify(manifest, null, 2), path => publishVolume(context, volumes.manifest, path))
    isUnproven = false
    return manifest
  } finally {
    for (const machine of [builder, prover]) await deleteMachine(context, machine)
    if (isUnproven && (await dependentsOf(context, name)).length === 0) {
      await removeVolume(context, volumes.manifest)
      await removeVolume(context, volumes.image)
    }
  }
}

/** Fails when the build cannot succeed, before anything is made. */
const checkBuild = async (context: Context, { name, from }: BuildBase): Promise<Pick<Build, 'pool' | 'versions'>> => {
  const { virsh, settings } = context
  imageVolumes(name)
  const versions = parseVersions(await virsh.run(['version', '--daemon'], { doing: `building ${name}` }))
  if (settings.kvmFirmware === 'uefi') {
    const reason =
      from.kind === 'debian-packages'
        ? "an image of Debian's packages boots only with BIOS"
        : whyNoUefi(versions.libvirt)
    if (reason !== null) throw fail('unsupported', `building ${name}: ${reason}`, USE_BIOS)
  }
  await ensureNetwork(context)
  const pool = await ensurePool(context)
  if ((await listImages(context)).includes(name))
    throw imageExists(name, 'Machines may depend on it, so it is never overwritten.')
  await requireUnused(context, name, `building ${name}`)
  return { pool, versions: versions.all }
}

/** The disk to begin with, as qcow2, and a description of its source. */
const prepareDisk = async (build: Build): Promise<{ disk: string; source: string }> => {
  const { context, request, folder } = build
  const { from, onPhase } = request
  if (from.kind === 'reference')
    throw fail('usage', `building ${request.name}: KVM has no images of its own to begin with`, NAME_A_CLOUD_IMAGE)
  const raw = join(folder, 'disk.img')
  const { path: input, source } =
    from.kind === 'debian-packages'
      ? { path: raw, source: await debianDisk(context.run, folder, raw, onPhase) }
      : await from.open()
  onPhase('convert')
  const format = await checkDisk(build, input)
  const disk = join(folder, 'begun.qcow2')
  await convert(context, format, input, disk)
  const { diskBytes } = NEEDS[request.setup.profile]
  if ((await readMade(context, disk)).bytes < diskBytes)
    await context.run('qemu-img', ['resize', '-q', '-f', 'qcow2', disk, String(diskBytes)], { explain: explainQemuImg })
  return { disk, source }
}

const convert = (context: Context, format: string, from: string, to: string) =>
  context.run('qemu-img', ['convert', '-f', format, '-O', 'qcow2', from, to], {
    deadline: COPY_DEADLINE_MS,
    explain: explainQemuImg,
  })

const readMade = ({ run }: Context, disk: string): Promise<DiskInfo> =>
  readDisk(run, disk, { explain: explainQemuImg }, 'qcow2')

/** Null: it is on another host, or in a folder that this user does not see. */
const deviceOf = (path: string): number | null => {
  try {
    return statSync(path).dev
  } catch {
    return null
  }
}

/** Returns the disk's format, which the conversion must name: qemu-img does not trust a raw disk that a guest could have written. */
const checkDisk = async ({ context, request, pool, folder }: Build, input: string): Promise<string> => {
  const { format, bytes } = await readDisk(context.run, input, { explain: explainQemuImg })
  if (bytes < SMALLEST_DISK_BYTES)
    throw fail(
      'usage',
      `${input} is too small to be a disk that a system boots from: it holds ${bytes} bytes`,
      NAME_A_CLOUD_IMAGE,
    )
  const required = await measureDisk(context.run, input, format, { explain: explainQemuImg })
  // The folder has the image twice while it is made smaller, and then once, beside the pool's and the disk of the proof.
  const copies = deviceOf(folder) === deviceOf(pool.folder) ? 3 : 2
  const needed = copies * (required + NEEDS[request.setup.profile].bytes)
  const { bavail, bsize } = statfsSync(folder)
  requireSpace(`building ${request.name}`, needed, { folder: context.home, available: bavail * bsize })
  requireSpace(`building ${request.name}`, needed, pool)
  return format
}

/** Boots the disk, sets the system up and seals it. Returns what `prepareGuest` does; the machine is stopped then. */
const setUp = async (build: Build, disk: string): ReturnType<typeof prepareGuest> => {
  const { context, request, builder, pool, versions } = build
  const { setup, onPhase, guest } = request
  const { virsh } = context
  const volume = volumesOf(builder).disk
  onPhase('boot')
  await virsh.all(uploadAs(context, volume, disk), { deadline: COPY_DEADLINE_MS })
  rmSync(disk)
  await refreshPool(context)
  const mac = freshMac()
  await defineMachine(context, {
    vmId: builder,
    ticket: null,
    mac,
    domainType: await findDomainType(context, versions),
    ...NEEDS[setup.profile].size,
    seed: seedImage({
      hostname: builder,
      network: { by: 'mac', mac },
      publicKey: guest.publicKey,
      hostKey: guest.hostKey,
    }),
    folder: pool.folder,
    isolator: await openIsolator(context),
    checkpoints: 'external',
  })
  const prepared = await prepareGuest(await bootMachine(buildMachines(context), request, builder), request)
  await stopMachine(context, builder)
  return prepared
}

/** The image's file: the machine's disk without the blocks that it wrote and freed. */
const downloadDisk = async ({ context, folder, builder }: Build): Promise<string> => {
  const { virsh, settings } = context
  const [downloaded, compact] = [join(folder, 'written.qcow2'), join(folder, 'final.qcow2')]
  await virsh.run(['vol-download', '--pool', settings.kvmPool, volumesOf(builder).disk, downloaded], {
    deadline: COPY_DEADLINE_MS,
  })
  await deleteMachine(context, builder)
  await convert(context, 'qcow2', downloaded, compact)
  rmSync(downloaded)
  return compact
}

/** A machine cloned from the image must boot, take its own name and key, and work. */
const prove = async (
  build: Build,
  file: string,
  builderId: string,
): Promise<Pick<BaseManifest, 'proven' | 'unproven'>> => {
  const { context, prover } = build
  const request = { ...build.request, guest: build.request.proofGuest }
  const { name, setup, onPhase, guest } = request
  onPhase('prove')
  const bytes = Math.max(statSync(file).size, (await readMade(context, file)).bytes)
  const options = {
    ...{ vmId: prover, ...NEEDS[setup.profile].size, publicKey: guest.publicKey, hostKey: guest.hostKey },
    diskGiB: Math.ceil(bytes / 1024 ** 3) + PROOF_EXTRA_GIB,
  }
  await createMachine(context, null, name, options, () => {}, 'unproven')
  const inGuest = await bootMachine(buildMachines(context), request, prover)
  const proof = await proveMachine(inGuest, prover, request, builderId)
  const isolator = await openIsolator(context)
  if (isolator !== null) await proveIsolation(context, isolator, script => askProver(inGuest, name, script))
  await deleteMachine(context, prover)
  return proof
}
