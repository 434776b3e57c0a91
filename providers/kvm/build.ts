/** Builds a base image: a machine is set up and sealed, its disk becomes the image, and a machine cloned from it proves it. */
import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, mkdtempSync, rmSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { baseScript, setupScript } from '../../base-image/scripts.ts'
import { seedImage } from '../../base-image/seed.ts'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { BaseManifest, BuildBase } from '../provider.ts'
import { beginBuild } from './build-note.ts'
import type { Context } from './context.ts'
import { debianDisk } from './debian-image.ts'
import { defineMachine, volumesOf } from './definition.ts'
import { requireSpace } from './disk-space.ts'
import { findDomainType } from './domain-type.ts'
import { explainQemuImg, NAME_A_CLOUD_IMAGE, USE_BIOS, whyNoUefi } from './explain.ts'
import { ensurePool, freshMac, refreshPool, withFile } from './host.ts'
import { COPY_DEADLINE_MS, deleteVolume, imageVolumes, listImages, publishVolume } from './images.ts'
import { openIsolator } from './isolation.ts'
import { createMachine, deleteMachine, sshInfo, startMachine, stopMachine } from './machines.ts'
import { ensureNetwork } from './network.ts'
import { type Pool, parseVersions } from './parse.ts'
import { proveIsolation } from './proof.ts'
import { consoleTail } from './usage.ts'

