/** KVM and QEMU behind libvirt, by virsh alone: a member of the group libvirt needs no root. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { GUEST_USER, seedImage } from '../../base-image/seed.ts'
import { parseCheckpointName } from '../../src/domain.ts'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { Provider, Tools, VmInfo, VmUsage } from '../provider.ts'
import { buildBase, imageVolume, listImages } from './base.ts'
import { TAKE_BIOS, withoutUefi } from './explain.ts'
import { domainTypeHere, ensureNetwork, ensurePool, freePort, isActive, isFreePort, withFile } from './host.ts'
import { lastLines } from './last-lines.ts'
import { defineMachine, machineOf, volumesOf } from './machine.ts'
import { needRoom, sayingRoom } from './room.ts'
import { isSession, type KvmSettings } from './settings.ts'
import {
  askMark,
  openVirsh,
  parseAddresses,
  parseMarks,
  parseNames,
  parseNode,
  parsePool,
  parseSnapshots,
  parseStates,
  parseUse,
  parseVersions,
  parseVolumes,
} from './virsh.ts'
import { overlayXml, withPort } from './xml.ts'

const VM = /^as-[a-z0-9-]{1,51}-[0-9a-f]{8}$/
/** A guest that does not shut down in this time is powered off. Milliseconds. */
const SHUTDOWN_GRACE_MS = 60_000
const POLL_MS = 250
const LOOPBACK = '127.0.0.1'
/** Commands in one virsh: its argument may be 128 KiB. */
const BATCH = 400
/** A checkpoint writes the guest's memory to disk. */
const CHECKPOINT_DEADLINE_MS = 5 * 60_000
/** What a first boot writes, with room for the work to begin. */
const NEW_MACHINE_BYTES = 512 * 1024 ** 2

const chunks = <T>(all: readonly T[]): T[][] =>
  Array.from({ length: Math.ceil(all.length / BATCH) }, (_, n) => all.slice(n * BATCH, (n + 1) * BATCH))

