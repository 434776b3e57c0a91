/** KVM and QEMU behind libvirt, by virsh alone: a member of the group libvirt needs no root. */
import { setTimeout as delay } from 'node:timers/promises'
import { GUEST_USER, seedImage } from '../../base-image/seed.ts'
import { checkpointName } from '../../src/domain.ts'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { Provider, Tools, VmInfo } from '../provider.ts'
import { buildBase, imageVolume, listImages } from './base.ts'
import { domainTypeHere, ensureNetwork, ensurePool, freshMac, volumePath, withFile } from './host.ts'
import { debianPackages, type KvmSettings } from './settings.ts'
import {
  askMark,
  type Mark,
  numberAfter,
  openVirsh,
  parseAddresses,
  parseDomstats,
  parseMarks,
  parseSnapshots,
  parseVolumes,
  vmStatus,
} from './virsh.ts'
import { domainXml } from './xml.ts'

const VM = /^as-[a-z0-9-]{1,51}-[0-9a-f]{8}$/
/** A guest that does not shut down in this time is powered off. Milliseconds. */
const SHUTDOWN_GRACE_MS = 60_000
const POLL_MS = 250
/** Commands in one virsh: its argument may be 128 KiB. */
const BATCH = 400
/** A checkpoint writes the guest's memory to disk. */
const CHECKPOINT_DEADLINE_MS = 5 * 60_000

const chunks = <T>(all: readonly T[]): T[][] =>
  Array.from({ length: Math.ceil(all.length / BATCH) }, (_, n) => all.slice(n * BATCH, (n + 1) * BATCH))

