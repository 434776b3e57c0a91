/**
 * Builds a base image: a machine is set up and sealed, and a machine cloned from it proves it; then the first one becomes the image.
 * One that comes from a registry was set up and sealed elsewhere, and is proven here.
 */
import { createHash } from 'node:crypto'
import { createReadStream, statSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { listContents, proveGuest, sealGuest, setUpGuest } from '../../base-image/stages.ts'
import { fail } from '../../src/errors.ts'
import type { BaseManifest, BuildBase, CreateOptions, TakeBase } from '../provider.ts'
import { type Building, inMachine, waitForMachine } from './build-machine.ts'
import { beginBuild } from './build-note.ts'
import { type Context, cloneVm, machineName, runTart, vmFile } from './context.ts'
import { rawDisk } from './disk-source.ts'
import { publishImage, requireNoImage } from './images.ts'
import { createMachine, deleteMachine, setArguments } from './machines.ts'
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
const CHECK_DEADLINE_MS = 60_000

type Build = Building & {
  request: BuildBase | TakeBase
  /** The machine that becomes the image, and the one that proves it. */
  builder: string
  prover: string
}

/** Runs a build, and removes its machines. What became the image has another name then. */
const withMachines = async (
  context: Context,
  request: BuildBase | TakeBase,
  work: (build: Build) => Promise<BaseManifest>,
): Promise<BaseManifest> => {
  await requireNoImage(context, request.name)
  const end = beginBuild(context, request.name)
  try {
    const build = { context, request, builder: request.newMachine(), prover: request.newMachine() }
    try {
      return await work(build)
    } finally {
      for (const machine of [build.builder, build.prover]) await deleteMachine(context, machine)
    }
  } finally {
    end()
  }
}

/** Boots a VM with the build's own keys, and waits until it answers. */
const boot = async (build: Build, vmId: string): Promise<void> => {
  await startMachine(build.context, vmId)
  await waitForMachine(build, vmId)
}

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
  await runTart(context, [command, ...options, '--disk', disk.path], { doing })
}

/** A clone of the image must boot, take its own name and key, and work. Returns its packages, too. */
const prove = async (build: Build): Promise<Pick<BaseManifest, 'contents' | 'proven' | 'unproven'>> => {
  const { context, request, builder, prover } = build
  const { name, setup, guest, onPhase } = request
  onPhase('prove')
  const image = machineName(context, builder)
  const { size } = statSync(vmFile(context, image, 'disk.img'))
  const options: CreateOptions = {
    ...{ vmId: prover, ...NEEDS[setup.profile], publicKey: guest.publicKey, hostKey: guest.hostKey },
    diskGiB: Math.ceil(size / GIB) + PROOF_EXTRA_GIB,
  }
  await createMachine(context, null, { vm: image }, options, () => {})
  await boot(build, prover)
  const inGuest = inMachine(build, prover)
  const { stdout, stderr, exitCode } = await inGuest('hostname', { deadline: CHECK_DEADLINE_MS })
  if (exitCode !== 0 || !stdout.includes(prover))
    throw fail('unknown', `proving ${name}: the machine answered "${(stderr || stdout).slice(-200)}"`)
  onPhase('verify')
  const proof = await proveGuest(inGuest, name, setup.profile)
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
    ...{ name, provider: 'tart', sha256: await sha256(vmFile(context, vm, 'disk.img')), source },
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
    const root = join(context.home, 'tart')
    await mkdir(root, { recursive: true, mode: 0o700 })
    const folder = await mkdtemp(join(root, 'build-'))
    try {
      const { path, source } = await from.open()
      onPhase('convert')
      await makeBuilder(build, await rawDisk(context, path, join(folder, 'disk.img')))
      await rm(folder, { recursive: true, force: true })
      onPhase('boot')
      await boot(build, builder)
      const inGuest = inMachine(build, builder)
      await setUpGuest(inGuest, setup, { name, onPhase })
      onPhase('seal')
      await sealGuest(inGuest, name)
      await stopMachine(context, builder)
      return await publish(build, source, await prove(build))
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
}

/** The image is a VM that somebody built so, and pushed with `tart push`. */
export const takeBase = (context: Context, request: TakeBase): Promise<BaseManifest> =>
  withMachines(context, request, async build => {
    const { name, reference, onPhase } = request
    onPhase('pull')
    await cloneVm(context, reference, machineName(context, build.builder), `taking ${name} from ${reference}`)
    return publish(build, `oci:${reference}`, await prove(build))
  })

const sha256 = async (path: string): Promise<string> => {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}
