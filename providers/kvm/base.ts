/**
 * Base images: built in a machine, sealed, proven by a boot, and only then published. In the pool an image is two volumes,
 * `<name>.qcow2` and `<name>.manifest.json`; the manifest comes last, so that an image without one does not exist.
 */
import { createHash, randomBytes } from 'node:crypto'
import {
  createReadStream,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { baseScript } from '../../base-image/scripts.ts'
import { seedImage } from '../../base-image/seed.ts'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { BaseManifest, BuildBase, Provider, Tools } from '../provider.ts'
import { debianDisk } from './debian-image.ts'
import { MAKE_ROOM, TAKE_BIOS, withoutUefi } from './explain.ts'
import { domainTypeHere, ensureNetwork, ensurePool, refreshPool, withFile } from './host.ts'
import { defineMachine } from './machine.ts'
import { needRoom } from './room.ts'
import type { KvmSettings } from './settings.ts'
import { parseNames, parseVersions, type Virsh } from './virsh.ts'
import { escapeXml } from './xml.ts'

const IMAGE = /^[a-z0-9][a-z0-9-]{0,40}$/
const MANIFEST = '.manifest.json'
/** A first boot under software emulation takes one to three minutes, and several times that on a busy host. */
const BOOT_DEADLINE_MS = 20 * 60_000
const SETUP_DEADLINE_MS = 20 * 60_000
/** Copying an image to or from the pool. */
const COPY_DEADLINE_MS = 10 * 60_000
/** No system fits into less. */
const SMALLEST_BYTES = 64 * 1024 * 1024
/** What is installed and written while an image is set up. */
const SETUP_BYTES = 512 * 1024 ** 2
const BUILD_SIZE = { cpus: 2, memoryMiB: 1024 }

export const imageVolume = (name: string): string => {
  if (!IMAGE.test(name) || name.startsWith('as-'))
    throw fail(
      'usage',
      `"${name}" is no image name`,
      'Small letters, digits and hyphens, at most 41, not beginning with "as-".',
    )
  return `${name}.qcow2`
}

export const listImages = async (virsh: Virsh, pool: string): Promise<string[]> => {
  // Without the pool there is none; when it cannot be asked, that is no answer: who builds would take it for leave to begin.
  const volumes = parseNames((await virsh.one(['vol-list', pool]).catch(allow('not-configured'))) ?? '')
  const names = volumes.filter(name => name.endsWith(MANIFEST)).map(name => name.slice(0, -MANIFEST.length))
  return names.filter(name => IMAGE.test(name) && volumes.includes(`${name}.qcow2`))
}

const sha256 = async (path: string): Promise<string> => {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}

const volumeXml = (name: string, bytes: number) =>
  `<volume><name>${escapeXml(name)}</name><capacity unit="bytes">${bytes}</capacity><target><format type="raw"/><permissions><mode>0444</mode></permissions></target></volume>`

/** A file as a volume that nobody may write. libvirt finds its format when the pool is read again. */
const publish = async (virsh: Virsh, home: string, pool: string, volume: string, path: string) => {
  await withFile(home, volumeXml(volume, statSync(path).size), xml => virsh.one(['vol-create', pool, xml]))
  await virsh.one(['vol-upload', '--pool', pool, volume, path], { deadline: COPY_DEADLINE_MS })
  await refreshPool(virsh, pool)
}

/** What a build has under way, in a file while it lives. */
type UnderWay = { pid: number; machines: string[]; folder: string }
const UNDER_WAY = 'building-'

/**
 * Notes a build, and ends what was left by those that were killed. Two builds of one image would take each other's
 * volumes for leftovers, so the second is refused. Returns what ends the note.
 */
const alone = async (home: string, name: string, provider: Provider, mine: UnderWay): Promise<() => void> => {
  const root = join(home, 'kvm')
  for (const file of readdirSync(root).filter(one => one.startsWith(UNDER_WAY))) {
    const { pid, machines, folder } = JSON.parse(readFileSync(join(root, file), 'utf8')) as UnderWay
    if (lives(pid)) {
      if (file !== `${UNDER_WAY}${name}`) continue
      throw fail(
        'busy',
        `building ${name}: another init-base is building it (process ${pid})`,
        'Wait for it, or end it and try again.',
      )
    }
    for (const machine of machines) await provider.deleteVm(machine)
    rmSync(folder, { recursive: true, force: true })
    rmSync(join(root, file))
  }
  // Whole or not at all, and only the first of two that begin together.
  const [note, file] = [join(mine.folder, 'note'), join(root, `${UNDER_WAY}${name}`)]
  writeFileSync(note, JSON.stringify(mine), { mode: 0o600 })
  linkSync(note, file)
  return () => rmSync(file, { force: true })
}
const lives = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // Another user's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

export const buildBase = async (
  { run, home, settings }: Tools<KvmSettings>,
  virsh: Virsh,
  provider: Provider,
  request: BuildBase,
): Promise<BaseManifest> => {
  const { name, from, onPhase, guest, signal } = request
  const { pool } = settings
  const volume = imageVolume(name)
  const versions = parseVersions(await virsh.one(['version', '--daemon'], { doing: `building ${name}` }))
  if (settings.firmware === 'uefi') {
    const reason =
      from.kind === 'debian-packages'
        ? "an image of Debian's packages boots by BIOS alone"
        : withoutUefi(versions.libvirt)
    if (reason !== null) throw fail('unsupported', `building ${name}: ${reason}`, TAKE_BIOS)
  }
  await ensureNetwork(virsh, home, settings)
  const there = await ensurePool(virsh, home, settings)
  if ((await listImages(virsh, pool)).includes(name)) {
    throw fail(
      'already-exists',
      `there is a base image ${name} already`,
      'Machines may be made of it, so it is never overwritten. Take another name: agent-swarm init-base <name> --from …',
    )
  }
  mkdirSync(join(home, 'kvm'), { recursive: true, mode: 0o700 })
  const folder = mkdtempSync(join(home, 'kvm', 'build-'))
  const builder = `as-image-${randomBytes(4).toString('hex')}`
  const proof = `as-image-${randomBytes(4).toString('hex')}`
  const end = await alone(home, name, provider, { pid: process.pid, machines: [builder, proof], folder }).catch(
    error => {
      rmSync(folder, { recursive: true })
      throw error
    },
  )
  /** Whether the image in the pool is this build's, and not proven yet. */
  let unproven = false

  /** Runs `script` in a machine of ours once it answers. One that never does is told with the last words of its console. */
  const inGuest = async (vmId: string, script: string, deadline: number): Promise<string> => {
    const until = performance.now() + deadline
    let failure: unknown
    while (performance.now() < until) {
      if (signal.aborted) throw fail('cancelled', `building ${name}: cancelled`)
      const ssh = await provider.sshInfo(vmId).catch(allow('no-address-yet'))
      if (ssh === undefined) await delay(500)
      else {
        try {
          return await guest.run(ssh, script, until - performance.now())
        } catch (error) {
          if (!isFailure(error) || !['guest-unreachable', 'refused', 'timeout'].includes(error.failure.kind))
            throw error
          failure = error
          break
        }
      }
    }
    const lines = (await provider.consoleTail?.(vmId).catch(() => [])) ?? []
    throw fail(
      'guest-unreachable',
      `building ${name}: no answer from its machine over SSH within ${Math.round(deadline / 60_000)} minutes${
        lines.length === 0
          ? ', and wrote nothing on its console'
          : `. Its console ends with:\n${lines.map(line => `  ${line}`).join('\n')}`
      }`,
      'An image needs cloud-init (its NoCloud source) and an SSH server that start by themselves.',
      failure,
    )
  }

  try {
    // 1. A disk to begin with.
    const raw = join(folder, 'disk.img')
    let source: string
    if (from.kind === 'debian-packages') source = await debianDisk(run, folder, raw, onPhase)
    else source = from.path
    const input = from.kind === 'debian-packages' ? raw : from.path
    onPhase('convert')
    const begun = join(folder, 'begun.qcow2')
    const explain = [
      [/Could not open|No such file/, 'usage', 'Name a cloud image on disk: a qcow2 or raw file.'],
      [/No space left/, 'disk-full', MAKE_ROOM, 'the disk is full'],
    ] as const
    // The format is found out first and then said: qemu-img refuses to guess for a raw disk that a guest could have written.
    const info = JSON.parse((await run('qemu-img', ['info', '--output=json', input], { explain })).stdout) as {
      format: string
      'virtual-size': number
      'actual-size': number
      'backing-filename'?: string
    }
    if (info['virtual-size'] < SMALLEST_BYTES)
      throw fail(
        'usage',
        `${input} is no disk that a system could boot from: it holds ${info['virtual-size']} bytes`,
        'Name a cloud image on disk: a qcow2 or raw file.',
      )
    if (info['backing-filename'] !== undefined)
      throw fail('usage', `${input} stands on another image`, 'Flatten it first: qemu-img convert -O qcow2 FILE FLAT')
    // At once: the copy that the machine runs on, and what is made of it.
    const needed = 2 * info['actual-size'] + SETUP_BYTES
    const { bavail, bsize } = statfsSync(folder)
    needRoom(`building ${name}`, needed, { folder: home, available: bavail * bsize })
    needRoom(`building ${name}`, needed, there)
    await run('qemu-img', ['convert', '-f', info.format, '-O', 'qcow2', input, begun], {
      deadline: COPY_DEADLINE_MS,
      explain,
    })

    // 2. A machine that runs on it, where it is set up and sealed.
    onPhase('boot')
    await virsh.one(['vol-create-as', pool, `${builder}.qcow2`, `${statSync(begun).size}B`, '--format', 'raw'])
    await virsh.one(['vol-upload', '--pool', pool, `${builder}.qcow2`, begun], { deadline: COPY_DEADLINE_MS })
    rmSync(begun)
    await refreshPool(virsh, pool)
    await defineMachine(run, virsh, home, settings, {
      vmId: builder,
      ticket: '',
      domainType: await domainTypeHere(virsh, home, settings, versions.all),
      ...BUILD_SIZE,
      seed: seedImage({ hostname: builder, publicKey: guest.publicKey, hostKey: guest.hostKey }),
      folder: there.folder,
    })
    await provider.startVm(builder)
    await inGuest(builder, 'true', BOOT_DEADLINE_MS)
    onPhase('set up')
    await inGuest(builder, `set -- minimal\n${baseScript('setup-base.sh')}`, SETUP_DEADLINE_MS)
    const listed = await inGuest(builder, baseScript('contents.sh'), 60_000)
    const contents = listed
      .split('\n')
      .filter(line => /^\S+ \S+$/.test(line))
      .sort()
    onPhase('seal')
    await inGuest(builder, baseScript('seal.sh'), 5 * 60_000)
    await provider.stopVm(builder)

    // 3. The image: without what was written and deleted along the way.
    onPhase('image')
    const written = join(folder, 'written.qcow2')
    const final = join(folder, 'final.qcow2')
    await virsh.one(['vol-download', '--pool', pool, `${builder}.qcow2`, written], { deadline: COPY_DEADLINE_MS })
    await provider.deleteVm(builder)
    await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'qcow2', written, final], {
      deadline: COPY_DEADLINE_MS,
      explain,
    })
    // One without its manifest is the rest of a build that was killed.
    await virsh.one(['vol-delete', '--pool', pool, volume]).catch(allow('no-such-image'))
    unproven = true
    await publish(virsh, home, pool, volume, final)

    // 4. The proof: a machine cloned from it comes up, takes its own keys, and has what it should.
    onPhase('prove')
    await provider.createVm('', name, {
      vmId: proof,
      ...BUILD_SIZE,
      diskGiB: Math.ceil(statSync(final).size / 1024 ** 3) + 4,
      publicKey: guest.publicKey,
      hostKey: guest.hostKey,
    })
    await provider.startVm(proof)
    const answer = await inGuest(proof, 'git --version && cat /etc/machine-id && hostname', BOOT_DEADLINE_MS)
    if (!answer.includes('git version') || !answer.includes(proof))
      throw fail('unknown', `proving ${name}: the machine answered "${answer.slice(0, 200)}"`)
    await provider.deleteVm(proof)

    const manifest: BaseManifest = {
      name,
      provider: 'kvm',
      sha256: await sha256(final),
      source,
      contents,
      createdAt: new Date().toISOString(),
      sizeBytes: statSync(final).size,
    }
    await withFile(home, JSON.stringify(manifest, null, 2), path =>
      publish(virsh, home, pool, `${name}${MANIFEST}`, path),
    )
    unproven = false
    return manifest
  } finally {
    rmSync(folder, { recursive: true, force: true })
    await provider.deleteVm(builder)
    await provider.deleteVm(proof)
    if (unproven) {
      await virsh.one(['vol-delete', '--pool', pool, `${name}${MANIFEST}`]).catch(allow('no-such-image'))
      await virsh.one(['vol-delete', '--pool', pool, volume]).catch(allow('no-such-image'))
    }
    end()
  }
}