export const openKvm = (tools: Tools<KvmSettings>): Provider => {
  const { run, home, settings } = tools
  const { pool, network } = settings
  const virsh = openVirsh(run, settings.uri)

  const named = (id: string): string => {
    if (!VM.test(id)) throw fail('not-ours', `"${id}" is no machine of agent-swarm`)
    return id
  }
  const disk = (id: string) => `${named(id)}.qcow2`
  const seed = (id: string) => `${named(id)}.seed.iso`

  /** The mark that a machine of ours carries; fails with `no-such-vm` or `not-ours`. */
  const mark = async (id: string): Promise<Mark> => {
    const found = parseMarks(
      await virsh.one(askMark(named(id))).catch(error => {
        if (isFailure(error) && error.failure.kind === 'not-ours') {
          throw fail(
            'not-ours',
            `${id} carries a name like ours, and agent-swarm did not make it`,
            'It is left alone. Rename it if it is in the way.',
          )
        }
        throw error
      }),
    ).find(one => one.name === id)
    if (found === undefined) throw fail('not-ours', `${id} does not carry our mark`)
    return found
  }
  const there = (id: string) => mark(id).catch(allow('no-such-vm'))
  const snapshot = (name: string): string => {
    if (checkpointName(name) !== name) throw fail('usage', `"${name}" is no checkpoint name`)
    return name
  }

  const domstate = async (id: string) => vmStatus(await virsh.one(['domstate', named(id)]))
  const removeVolume = (volume: string) =>
    virsh.one(['vol-delete', '--pool', pool, volume]).catch(allow('no-such-image'))

  /** What the disk takes on the host now. */
  const allocated = async (id: string) =>
    numberAfter(await virsh.batch([['vol-info', '--pool', pool, '--vol', disk(id), '--bytes']]), 'Allocation')

  const listSnapshots = async (id: string) =>
    parseSnapshots(await virsh.one(['snapshot-list', named(id), '--topological']))

  const addressOf = async (id: string, mac: string): Promise<string | null> =>
    parseAddresses(
      await virsh.batch([
        ['domifaddr', id, '--source', 'lease'],
        ['domifaddr', id, '--source', 'agent'],
        ['domifaddr', id, '--source', 'arp'],
      ]),
    ).get(mac) ?? null

  const makeVolumes = async (
    id: string,
    baseImage: string,
    diskGiB: number,
    image: Buffer,
    onPhase: (phase: string) => void,
  ) => {
    onPhase('disk')
    const backing = imageVolume(baseImage)
    const makeDisk = () =>
      virsh.one([
        'vol-create-as',
        pool,
        disk(id),
        `${diskGiB}G`,
        '--format',
        'qcow2',
        '--backing-vol',
        backing,
        '--backing-vol-format',
        'qcow2',
      ])
    try {
      await makeDisk()
    } catch (error) {
      const kind = isFailure(error) ? error.failure.kind : 'unknown'
      if (kind === 'already-exists') {
        // Left by a call that was interrupted: the machine itself is not there.
        await removeVolume(disk(id))
        await removeVolume(seed(id))
        await makeDisk()
      } else if (kind === 'no-such-image' || kind === 'unknown') {
        await ensurePool(virsh, home, settings)
        await virsh.one(['pool-refresh', pool])
        if (!(await listImages(virsh, pool)).includes(baseImage)) {
          throw fail(
            'no-such-image',
            `there is no base image ${baseImage}`,
            `Make it: agent-swarm init-base ${baseImage} --from debian-packages (or --from FILE, a cloud image).`,
          )
        }
        await makeDisk()
      } else throw error
    }
    onPhase('seed')
    await virsh.one(['vol-create-as', pool, seed(id), `${image.length}B`, '--format', 'raw'])
    await withFile(home, image, path => virsh.one(['vol-upload', '--pool', pool, seed(id), path]))
    const [diskPath, seedPath] = (
      await virsh.batch([
        ['vol-path', '--pool', pool, disk(id)],
        ['vol-path', '--pool', pool, seed(id)],
      ])
    )
      .trim()
      .split(/\s+/)
    return {
      diskPath: diskPath ?? (await volumePath(virsh, pool, disk(id))),
      seedPath: seedPath ?? (await volumePath(virsh, pool, seed(id))),
    }
  }

  const removeMachine = async (id: string) => {
    if ((await there(id)) !== undefined) {
      await virsh.one(['destroy', id]).catch(allow('not-running', 'no-such-vm'))
      await virsh
        .one(['undefine', id, '--managed-save', '--snapshots-metadata', '--checkpoints-metadata', '--nvram'])
        .catch(allow('no-such-vm'))
    }
    await removeVolume(disk(id))
    await removeVolume(seed(id))
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
        await virsh.one(['version'], { deadline: 10_000 })
        return { available: true }
      } catch (error) {
        if (!isFailure(error)) throw error
        const { kind, message, remedy } = error.failure
        return kind === 'provider-missing'
          ? {
              available: false,
              reason: 'virsh is not installed.',
              remedy: `Debian, Ubuntu: sudo apt install --no-install-recommends ${debianPackages.run.join(' ')}. Fedora: sudo dnf install libvirt qemu-kvm.`,
            }
          : { available: false, reason: message, remedy }
      }
    },

    createVm: async (ticket, baseImage, options, onPhase = () => {}): Promise<VmInfo> => {
      const { vmId } = options
      named(vmId)
      if ((await there(vmId)) !== undefined) return { vmId, ticket, ip: null, status: await domstate(vmId) }
      try {
        const [domainType] = await Promise.all([
          domainTypeHere(virsh, home, settings),
          ensureNetwork(virsh, home, settings),
        ])
        const image = seedImage({ hostname: vmId, publicKey: options.publicKey, hostKey: options.hostKey })
        const paths = await makeVolumes(vmId, baseImage, options.diskGiB, image, onPhase)
        onPhase('define')
        const text = domainXml({
          vmId,
          ticket,
          mac: freshMac(),
          domainType,
          cpus: options.cpus,
          memoryMiB: options.memoryMiB,
          network,
          ...paths,
        })
        await withFile(home, text, path => virsh.one(['define', path]))
      } catch (error) {
        await removeMachine(vmId)
        throw error
      }
      return { vmId, ticket, ip: null, status: 'stopped' }
    },

    startVm: async id => {
      await mark(id)
      await ensureNetwork(virsh, home, settings)
      await virsh.one(['start', id], { deadline: 120_000 }).catch(allow('already-running'))
    },

    stopVm: async id => {
      await mark(id)
      if ((await domstate(id)) === 'stopped') return
      await virsh.one(['shutdown', id]).catch(allow('not-running'))
      for (const until = performance.now() + SHUTDOWN_GRACE_MS; performance.now() < until; await delay(POLL_MS)) {
        if ((await domstate(id)) === 'stopped') return
      }
      await virsh.one(['destroy', id]).catch(allow('not-running'))
    },

    deleteVm: removeMachine,

    sshInfo: async id => {
      const { mac } = await mark(id)
      const host = await addressOf(id, mac)
      if (host === null) throw fail('no-address-yet', `${id} has no address yet`)
      return { host, port: 22, user: GUEST_USER }
    },

    checkpoint: async (id, name) => {
      await mark(id)
      const before = await allocated(id)
      await virsh.one(['snapshot-create-as', id, `--name=${snapshot(name)}`, '--atomic'], {
        deadline: CHECKPOINT_DEADLINE_MS,
      })
      const after = await allocated(id)
      return { sizeBytes: before === null || after === null ? null : Math.max(0, after - before) }
    },

    restore: async (id, name) => {
      await mark(id)
      await ensureNetwork(virsh, home, settings)
      await virsh.one(['snapshot-revert', id, `--snapshotname=${snapshot(name)}`], { deadline: CHECKPOINT_DEADLINE_MS })
      // The guest's clock stands where it stood. Only an agent in the guest can set it; one without goes on with the old time.
      if ((await domstate(id)) === 'running') await virsh.batch([['domtime', id, '--now']])
    },

    listCheckpoints: async id => {
      await mark(id)
      return listSnapshots(id)
    },

    deleteCheckpoint: async (id, name) => {
      await mark(id)
      await virsh
        .one(['snapshot-delete', id, `--snapshotname=${snapshot(name)}`], { deadline: CHECKPOINT_DEADLINE_MS })
        .catch(allow('no-such-checkpoint'))
    },

    status: async id => {
      await mark(id)
      return domstate(id)
    },

    listVms: async () => {
      const states = parseDomstats(await virsh.one(['domstats', '--state', '--nowait']))
      const ids = [...states.keys()].filter(name => VM.test(name))
      const answers = await Promise.all([
        virsh.batch([['net-dhcp-leases', network]]),
        ...chunks(ids).map(part => virsh.batch(part.map(askMark))),
      ])
      const [leases = '', ...marks] = answers
      const addresses = parseAddresses(leases)
      return marks.flatMap(parseMarks).flatMap(({ name, ticket, mac }): VmInfo[] => {
        const status = states.get(name)?.status
        // A machine of no ticket builds an image.
        return status === undefined || ticket === ''
          ? []
          : [{ vmId: name, ticket, ip: status === 'running' ? (addresses.get(mac) ?? null) : null, status }]
      })
    },

    usage: async () => {
      const volumes = (await virsh.one(['vol-list', pool]).catch(() => ''))
        .split('\n')
        .map(line => line.trim().split(/\s+/)[0] ?? '')
      const ours = volumes.filter(name => VM.test(name.replace(/\.(qcow2|seed\.iso)$/, '')) && name.includes('.'))
      const [stats = '', ...texts] = await Promise.all([
        virsh.one(['domstats', '--state', '--cpu-total', '--vcpu', '--balloon', '--nowait']),
        ...chunks(ours).map(part =>
          virsh.batch(part.map(name => ['vol-info', '--pool', pool, '--vol', name, '--bytes'])),
        ),
      ])
      const bytes = new Map<string, number>()
      for (const [name, size] of texts.flatMap(text => [...parseVolumes(text)])) {
        const id = name.replace(/\.(qcow2|seed\.iso)$/, '')
        bytes.set(id, (bytes.get(id) ?? 0) + size)
      }
      const machines = [...parseDomstats(stats)].filter(([name]) => VM.test(name))
      return new Map(
        machines.map(([name, { status: _, ...usage }]) => [name, { diskBytes: bytes.get(name) ?? 0, ...usage }]),
      )
    },
    capacity: async () => {
      const text = await virsh.batch([['nodeinfo'], ['nodememstats'], ['pool-info', pool, '--bytes']])
      const number = (label: string) => numberAfter(text, label) ?? 0
      const kib = (label: string) => number(label) * 1024
      return {
        cpus: number('CPU\\(s\\)'),
        // What the kernel holds as cache it gives up when it is asked for.
        memoryBytes: { total: kib('total'), available: kib('free') + kib('buffers') + kib('cached') },
        diskBytes: { total: number('Capacity'), available: number('Available') },
      }
    },

    listBaseImages: () => listImages(virsh, pool),
    buildBase: request => buildBase(tools, virsh, provider, request),
  }
  return provider
}
