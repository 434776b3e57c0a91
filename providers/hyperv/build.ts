/** Builds a base image: a machine is set up and sealed, its disk becomes the image, and a machine cloned from it proves it. */
import { chmodSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type BuildMachines, bootMachine } from '../../base-image/build-machine.ts'
import { duringBuild } from '../../base-image/build-note.ts'
import { imageExists, sha256Of } from '../../base-image/image.ts'
import { prepareGuest, proveMachine } from '../../base-image/stages.ts'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import type { BaseManifest, BuildBase, CreateOptions } from '../provider.ts'
import { type Context, requireSpace, surveyHost } from './context.ts'
import { filesOf, makeFolder, requireShortPath, rootOf } from './folders.ts'
import { dependentsOf, imageFiles, listImages, removeImage, requireUnused } from './images.ts'
import { defineNew, deleteMachine, sshInfo, startMachine, stopMachine } from './machines.ts'
import { diskAnswer } from './parse.ts'
import { convert, firstBytes, inspect, measure } from './qemu-img.ts'
import { hasEfiPartition, isVhdx, readVhdx } from './vhdx.ts'

const GIB = 1024 ** 3
/** What the set-up takes: in the image, on the machine's disk, and in memory. */
const NEEDS = {
  minimal: { bytes: GIB / 2, diskBytes: 0, size: { cpus: 2, memoryMiB: 1024 } },
  full: { bytes: 4 * GIB, diskBytes: 8 * GIB, size: { cpus: 2, memoryMiB: 2048 } },
}
/** Added to the image's size, for the disk of the machine that proves it. */
const PROOF_EXTRA_GIB = 4

/** What tells Hyper-V the addresses of the guest, which has no other way where they come by DHCP. */
const DAEMONS = {
  name: 'hyperv-daemons',
  text: `#!/bin/sh
set -e
if command -v hv_kvp_daemon >/dev/null 2>&1; then exit 0; fi
if command -v apt-get >/dev/null 2>&1; then
  package=hyperv-daemons
  apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || package=linux-cloud-tools-virtual
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$package" >&2
elif command -v dnf >/dev/null 2>&1; then
  dnf install -y hyperv-daemons >&2
else
  echo 'neither apt-get nor dnf can install hyperv-daemons' >&2
  exit 1
fi
`,
}

type Build = {
  context: Context
  request: BuildBase
  /** The machine that becomes the image, and the one that proves it. */
  builder: string
  prover: string
  /** Files of the build. */
  folder: string
}

const buildMachines = (context: Context): BuildMachines => ({
  start: vmId => startMachine(context, vmId),
  sshInfo: vmId => sshInfo(context, vmId),
  bootDeadline: 15 * 60_000,
  // Each look is a process of PowerShell.
  pollMs: 2_000,
  noAnswer:
    'An image needs an EFI partition, cloud-init (with its NoCloud source) and an SSH server, both started at boot. Its screen is in Hyper-V Manager.',
  noEnd: {
    what: 'did not end its work',
    remedy: 'Try again when the host has less to do. A step that hangs is the phase shown last.',
  },
})

export const buildBase = async (context: Context, request: BuildBase): Promise<BaseManifest> => {
  const { home } = context
  const { name } = request
  const { image } = imageFiles(home, name)
  if (request.from.kind === 'debian-packages')
    throw fail(
      'unsupported',
      `building ${name}: an image of the system's own packages is made on Linux`,
      'Name a VHDX file: --from FILE.vhdx (or a qcow2 or raw file, where qemu-img is on PATH).',
    )
  if (listImages(home).includes(name)) throw imageExists(name, 'Machines may depend on it, so it is never overwritten.')
  requireUnused(home, name, `building ${name}`)
  return duringBuild(rootOf(home), name, folder => {
    mkdirSync(dirname(image), { recursive: true, mode: 0o700 })
    const [builder, prover] = [request.newMachine(), request.newMachine()]
    requireShortPath(home, builder)
    return makeImage({ context, request, builder, prover, folder })
  })
}

const makeImage = async (build: Build): Promise<BaseManifest> => {
  const { context, request, builder, prover } = build
  const { name, onPhase } = request
  const { home, homeId } = context
  const { image, manifest: file } = imageFiles(home, name)
  let isUnproven = false
  try {
    // An image without a manifest is what a killed build left.
    await removeImage(home, name)
    const { source, diskGiB } = await prepareDisk(build)
    const { contents, machineId } = await setUp(build, diskGiB)
    onPhase('image')
    isUnproven = true
    renameSync(filesOf(home, builder).disk, image)
    await deleteMachine(context, builder)
    // Every machine's disk depends on it.
    chmodSync(image, 0o444)
    const proof = await prove(build, diskGiB, machineId)
    const manifest: BaseManifest = {
      ...{ name, provider: 'hyperv', sha256: await sha256Of(image), source, profile: request.setup.profile, contents },
      ...{ ...proof, homeId, createdAt: new Date().toISOString(), sizeBytes: statSync(image).size },
    }
    writeFileAtomic(file, JSON.stringify(manifest, null, 2))
    isUnproven = false
    return manifest
  } finally {
    for (const machine of [builder, prover]) await deleteMachine(context, machine)
    if (isUnproven && dependentsOf(home, name).length === 0) await removeImage(home, name)
  }
}

