/**
 * Builds a base image: a machine is set up and sealed, and a machine cloned from it proves it; then the first one becomes the image.
 * One that comes from a registry was set up and sealed elsewhere, and is proven here.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type BuildMachines, bootMachine } from '../../base-image/build-machine.ts'
import { duringBuild } from '../../base-image/build-note.ts'
import { sha256Of } from '../../base-image/image.ts'
import { listContents, proveMachine, sealGuest, setUpGuest } from '../../base-image/stages.ts'
import { fail } from '../../src/errors.ts'
import type { BaseManifest, BuildBase, CreateOptions, TakeBase } from '../provider.ts'
import { COPY_DEADLINE_MS, type Context, cloneVm, machineName, outputFile, rootOf, runTart, vmFile } from './context.ts'
import { rawDisk } from './disk-source.ts'
import { publishImage, requireNoImage } from './images.ts'
import { createMachine, deleteMachine, setArguments, sshInfo } from './machines.ts'
import { diskBytes } from './recover.ts'
import { startMachine, stopMachine } from './running.ts'
import { writeSeed } from './seed.ts'

const GIB = 1024 ** 3
/** What the set-up takes. The disk has room for what is only needed meanwhile. */
const NEEDS = {
  minimal: { cpus: 2, memoryMiB: 1024, diskGiB: 4 },
  full: { cpus: 4, memoryMiB: 4096, diskGiB: 12 },
}
/** Added to the image's size, for the disk of the machine that proves it. */
const PROOF_EXTRA_GIB = 2
/** Lines of what `tart run` printed that a failure quotes. */
const QUOTED_LINES = 5

type Build = {
  context: Context
  request: BuildBase | TakeBase
  /** The machine that becomes the image, and the one that proves it. */
  builder: string
  prover: string
  /** Files of the build. */
  folder: string
}

/** Runs a build, and removes its machines. What became the image has another name then. */
const withMachines = async (
  context: Context,
  request: BuildBase | TakeBase,
  work: (build: Build) => Promise<BaseManifest>,
): Promise<BaseManifest> => {
  await requireNoImage(context, request.name)
  return duringBuild(rootOf(context), request.name, async folder => {
    const build = { context, request, builder: request.newMachine(), prover: request.newMachine(), folder }
    try {
      return await work(build)
    } finally {
      for (const machine of [build.builder, build.prover]) await deleteMachine(context, machine)
    }
  })
}

const printedText = (context: Context, vmId: string): string => {
  const file = outputFile(context, vmId)
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').slice(-QUOTED_LINES) : []
  return lines.join('').trim() === '' ? '' : `. tart run printed:\n${lines.map(line => `  ${line}`).join('\n')}`
}

const WHAT_AN_IMAGE_NEEDS =
  'An image must be for arm64, boot with EFI, and start cloud-init (with its NoCloud source) and an SSH server. The images of Cirrus Labs ignore every seed, so they cannot be used.'

const buildMachines = (context: Context): BuildMachines => ({
  start: vmId => startMachine(context, vmId),
  sshInfo: vmId => sshInfo(context, vmId),
  bootDeadline: 10 * 60_000,
  pollMs: 1_000,
  noAnswer: WHAT_AN_IMAGE_NEEDS,
  noEnd: { what: 'did not end its work, or did not answer any more,', remedy: WHAT_AN_IMAGE_NEEDS },
  lastWords: vmId => printedText(context, vmId),
})

const writeBuildSeed = ({ context, request: { guest } }: Build, vmId: string): Promise<void> =>
  writeSeed(context, vmId, { publicKey: guest.publicKey, hostKey: guest.hostKey })

/** An empty VM of Linux gets the image's disk, which grows to what the set-up takes. */
const makeBuilder = async (build: Build, disk: { path: string; bytes: number }): Promise<void> => {
  const { context, request, builder } = build
  const doing = `building ${request.name}`
  const name = machineName(context, builder)
  const { diskGiB, ...size } = NEEDS[request.setup.profile]
  await writeBuildSeed(build, builder)
  await runTart(context, ['create', '--linux', name], { doing })
  const [command = '', ...options] = setArguments(name, {
    ...size,
    diskGiB: Math.max(diskGiB, Math.ceil(disk.bytes / GIB)),
  })
  await runTart(context, [command, ...options, '--disk', disk.path], { doing, deadline: COPY_DEADLINE_MS })
}

/** A clone of the image must boot, take its own name and key, and work. Returns its packages, too. `builderId`: null for one that was built elsewhere. */
const prove = async (
  build: Build,
  builderId: string | null,
): Promise<Pick<BaseManifest, 'contents' | 'proven' | 'unproven'>> => {
  const { context, builder, prover } = build
  const request = { ...build.request, guest: build.request.proofGuest }
  const { name, setup, guest, onPhase } = request
  onPhase('prove')
  const image = machineName(context, builder)
  const { size } = statSync(vmFile(context, image, 'disk.img'))
  const options: CreateOptions = {
    ...{ vmId: prover, ...NEEDS[setup.profile], publicKey: guest.publicKey, hostKey: guest.hostKey },
    diskGiB: Math.ceil(size / GIB) + PROOF_EXTRA_GIB,
  }
  await createMachine(context, null, { vm: image }, options, () => {})
  const inGuest = await bootMachine(buildMachines(context), request, prover)
  const proof = await proveMachine(inGuest, prover, request, builderId)
  return { contents: await listContents(inGuest, name), ...proof }
}

/** Makes the proven machine the image. */
const publish = async (
  { context, request, builder }: Build,
  source: string,
  proof: Pick<BaseManifest, 'contents' | 'proven' | 'unproven'>,
): Promise<BaseManifest> => {
  const { name, setup } = request
  request.onPhase('image')
  const vm = machineName(context, builder)
  const manifest: BaseManifest = {
    ...{ name, provider: 'tart', sha256: await sha256Of(vmFile(context, vm, 'disk.img')), source },
    ...{ profile: setup.profile, ...proof, homeId: context.homeId },
    ...{ createdAt: new Date().toISOString(), sizeBytes: diskBytes(context, vm) },
  }
  await publishImage(context, vm, manifest)
  return manifest
}

export const buildBase = async (context: Context, request: BuildBase): Promise<BaseManifest> => {
  const { from, name, onPhase, setup } = request
  if (from.kind !== 'file')
    throw fail(
      'unsupported',
      `building ${name}: an image of Debian's packages is made on Linux`,
      'Leave out --from, or name a cloud image for arm64: --from FILE',
    )
  return withMachines(context, request, async build => {
    const { builder } = build
    const { path, source } = await from.open()
    onPhase('convert')
    const raw = join(build.folder, 'disk.img')
    await makeBuilder(build, await rawDisk(context, path, raw))
    await rm(raw, { force: true })
    onPhase('boot')
    const inGuest = await bootMachine(buildMachines(context), request, builder)
    await setUpGuest(inGuest, setup, { name, onPhase })
    onPhase('seal')
    const machineId = await sealGuest(inGuest, name)
    await stopMachine(context, builder)
    return publish(build, source, await prove(build, machineId))
  })
}

/** The image is a VM that somebody built so, and pushed with `tart push`. */
export const takeBase = (context: Context, request: TakeBase): Promise<BaseManifest> =>
  withMachines(context, request, async build => {
    const { name, reference, onPhase } = request
    onPhase('pull')
    await cloneVm(context, reference, machineName(context, build.builder), `taking ${name} from ${reference}`)
    return publish(build, `oci:${reference}`, await prove(build, null))
  })
