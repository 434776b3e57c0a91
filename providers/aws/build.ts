/** Builds a base image: a machine of a plain AMI is set up and sealed, an AMI is made of it, and a machine of that one proves it. */
import { type BuildMachines, bootMachine } from '../../base-image/build-machine.ts'
import { duringBuild } from '../../base-image/build-note.ts'
import { checkImageName, imageExists } from '../../base-image/image.ts'
import { prepareGuest, proveMachine } from '../../base-image/stages.ts'
import { fail } from '../../src/errors.ts'
import type { BaseManifest, BuildBase, CreateOptions } from '../provider.ts'
import { folderOf } from './aws.ts'
import { type Context, look, tagResources } from './context.ts'
import { deleteMachine, describeImages } from './delete.ts'
import { imageBytes, imagesNamed, isOwnImage, removeImage, waitForImage, writeManifest } from './images.ts'
import { launchMachine, sshInfo, startMachine, stopMachine } from './machines.ts'
import { specifications, TAG, tagOf } from './marks.ts'
import { type Image, madeImage } from './parse.ts'

const GIB = 1024 ** 3
/** What the set-up takes. `diskGiB`: the least; the disk of the plain image may be larger. */
const NEEDS = {
  minimal: { cpus: 2, memoryMiB: 2048, diskGiB: 8 },
  full: { cpus: 2, memoryMiB: 4096, diskGiB: 20 },
}
const IMAGE_ID = /^ami-[0-9a-f]{8,32}$/

type Build = { context: Context; request: BuildBase; source: Image; builder: string; prover: string }

/** The plain image that the build begins with. */
const findSource = async (context: Context, { from, name }: BuildBase): Promise<Image> => {
  const doing = `building ${name}`
  const id = from.kind === 'reference' ? from.reference : ''
  if (!IMAGE_ID.test(id))
    throw fail(
      'usage',
      `${doing}: EC2 makes machines only of its own images`,
      'Name a plain image of a distribution, with cloud-init: --from ami-… (docs/aws.md says where they are listed)',
    )
  const [image] = await describeImages(context, { ImageIds: [id] }, doing)
  if (image === undefined) throw fail('no-such-image', `${doing}: ${id} does not exist in this region`)
  if (image.RootDeviceType !== undefined && image.RootDeviceType !== 'ebs')
    throw fail('unsupported', `${doing}: ${id} has no root volume of EBS, so there would be no checkpoints`)
  return image
}

export const buildBase = async (context: Context, request: BuildBase): Promise<BaseManifest> => {
  const name = checkImageName(request.name)
  const doing = `building ${name}`
  const [source, existing] = await Promise.all([findSource(context, request), imagesNamed(context, name)])
  if (existing.some(({ Tags }) => tagOf(Tags, TAG.proven) !== null))
    throw imageExists(name, 'Machines may have been made of it, so it is never overwritten.')
  if (existing.some(image => !isOwnImage(context, image)))
    throw fail(
      'busy',
      `${doing}: another AGENT_SWARM_HOME builds an image of this name in this account, or was stopped while it did`,
      'Wait until it is done, or choose another name: agent-swarm init-base NAME --from ami-…',
    )
  return duringBuild(folderOf(context), name, async () => {
    // What a killed build left.
    await removeImage(context, name, doing)
    const [builder, prover] = [request.newMachine(), request.newMachine()]
    return makeImage({ context, request, source, builder, prover })
  })
}

const makeImage = async (build: Build): Promise<BaseManifest> => {
  const { context, request, source, builder, prover } = build
  const { name, setup } = request
  try {
    const { contents, machineId } = await setUp(build)
    const image = await captureImage(build)
    await deleteMachine(context, builder)
    const proof = await prove(build, image, machineId)
    await deleteMachine(context, prover)
    const manifest: BaseManifest = {
      ...{ name, provider: 'aws', sha256: null, source: source.ImageId, profile: setup.profile, contents, ...proof },
      ...{ homeId: context.homeId, createdAt: new Date().toISOString(), sizeBytes: imageBytes(image) },
    }
    writeManifest(context, image.ImageId, manifest)
    await tagResources(context, [image.ImageId], [{ Key: TAG.proven, Value: setup.profile }], `building ${name}`)
    return manifest
  } catch (error) {
    // Its reason counts. A machine that stays is removed by the next command, and the image by the next build.
    for (const machine of [builder, prover]) await deleteMachine(context, machine).catch(() => {})
    await removeImage(context, name, `building ${name}`).catch(() => {})
    throw error
  }
}

const optionsFor = ({ request }: Build, vmId: string, image: Image): CreateOptions => {
  const { setup, guest } = request
  const { publicKey, hostKey } = guest
  const needs = NEEDS[setup.profile]
  const diskGiB = Math.max(needs.diskGiB, Math.ceil(imageBytes(image) / GIB))
  return { vmId, ...needs, diskGiB, publicKey, hostKey }
}

const buildMachines = (context: Context): BuildMachines => ({
  start: vmId => startMachine(context, vmId),
  sshInfo: vmId => sshInfo(context, vmId),
  bootDeadline: 15 * 60_000,
  pollMs: 1_000,
  noAnswer: 'Does the security group let this host in at port 22? Does the image have cloud-init and an SSH server?',
})

const launch = async (build: Build, vmId: string, image: Image) => {
  const { context, request } = build
  await launchMachine(context, null, image, optionsFor(build, vmId, image), () => {})
  return bootMachine(buildMachines(context), request, vmId)
}

/** Boots the plain image, sets the system up and seals it. Returns what `prepareGuest` does; the machine is stopped then. */
const setUp = async (build: Build): ReturnType<typeof prepareGuest> => {
  const { context, request, source, builder } = build
  request.onPhase('boot')
  const prepared = await prepareGuest(await launch(build, builder, source), request)
  await stopMachine(context, builder)
  return prepared
}

/** The image and its snapshots get their tags as they are made. Its name is unique in account and region. */
const captureImage = async ({ context, request, source, builder }: Build): Promise<Image> => {
  const { name, onPhase, signal } = request
  const doing = `building ${name}`
  onPhase('image')
  const { instance } = await look(context, builder)
  const tags = [
    { Key: 'Name', Value: `agent-swarm ${name}` },
    { Key: TAG.image, Value: name },
    { Key: TAG.home, Value: context.homeId },
    { Key: TAG.source, Value: source.ImageId },
  ]
  const { ImageId } = await context.aws.ask(
    'ec2 create-image',
    {
      ...{ InstanceId: instance.InstanceId, Name: `agent-swarm-${name}`, Description: `agent-swarm: ${name}` },
      TagSpecifications: specifications(['image', 'snapshot'], tags),
    },
    madeImage,
    { doing },
  )
  return waitForImage(context, ImageId, doing, signal)
}

/** A machine of the image must boot, take its own name and key, and work. */
const prove = async (
  build: Build,
  image: Image,
  builderId: string,
): Promise<Pick<BaseManifest, 'proven' | 'unproven'>> => {
  const { prover } = build
  const request = { ...build.request, guest: build.request.proofGuest }
  request.onPhase('prove')
  return proveMachine(await launch({ ...build, request }, prover, image), prover, request, builderId)
}