export const openKvm = (tools: Tools<KvmSettings>): Provider => {
  const { run, home, settings } = tools
  const { pool, network } = settings
  const virsh = openVirsh(run, settings)
  const session = isSession(settings)

  const named = (id: string): string => {
    if (!VM.test(id)) throw fail('not-ours', `"${id}" is no machine of agent-swarm`)
    return id
  }
  const snapshot = (name: string): string => {
    if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is no checkpoint name`)
    return name
  }
  /** libvirt knows a pool's bytes as they were when it was read last. */
  const askPool = [
    ['pool-refresh', pool],
    ['pool-dumpxml', pool],
  ] as const
  const noted = (id: string) => [askMark(named(id)), ['domstats', id, '--state', '--nowait']]

  /** The machine in an answer to `noted`, with what else was asked. Fails with `no-such-vm` or `not-ours`. */
  const seenIn = (id: string, { stdout, stderr }: { stdout: string; stderr: string }) => {
    const mark = parseMarks(stdout).find(one => one.name === id)
    const status = parseStates(stdout).get(id)
    if (mark !== undefined && status !== undefined) return { mark, status, stdout, stderr }
    const failure = virsh.failed(`looking for ${id}`, stderr)
    if (failure.failure.kind === 'no-such-vm') throw failure
    if (failure.failure.kind !== 'not-ours' && mark === undefined && status === undefined) throw failure
    throw fail(
      'not-ours',
      `${id} carries a name like ours, and agent-swarm did not make it`,
      'It is left alone. Rename it if it is in the way.',
    )
  }
  /** The machine as it is now, and what `more` says, in one process. Whatever changes it looks first: it may not be ours. */
  const look = async (id: string, more: readonly (readonly string[])[] = []) =>
    seenIn(id, await virsh.ask([...noted(id), ...more]))
  const lookIfThere = (id: string) => look(id).catch(allow('no-such-vm'))
  /** As `look`, for what needs the network. */
  const lookAndConnect = async (id: string) => {
    const seen = await look(id, [['net-info', network]])
    if (!isActive(seen.stdout)) await ensureNetwork(virsh, home, settings)
    return seen
  }
  const room = sayingRoom(() => ensurePool(virsh, home, settings))

  /** What a call that was interrupted left goes first: the machine itself is not there. */
  const makeDisk = async (id: string, baseImage: string, diskGiB: number, folder: string) => {
    const image = imageVolume(baseImage)
    const text = overlayXml({ name: volumesOf(id).disk, gibibytes: diskGiB, backing: `${folder}/${image}` })
    const make = () =>
      withFile(home, text, file =>
        virsh.all([
          ['vol-info', '--pool', pool, image],
          ['vol-create', pool, file],
        ]),
      )
    try {
      await make()
    } catch (error) {
      const kind = isFailure(error) ? error.failure.kind : 'unknown'
      if (kind === 'already-exists') await removeMachine(id)
      else if (kind === 'no-such-image' || kind === 'not-configured') {
        await ensurePool(virsh, home, settings)
        if (!(await listImages(virsh, pool)).includes(baseImage)) {
          throw fail(
            'no-such-image',
            `there is no base image ${baseImage}`,
            `Make it: agent-swarm init-base ${baseImage} --from debian-packages (or --from FILE, a cloud image).`,
          )
        }
      } else throw error
      await make()
    }
  }

  /** All of a machine in as few processes as it takes, usually one; done when libvirt shows nothing of it any more. */
  const removeMachine = async (id: string) => {
    const machine = await lookIfThere(id)
    const flags = ['--managed-save', '--snapshots-metadata', '--checkpoints-metadata', '--nvram']
    let volumes: string[] = Object.values(volumesOf(id))
    while (true) {
      const { stdout, stderr } = await virsh.ask([
        ...(machine?.status === 'running' ? [['destroy', id]] : []),
        ...(machine === undefined ? [] : [['undefine', id, ...flags]]),
        ...volumes.map(volume => ['vol-delete', '--pool', pool, volume]),
        // Shows what libvirt wrote there by itself: a console's older parts.
        ['pool-refresh', pool],
        ['list', '--all', '--name'],
        ['vol-list', pool],
      ])
      const left = parseNames(stdout).filter(name => name === id || machineOf(name) === id)
      if (left.length === 0) return
      // What is still there after it was deleted by name does not go.
      if (left.some(name => name === id || volumes.includes(name))) throw virsh.failed(`deleting ${id}`, stderr)
      volumes = left
    }
  }

  const provider: Provider = {
    name: 'kvm',
    liveCheckpoints: true,
    memoryCheckpoints: true,

    available: async () => {
      if (process.platform !== 'linux' || process.arch !== 'x64') {
        return {
          available: false,
          reason: `it needs Linux on x86-64, and this is ${process.platform} on ${process.arch}.`,
          remedy: null,
        }
      }
      try {
        const said = await virsh.one(['version', '--daemon'], { deadline: 10_000, doing: 'asking libvirt' })
        const reason = settings.firmware === 'uefi' ? withoutUefi(parseVersions(said).libvirt) : null
        return reason === null ? { available: true } : { available: false, reason: `${reason}.`, remedy: TAKE_BIOS }
      } catch (error) {
        if (!isFailure(error)) throw error
        const { message, remedy } = error.failure
        return { available: false, reason: `${message}.`, remedy }
      }
    },

    createVm: async (ticket, baseImage, options, onPhase = () => {}): Promise<VmInfo> => {
      const { vmId, cpus, memoryMiB, publicKey, hostKey } = options
      const facts = await virsh.ask([...noted(vmId), ['net-info', network], ['version', '--daemon'], ...askPool])
      try {
        return { vmId, ticket, ip: null, status: seenIn(vmId, facts).status }
      } catch (error) {
        allow('no-such-vm')(error)
      }
      const versions = parseVersions(facts.stdout)
      const noUefi = settings.firmware === 'uefi' ? withoutUefi(versions.libvirt) : null
      if (noUefi !== null) throw fail('unsupported', `making ${vmId}: ${noUefi}`, TAKE_BIOS)
      const there = parsePool(facts.stdout) ?? (await ensurePool(virsh, home, settings))
      needRoom(`making ${vmId}`, NEW_MACHINE_BYTES, there)
      const { folder } = there
      try {
        const domainType = await domainTypeHere(virsh, home, settings, versions.all)
        if (!isActive(facts.stdout)) await ensureNetwork(virsh, home, settings)
        onPhase('disk')
        await makeDisk(vmId, baseImage, options.diskGiB, folder)
        onPhase('seed')
        const seed = seedImage({ hostname: vmId, publicKey, hostKey })
        await defineMachine(run, virsh, home, settings, { vmId, ticket, domainType, cpus, memoryMiB, seed, folder })
      } catch (error) {
        await removeMachine(vmId)
        return room(error)
      }
      return { vmId, ticket, ip: null, status: 'stopped' }
    },

    startVm: async id => {
      const { status, mark } = await lookAndConnect(id)
      if (status === 'stopped' && mark.port !== null && !(await isFreePort(mark.port))) {
        // Its definition is kept as it is but for the port, which another program took meanwhile.
        const text = withPort(await virsh.one(['dumpxml', id, '--inactive', '--security-info']), await freePort())
        await withFile(home, text, path => virsh.one(['define', path]))
      }
      await virsh
        .one(['start', id], { deadline: 120_000, doing: `starting ${id}` })
        .catch(allow('already-running'))
        .catch(room)
    },

    stopVm: async id => {
      if ((await look(id)).status === 'stopped') return
      await virsh.one(['shutdown', id]).catch(allow('not-running'))
      for (const until = performance.now() + SHUTDOWN_GRACE_MS; performance.now() < until; await delay(POLL_MS)) {
        if ((await look(id)).status === 'stopped') return
      }
      await virsh.one(['destroy', id]).catch(allow('not-running'))
    },

    deleteVm: removeMachine,

    sshInfo: async id => {
      const { mark, status, stdout } = await look(
        id,
        session ? [] : ['lease', 'agent', 'arp'].map(source => ['domifaddr', id, '--source', source]),
      )
      if (mark.port !== null && status === 'running') return { host: LOOPBACK, port: mark.port, user: GUEST_USER }
      const host = parseAddresses(stdout).get(mark.mac)
      if (host === undefined) throw fail('no-address-yet', `${id} has no address yet`)
      return { host, port: 22, user: GUEST_USER }
    },

    checkpoint: async (id, name) => {
      const { disk } = volumesOf(id)
      const measure = ['vol-info', '--pool', pool, disk, '--bytes']
      const { stdout } = await look(id, [measure, ...askPool, ['domstats', id, '--state', '--balloon', '--nowait']])
      const [before, pooled, use] = [parseVolumes(stdout).get(disk), parsePool(stdout), parseUse(stdout).get(id)]
      // Its memory goes to the disk, as far as it was ever used.
      const needed = Math.min(use?.memoryUsedBytes ?? 0, use?.memoryBytes ?? 0)
      if (pooled !== null) needRoom(`making the checkpoint ${name} of ${id}`, needed, pooled)
      const made = await virsh
        .all([['snapshot-create-as', id, `--name=${snapshot(name)}`, '--atomic'], measure], {
          deadline: CHECKPOINT_DEADLINE_MS,
          doing: `making the checkpoint ${name} of ${id}`,
        })
        .catch(room)
      const after = parseVolumes(made).get(disk)
      return { sizeBytes: before === undefined || after === undefined ? null : Math.max(0, after - before) }
    },

    restore: async (id, name) => {
      await lookAndConnect(id)
      await virsh
        .one(['snapshot-revert', id, `--snapshotname=${snapshot(name)}`], {
          deadline: CHECKPOINT_DEADLINE_MS,
          doing: `bringing ${id} back to ${name}`,
        })
        .catch(room)
      // The guest's clock stands where it stood. Only an agent in the guest can set it; one without goes on with the old
      // time, and a stopped one has none.
      await virsh.ask([['domtime', id, '--now']])
    },

    listCheckpoints: async id => {
      const { stdout, stderr } = await look(id, [['snapshot-list', id, '--topological']])
      // None is an answer, and "cannot be asked" is not.
      if (stderr !== '') throw virsh.failed(`listing the checkpoints of ${id}`, stderr)
      return parseSnapshots(stdout)
    },

    deleteCheckpoint: async (id, name) => {
      await look(id)
      await virsh
        .one(['snapshot-delete', id, `--snapshotname=${snapshot(name)}`], {
          deadline: CHECKPOINT_DEADLINE_MS,
          doing: `deleting the checkpoint ${name} of ${id}`,
        })
        .catch(allow('no-such-checkpoint'))
    },

    status: async id => (await look(id)).status,

    listVms: async () => {
      const states = parseStates(await virsh.one(['domstats', '--state', '--nowait']))
      const ids = [...states.keys()].filter(name => VM.test(name))
      const [leases, ...marks] = await Promise.all([
        session ? { stdout: '' } : virsh.ask([['net-dhcp-leases', network]]),
        ...chunks(ids).map(part => virsh.ask(part.map(askMark))),
      ])
      const addresses = parseAddresses(leases.stdout)
      return marks
        .flatMap(({ stdout }) => parseMarks(stdout))
        .flatMap(({ name, ticket, mac, port }): VmInfo[] => {
          const status = states.get(name)
          const ip = port === null ? (addresses.get(mac) ?? null) : LOOPBACK
          // A machine of no ticket builds an image.
          return status === undefined || ticket === ''
            ? []
            : [{ vmId: name, ticket, ip: status === 'running' ? ip : null, status }]
        })
    },

    usage: async () => {
      const { stdout } = await virsh.ask([
        ['domstats', '--state', '--cpu-total', '--vcpu', '--balloon', '--nowait'],
        ['vol-list', pool],
      ])
      const found = new Map(
        [...parseUse(stdout)].flatMap(([id, use]): [string, VmUsage][] =>
          VM.test(id) ? [[id, { ...use, diskBytes: 0 }]] : [],
        ),
      )
      const volumes = parseNames(stdout).filter(name => found.has(machineOf(name) ?? ''))
      const answers = await Promise.all(
        chunks(volumes).map(part => virsh.ask(part.map(name => ['vol-info', '--pool', pool, name, '--bytes']))),
      )
      for (const [name, bytes] of answers.flatMap(({ stdout }) => [...parseVolumes(stdout)])) {
        const use = found.get(machineOf(name) ?? '')
        if (use !== undefined) use.diskBytes += bytes
      }
      return found
    },

    capacity: async () => {
      const { stdout } = await virsh.ask([['nodeinfo'], ['nodememstats'], ...askPool])
      const { folder: _, ...diskBytes } = parsePool(stdout) ?? (await ensurePool(virsh, home, settings))
      return { ...parseNode(stdout), diskBytes }
    },

    consoleTail: async id =>
      withFile(home, '', async path => {
        // The machine is known to be ours before its console is shown; reading it changes nothing.
        await look(id, [['vol-download', '--pool', pool, volumesOf(id).console, path]])
        return lastLines(readFileSync(path))
      }),

    listBaseImages: () => listImages(virsh, pool),
    buildBase: request => buildBase(tools, virsh, provider, request),
  }
  return provider
}
