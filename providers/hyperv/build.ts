/** Builds a base image: a machine is set up and sealed, its disk becomes the image, and a machine cloned from it proves it. */
import { createHash } from 'node:crypto'
import { chmodSync, createReadStream, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { listContents, proveGuest, sealGuest, setUpGuest } from '../../base-image/stages.ts'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import type { BaseManifest, BuildBase, CreateOptions } from '../provider.ts'
import { inMachine, waitForMachine } from './build-machine.ts'
import { type Context, requireSpace, surveyHost } from './context.ts'
import { filesOf, makeFolder, requireShortPath, rootOf } from './folders.ts'
import { beginBuild, imageFiles, listImages, removeImage } from './images.ts'
import { defineNew, deleteMachine, startMachine, stopMachine } from './machines.ts'
import { diskAnswer } from './parse.ts'
import { convert, firstBytes, inspect } from './qemu-img.ts'
import { hasEfiPartition, isVhdx, readVhdx } from './vhdx.ts'

const CHECK_DEADLINE_MS = 60_000
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
}

export const buildBase = async (context: Context, request: BuildBase): Promise<BaseManifest> => {
  const { home } = context
  const { name } = request
  imageFiles(home, name)
  if (request.from.kind === 'debian-packages')
    throw fail(
      'unsupported',
      `building ${name}: an image of the system's own packages is made on Linux`,
      'Name a VHDX file: --from FILE.vhdx (or a qcow2 or raw file, where qemu-img is on PATH).',
    )
  if (listImages(home).includes(name))
    throw fail(
      'already-exists',
      `the base image ${name} already exists`,
      'Machines may depend on it, so it is never overwritten. Choose another name: agent-swarm init-base <name> --from …',
    )
  const endBuild = await beginBuild(home, name)
  try {
    const [builder, prover] = [request.newMachine(), request.newMachine()]
    requireShortPath(home, builder)
    return await makeImage({ context, request, builder, prover })
  } finally {
    await endBuild()
  }
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
    const contents = await setUp(build, diskGiB)
    onPhase('image')
    isUnproven = true
    renameSync(filesOf(home, builder).disk, image)
    await deleteMachine(context, builder)
    // Every machine's disk depends on it.
    chmodSync(image, 0o444)
    const proof = await prove(build, diskGiB)
    const manifest: BaseManifest = {
      ...{ name, provider: 'hyperv', sha256: await sha256(image), source, profile: request.setup.profile, contents },
      ...{ ...proof, homeId, createdAt: new Date().toISOString(), sizeBytes: statSync(image).size },
    }
    writeFileAtomic(file, JSON.stringify(manifest, null, 2))
    isUnproven = false
    return manifest
  } finally {
    for (const machine of [builder, prover]) await deleteMachine(context, machine)
    if (isUnproven) await removeImage(home, name)
  }
}

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
    if (hasParent)
      throw fail('usage', `building ${name}: ${path} depends on another disk`, 'Merge it first: Convert-VHD')
    requireEfi(name, path, head)
    requireSpace(context, `building ${name}`, statSync(path).size + NEEDS[setup.profile].bytes)
    await copyFile(path, disk)
    chmodSync(disk, 0o600)
  } else await convertDisk(build, path, disk)
  signal.throwIfAborted()
  const { diskBytes } = NEEDS[setup.profile]
  const { bytes } = await script('disk', { disk, bytes: diskBytes }, diskAnswer, { doing: `reading ${disk}` })
  return { source, diskGiB: Math.ceil(bytes / GIB) }
}

const convertDisk = async ({ context, request }: Build, path: string, disk: string): Promise<void> => {
  const { run, home } = context
  const { name, signal, setup } = request
  const { format, used } = await inspect(run, path)
  const folder = mkdtempSync(join(rootOf(home), 'build-'))
  try {
    requireEfi(name, path, await firstBytes(run, path, format, folder))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  requireSpace(context, `building ${name}`, used + NEEDS[setup.profile].bytes)
  await convert(run, path, format, disk, signal)
}

const optionsOf = ({ request }: Build, vmId: string, diskGiB: number): CreateOptions => {
  const { publicKey, hostKey } = request.guest
  return { vmId, diskGiB, ...NEEDS[request.setup.profile].size, publicKey, hostKey }
}

/** Boots the disk, sets the system up and seals it. Returns its packages; the machine is stopped then. */
const setUp = async (build: Build, diskGiB: number): Promise<string[]> => {
  const { context, request, builder } = build
  const { name, setup, onPhase } = request
  onPhase('boot')
  const options = optionsOf(build, builder, diskGiB)
  const host = await surveyHost(context)
  await defineNew(context, { ticket: null, image: null, base: null, options, host }, () => {})
  await startMachine(context, builder)
  await waitForMachine(build, builder)
  const inGuest = inMachine(build, builder)
  await setUpGuest(inGuest, { ...setup, extra: [DAEMONS, ...setup.extra] }, { name, onPhase })
  const contents = await listContents(inGuest, name)
  onPhase('seal')
  await sealGuest(inGuest, name)
  await stopMachine(context, builder)
  return contents
}

/** A machine cloned from the image must boot, take its own name and key, and work. */
const prove = async (build: Build, diskGiB: number): Promise<Pick<BaseManifest, 'proven' | 'unproven'>> => {
  const { context, request, prover } = build
  const { name, setup, onPhase } = request
  onPhase('prove')
  const options = optionsOf(build, prover, diskGiB + PROOF_EXTRA_GIB)
  const { image: base } = imageFiles(context.home, name)
  const host = await surveyHost(context)
  await defineNew(context, { ticket: null, image: name, base, options, host }, () => {})
  await startMachine(context, prover)
  await waitForMachine(build, prover)
  const inGuest = inMachine(build, prover)
  const { stdout, stderr, exitCode } = await inGuest('cat /etc/machine-id && hostname', { deadline: CHECK_DEADLINE_MS })
  if (exitCode !== 0 || !stdout.includes(prover))
    throw fail('unknown', `proving ${name}: the machine answered "${(stderr || stdout).slice(-200)}"`)
  onPhase('verify')
  const proof = await proveGuest(inGuest, name, setup.profile)
  await deleteMachine(context, prover)
  return proof
}

const sha256 = async (path: string): Promise<string> => {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}