/** A first boot under software emulation takes one to three minutes, and several times that on a busy host. */
const BOOT_DEADLINE_MS = 20 * 60_000
const SETUP_DEADLINE_MS = 20 * 60_000
const SEAL_DEADLINE_MS = 5 * 60_000
const LIST_DEADLINE_MS = 60_000
const POLL_MS = 500
/** No system fits into less. */
const SMALLEST_DISK_BYTES = 64 * 1024 ** 2
/** What the set-up installs and writes. */
const SETUP_BYTES = 512 * 1024 ** 2
const BUILD_SIZE = { cpus: 2, memoryMiB: 1024 }
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
  const { home } = context
  mkdirSync(join(home, 'kvm'), { recursive: true, mode: 0o700 })
  const folder = mkdtempSync(join(home, 'kvm', 'build-'))
  try {
    const endBuild = await beginBuild(context, request.name, folder)
    try {
      const [builder, prover] = [request.newMachine(), request.newMachine()]
      return await makeImage({ context, request, ...checked, folder, builder, prover })
    } finally {
      endBuild()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const makeImage = async (build: Build): Promise<BaseManifest> => {
  const { context, request, builder, prover } = build
  const { name } = request
  const volumes = imageVolumes(name)
  /** Whether the pool has the image of this build, not proven yet. */
  let isUnproven = false
  try {
    const { disk, source } = await prepareDisk(build)
    const contents = await setUp(build, disk)
    request.onPhase('image')
    const file = await downloadDisk(build)
    // An image without a manifest is what a killed build left.
    await deleteVolume(context, volumes.image)
    isUnproven = true
    await publishVolume(context, volumes.image, file)
    await prove(build, file)
    const [createdAt, sizeBytes] = [new Date().toISOString(), statSync(file).size]
    const manifest = { name, provider: 'kvm', sha256: await sha256(file), source, contents, createdAt, sizeBytes }
    await withFile(context, JSON.stringify(manifest, null, 2), path => publishVolume(context, volumes.manifest, path))
    isUnproven = false
    return manifest
  } finally {
    for (const machine of [builder, prover]) await deleteMachine(context, machine)
    if (isUnproven) {
      await deleteVolume(context, volumes.manifest)
      await deleteVolume(context, volumes.image)
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
    throw fail(
      'already-exists',
      `the base image ${name} already exists`,
      'Machines may depend on it, so it is never overwritten. Choose another name: agent-swarm init-base <name> --from …',
    )
  return { pool, versions: versions.all }
}

/** The disk to begin with, as qcow2, and a description of its source. */
const prepareDisk = async (build: Build): Promise<{ disk: string; source: string }> => {
  const { context, request, folder } = build
  const { from, onPhase } = request
  const raw = join(folder, 'disk.img')
  const source = from.kind === 'debian-packages' ? await debianDisk(context.run, folder, raw, onPhase) : from.path
  const input = from.kind === 'debian-packages' ? raw : from.path
  onPhase('convert')
  const format = await checkDisk(build, input)
  const disk = join(folder, 'begun.qcow2')
  await convert(context, format, input, disk)
  return { disk, source }
}

const convert = (context: Context, format: string, from: string, to: string) =>
  context.run('qemu-img', ['convert', '-f', format, '-O', 'qcow2', from, to], {
    deadline: COPY_DEADLINE_MS,
    explain: explainQemuImg,
  })

/** Returns the disk's format, which the conversion must name: qemu-img does not trust a raw disk that a guest could have written. */
const checkDisk = async ({ context, request, pool, folder }: Build, input: string): Promise<string> => {
  const { stdout } = await context.run('qemu-img', ['info', '--output=json', input], { explain: explainQemuImg })
  const info = JSON.parse(stdout) as {
    format: string
    'virtual-size': number
    'actual-size': number
    'backing-filename'?: string
  }
  if (info['virtual-size'] < SMALLEST_DISK_BYTES)
    throw fail(
      'usage',
      `${input} is too small to be a disk that a system boots from: it holds ${info['virtual-size']} bytes`,
      NAME_A_CLOUD_IMAGE,
    )
  if (info['backing-filename'] !== undefined)
    throw fail('usage', `${input} depends on another image`, 'Flatten it first: qemu-img convert -O qcow2 FILE FLAT')
  // The machine's copy and the image exist at the same time.
  const needed = 2 * info['actual-size'] + SETUP_BYTES
  const { bavail, bsize } = statfsSync(folder)
  requireSpace(`building ${request.name}`, needed, { folder: context.home, available: bavail * bsize })
  requireSpace(`building ${request.name}`, needed, pool)
  return info.format
}

/** Boots the disk, sets the system up and seals it. Returns its packages; the machine is stopped then. */
const setUp = async (build: Build, disk: string): Promise<string[]> => {
  const { context, request, builder, pool, versions } = build
  const { onPhase, guest } = request
  const { virsh, settings } = context
  const volume = volumesOf(builder).disk
  onPhase('boot')
  await virsh.run(['vol-create-as', settings.kvmPool, volume, `${statSync(disk).size}B`, '--format', 'raw'])
  await virsh.run(['vol-upload', '--pool', settings.kvmPool, volume, disk], { deadline: COPY_DEADLINE_MS })
  rmSync(disk)
  await refreshPool(context)
  const mac = freshMac()
  await defineMachine(context, {
    vmId: builder,
    ticket: null,
    mac,
    domainType: await findDomainType(context, versions),
    ...BUILD_SIZE,
    seed: seedImage({ hostname: builder, mac, publicKey: guest.publicKey, hostKey: guest.hostKey }),
    folder: pool.folder,
    isolator: await openIsolator(context),
  })
  await startMachine(context, builder)
  await runInMachine(build, builder, 'true', BOOT_DEADLINE_MS)
  onPhase('set up')
  await runInMachine(build, builder, setupScript({ profile: 'minimal', extra: [] }), SETUP_DEADLINE_MS)
  const packages = await runInMachine(build, builder, baseScript('contents.sh'), LIST_DEADLINE_MS)
  onPhase('seal')
  await runInMachine(build, builder, baseScript('seal.sh'), SEAL_DEADLINE_MS)
  await stopMachine(context, builder)
  return packages
    .split('\n')
    .filter(line => /^\S+ \S+$/.test(line))
    .sort()
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
  return compact
}

/** A machine cloned from the image must boot, take its own name and key, and have git. */
const prove = async (build: Build, file: string): Promise<void> => {
  const { context, request, prover } = build
  const { name, onPhase, guest } = request
  onPhase('prove')
  const options = {
    ...{ vmId: prover, ...BUILD_SIZE, publicKey: guest.publicKey, hostKey: guest.hostKey },
    diskGiB: Math.ceil(statSync(file).size / 1024 ** 3) + PROOF_EXTRA_GIB,
  }
  await createMachine(context, null, name, options, () => {})
  await startMachine(context, prover)
  const script = 'git --version && cat /etc/machine-id && hostname'
  const answer = await runInMachine(build, prover, script, BOOT_DEADLINE_MS)
  if (!answer.includes('git version') || !answer.includes(prover))
    throw fail('unknown', `proving ${name}: the machine answered "${answer.slice(0, 200)}"`)
  const isolator = await openIsolator(context)
  if (isolator !== null)
    await proveIsolation(context, isolator, text => runInMachine(build, prover, text, LIST_DEADLINE_MS))
  await deleteMachine(context, prover)
}

/** Waits until the machine answers over SSH, runs `script` in it as root, and returns its output. */
const runInMachine = async (build: Build, vmId: string, script: string, deadline: number): Promise<string> => {
  const { context, request } = build
  const { name, guest, signal } = request
  const end = performance.now() + deadline
  while (performance.now() < end) {
    if (signal.aborted) throw fail('cancelled', `building ${name}: cancelled`)
    const ssh = await sshInfo(context, vmId).catch(allow('no-address-yet'))
    if (ssh !== undefined)
      return await guest.run(ssh, script, end - performance.now()).catch(async error => {
        const isUnreachable =
          isFailure(error) && ['guest-unreachable', 'refused', 'timeout'].includes(error.failure.kind)
        throw isUnreachable ? await noAnswer(build, vmId, deadline, error) : error
      })
    await delay(POLL_MS)
  }
  throw await noAnswer(build, vmId, deadline)
}

const noAnswer = async ({ context, request }: Build, vmId: string, deadline: number, cause?: unknown) => {
  const lines = await consoleTail(context, vmId).catch(() => [])
  const console =
    lines.length === 0
      ? ', and it wrote nothing on its console'
      : `. Its console ends with:\n${lines.map(line => `  ${line}`).join('\n')}`
  return fail(
    'guest-unreachable',
    `building ${request.name}: its machine did not answer over SSH within ${Math.round(deadline / 60_000)} minutes${console}`,
    'An image needs cloud-init (with its NoCloud source) and an SSH server, both started at boot.',
    cause,
  )
}

const sha256 = async (path: string): Promise<string> => {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}