/** Which may be any of this host, and what it holds would be in the image. */
const dependsOnAnother = (name: string, path: string) =>
  fail('usage', `building ${name}: ${path} depends on another disk`, 'Merge it first: Convert-VHD')

const requireEfi = (name: string, path: string, head: Buffer | null): void => {
  if (head === null) throw fail('damaged', `building ${name}: ${path} is a damaged VHDX file`)
  if (!hasEfiPartition(head))
    throw fail(
      'usage',
      `building ${name}: ${path} has no EFI partition, and Hyper-V boots machines of generation 2 by UEFI alone`,
      'Take an image for UEFI: generic cloud images of Debian and Ubuntu are.',
    )
}

/** Makes the disk of the machine that becomes the image. */
const prepareDisk = async (build: Build): Promise<{ source: string; diskGiB: number }> => {
  const { context, request, builder } = build
  const { name, from, onPhase, signal, setup } = request
  const { home, homeId, script } = context
  if (from.kind !== 'file') throw fail('unsupported', `building ${name}: it is made of a file`)
  const { path, source } = await from.open()
  onPhase('convert')
  makeFolder(home, builder, { home: homeId, mac: '', address: null, gateway: null, image: null })
  const { disk } = filesOf(home, builder)
  if (isVhdx(path)) {
    const { head, hasParent } = readVhdx(path)
    if (hasParent) throw dependsOnAnother(name, path)
    requireEfi(name, path, head)
    requireSpace(context, `building ${name}`, statSync(path).size + NEEDS[setup.profile].bytes)
    await copyFile(path, disk)
    chmodSync(disk, 0o600)
  } else await convertDisk(build, path, disk)
  signal.throwIfAborted()
  const { diskBytes } = NEEDS[setup.profile]
  const { bytes, type } = await script('disk', { disk, bytes: diskBytes }, diskAnswer, { doing: `reading ${disk}` })
  // Hyper-V may read a crafted file otherwise than readVhdx does.
  if (type === 'Differencing') throw dependsOnAnother(name, path)
  return { source, diskGiB: Math.ceil(bytes / GIB) }
}

const convertDisk = async ({ context, request, folder }: Build, path: string, disk: string): Promise<void> => {
  const { run } = context
  const { name, signal, setup } = request
  const { format } = await inspect(run, path)
  requireEfi(name, path, await firstBytes(run, path, format, folder))
  requireSpace(context, `building ${name}`, (await measure(run, path, format)) + NEEDS[setup.profile].bytes)
  await convert(run, path, format, disk, signal)
}

const optionsOf = ({ request }: Build, vmId: string, diskGiB: number): CreateOptions => {
  const { publicKey, hostKey } = request.guest
  return { vmId, diskGiB, ...NEEDS[request.setup.profile].size, publicKey, hostKey }
}

/** Boots the disk, sets the system up and seals it. Returns what `prepareGuest` does; the machine is stopped then. */
const setUp = async (build: Build, diskGiB: number): ReturnType<typeof prepareGuest> => {
  const { context, request, builder } = build
  const { setup, onPhase } = request
  onPhase('boot')
  const options = optionsOf(build, builder, diskGiB)
  const host = await surveyHost(context)
  await defineNew(context, { ticket: null, image: null, base: null, options, host }, () => {})
  const inGuest = await bootMachine(buildMachines(context), request, builder)
  const withDaemons = { ...setup, extra: [DAEMONS, ...setup.extra] }
  const prepared = await prepareGuest(inGuest, { ...request, setup: withDaemons })
  await stopMachine(context, builder)
  return prepared
}

/** A machine cloned from the image must boot, take its own name and key, and work. */
const prove = async (
  build: Build,
  diskGiB: number,
  builderId: string,
): Promise<Pick<BaseManifest, 'proven' | 'unproven'>> => {
  const { context, prover } = build
  const request = { ...build.request, guest: build.request.proofGuest }
  const { name, onPhase } = request
  onPhase('prove')
  const options = optionsOf({ ...build, request }, prover, diskGiB + PROOF_EXTRA_GIB)
  const { image: base } = imageFiles(context.home, name)
  const host = await surveyHost(context)
  await defineNew(context, { ticket: null, image: name, base, options, host }, () => {})
  const inGuest = await bootMachine(buildMachines(context), request, prover)
  const proof = await proveMachine(inGuest, prover, request, builderId)
  await deleteMachine(context, prover)
  return proof
}
