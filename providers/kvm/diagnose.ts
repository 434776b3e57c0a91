/** What this host has and lacks for machines of libvirt. Reads alone, but for a test guest that ends by itself. */
import { existsSync, readFileSync, statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { ok, problem, warning } from '../../src/check.ts'
import { failureOf, isFailure } from '../../src/errors.ts'
import type { Run } from '../../src/exec.ts'
import { type DiagnosisCheck, roomLeft, runDiagnosis } from '../diagnosis.ts'
import type { Diagnosis } from '../provider.ts'
import { checkAcceleration } from './acceleration.ts'
import type { Context } from './context.ts'
import { USE_BIOS, whyNoUefi } from './explain.ts'
import { checkPool, listPools, poolCommands, poolFolder } from './host.ts'
import { isolationReport } from './isolated.ts'
import { checkLive } from './live-check.ts'
import { stateOfNetwork } from './network.ts'
import { parseNode, parsePool, parseVersions, versionNumber } from './parse.ts'
import { isSession } from './settings.ts'
import { thisSystem } from './systems.ts'
import { openVirsh } from './virsh.ts'

/** A libvirt that works answers within a second. */
const CONNECT_DEADLINE_MS = 10_000
const DEADLINE_MS = 30_000
/** The oldest that the tests run on. */
const TESTED = { libvirt: 9, qemu: 7.02 }

type Versions = ReturnType<typeof parseVersions>

/** The same context; `signal` ends its commands. */
const endedBy = (context: Context, signal: AbortSignal): Context => {
  const run: Run = (program, argv, options = {}) => context.run(program, argv, { ...options, signal })
  return { ...context, run, virsh: openVirsh(run, context.settings) }
}

// ── Tools ──

/** A host where libvirt does not answer: what its failure says, or how to end a libvirt that hangs. */
const notConnected = (error: unknown): Diagnosis => {
  const { kind, message, remedy } = failureOf(error, 'connecting to libvirt')
  if (kind !== 'timeout') return problem(message, remedy)
  const daemon = thisSystem().start.includes('virtqemud') ? 'virtqemud' : 'libvirtd'
  return problem(message, `libvirt hangs. Machines keep running while it restarts: sudo systemctl restart ${daemon}`)
}

const checkVersions = ({ settings }: Context, { libvirt, qemu }: Versions): Diagnosis => {
  const text = `this user may use libvirt ${libvirt} with QEMU ${qemu || 'of an unknown version'} at ${settings.kvmUri}`
  const isOld = versionNumber(libvirt) < TESTED.libvirt || (qemu !== '' && versionNumber(qemu) < TESTED.qemu)
  return isOld
    ? warning(
        `${text}, which is older than what is tested: libvirt 9.0, QEMU 7.2`,
        'Use a newer release of this system.',
      )
    : ok(text)
}

/** Where root's programs are, besides PATH. */
const hasProgram = async ({ run }: Context, program: string): Promise<boolean> => {
  const script = 'PATH=$PATH:/usr/sbin:/sbin command -v "$0"'
  const { exitCode } = await run('sh', ['-c', script, program], { answers: [1, 127], deadline: CONNECT_DEADLINE_MS })
  return exitCode === 0
}

const checkQemuImg = async (context: Context): Promise<Diagnosis> =>
  (await hasProgram(context, 'qemu-img'))
    ? ok('qemu-img is installed, which builds base images')
    : warning('qemu-img is not installed: base images cannot be built', thisSystem().install)

// ── Network, pool and room ──

const FORWARDING = '/proc/sys/net/ipv4/ip_forward'
const forwards = (): boolean => !existsSync(FORWARDING) || readFileSync(FORWARDING, 'utf8').trim() !== '0'

const checkNetwork = async (context: Context): Promise<Diagnosis> => {
  const { kvmNetwork, kvmUri } = context.settings
  if (isSession(context.settings)) return ok("machines use QEMU's user network")
  const state = await stateOfNetwork(context)
  if (state === 'active')
    return forwards()
      ? ok(`the network ${kvmNetwork} is active`)
      : warning(
          'this host forwards no packets (net.ipv4.ip_forward is 0), so machines reach no network',
          'sudo sysctl -w net.ipv4.ip_forward=1',
        )
  if (!(await hasProgram(context, 'dnsmasq')))
    return problem(`the network ${kvmNetwork} cannot start: dnsmasq is not installed`, thisSystem().install)
  return state === null
    ? ok(`the network ${kvmNetwork} will be made with the first machine`)
    : warning(`the network ${kvmNetwork} is not active`, `virsh -c ${kvmUri} net-start ${kvmNetwork}`)
}

const checkStorage = async (context: Context): Promise<Diagnosis> => {
  const { kvmPool, kvmUri } = context.settings
  await checkPool(context)
  const state = (await listPools(context)).get(kvmPool)
  if (state === undefined) return ok(`the storage pool ${kvmPool} will be made with the first machine`)
  return state === 'active'
    ? ok(`the storage pool ${kvmPool} is active`)
    : warning(`the storage pool ${kvmPool} is not active`, `virsh -c ${kvmUri} pool-start ${kvmPool}`)
}

const existing = (folder: string): string =>
  existsSync(folder) || dirname(folder) === folder ? folder : existing(dirname(folder))

const checkRoom = async (context: Context): Promise<Diagnosis> => {
  const { virsh, settings } = context
  const { stdout } = await virsh.ask([['nodeinfo'], ['nodememstats'], ...poolCommands(settings)], {
    deadline: DEADLINE_MS,
  })
  const { memoryBytes } = parseNode(stdout)
  const pool = parsePool(stdout)
  if (pool !== null) return roomLeft(pool.folder, pool, memoryBytes)
  const folder = existing(poolFolder(context))
  const { bavail, blocks, bsize } = statfsSync(folder)
  return roomLeft(folder, { available: bavail * bsize, total: blocks * bsize }, memoryBytes)
}

// ── Checkpoints, clock and isolation ──

const hasUefi = async ({ virsh }: Context): Promise<boolean> =>
  /<value>efi<\/value>/.test(await virsh.run(['domcapabilities', '--virttype', 'qemu'], { deadline: DEADLINE_MS }))

const checkSnapshots = async (context: Context, { libvirt }: Versions): Promise<Diagnosis> => {
  if (context.settings.kvmFirmware === 'bios') return ok('checkpoints of machines with a BIOS hold disk and memory')
  const why = whyNoUefi(libvirt)
  if (why !== null) return problem(why, USE_BIOS)
  return (await hasUefi(context))
    ? ok('checkpoints of machines with UEFI hold disk and memory')
    : problem('libvirt knows no UEFI firmware', 'Install OVMF (edk2-ovmf), or use AGENT_SWARM_KVM_FIRMWARE=bios.')
}

/** Only systemd says whether a clock is synchronized. */
const checkClock = async ({ run }: Context): Promise<Diagnosis | null> => {
  const argv = ['show', '--property=NTPSynchronized', '--value']
  const ran = await run('timedatectl', argv, { deadline: CONNECT_DEADLINE_MS }).catch((error: unknown) => {
    if (isFailure(error)) return null
    throw error
  })
  const answer = ran?.stdout.trim()
  if (answer === 'yes') return ok('the clock of this host is synchronized')
  return answer === 'no'
    ? warning(
        'the clock of this host is not synchronized, and machines get their time from it',
        'sudo timedatectl set-ntp true',
      )
    : null
}

const checkIsolation = async (context: Context): Promise<Diagnosis> => {
  const report = await isolationReport(context)
  return report.isolated
    ? ok(`machines are isolated. ${report.note}`)
    : warning(`machines are not isolated: ${report.reason}`, report.remedy)
}

/** `signal` ends it. Without libvirt, only that is reported, and what does not need it. */
export const diagnose = async (given: Context, signal: AbortSignal): Promise<Diagnosis[]> => {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64')
    return [
      problem(
        `it makes x86-64 machines on Linux, and this is ${platform} on ${arch}`,
        'Run the runner on a host with Linux on x86-64.',
      ),
    ]
  const context = endedBy(given, signal)
  const connecting = { deadline: CONNECT_DEADLINE_MS, doing: 'connecting to libvirt' }
  const clock: DiagnosisCheck = ['reading the clock', () => checkClock(context)]
  let versions: Versions
  try {
    versions = parseVersions(await context.virsh.run(['version', '--daemon'], connecting))
  } catch (error) {
    return [notConnected(error), ...(await runDiagnosis([clock]))]
  }
  return [
    checkVersions(context, versions),
    ...(await runDiagnosis([
      ['looking for qemu-img', () => checkQemuImg(context)],
      ['booting a test guest', () => checkAcceleration(context, given, versions.all)],
      ['looking at the network', () => checkNetwork(context)],
      ['looking at the storage pool', () => checkStorage(context)],
      ['looking for room', () => checkRoom(context)],
      ['looking at checkpoints', () => checkSnapshots(context, versions)],
      ['looking at live checkpoints', () => checkLive(context, versions.all)],
      clock,
      ['looking at isolation', () => checkIsolation(context)],
    ])),
  ]
}
