/** A round of the crash matrix on real libvirt: a command dies, or libvirt or a machine under it; the same command again; what is left. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { layersIn, layerVolume, memoryVolume } from '../../providers/kvm/layers.ts'
import type { Point, When } from '../crash/points.ts'
import { openMatrix } from '../crash/rounds.ts'
import { until } from '../support/wait.ts'
import { entry, everything, inside, listed, program, type Ran, succeed, swarm, swarmEnvironment, virsh } from './cli.ts'
import { poolMachines } from './ready.ts'

/** Of each command, chosen by the seed: a round takes more than a minute. */
const POINTS = 8
/** For tests that play rounds. */
export const PATIENT = { timeout: 2 * 3_600_000 }
export const POOL = '/var/lib/libvirt/agent-swarm'
const PRELOAD = resolve(import.meta.dirname, '../crash/preload.ts')

/** Runs agent-swarm, which counts its steps and dies at one. */
const watched = (more: Record<string, string>, words: readonly string[]) =>
  program(process.execPath, words, { ...swarmEnvironment, NODE_OPTIONS: `--import=${PRELOAD}`, ...more })

const record = async (words: readonly string[]): Promise<Point[]> => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-crash-log-'))
  const file = join(folder, 'points')
  try {
    await succeed(watched({ CRASH_LOG: file }, words))
    const lines = readFileSync(file, 'utf8').trim().split('\n')
    return lines.map(line => {
      const [when = '', ...name] = line.split(' ')
      return { when: when as When, name: name.join(' ') }
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Of those that may die in a round: the command itself, libvirt, and a machine. */
const VICTIMS = ['command', 'libvirtd', 'QEMU'] as const
type Victim = (typeof VICTIMS)[number]
const pidOf = async (victim: Victim, vmId: string): Promise<string | undefined> => {
  if (victim === 'command') return undefined
  if (victim === 'libvirtd') return readFileSync('/run/libvirt/libvirtd.pid', 'utf8').trim()
  return (await program('pgrep', ['-f', `qemu.*guest=${vmId}[,]`])).stdout.split('\n')[0] || undefined
}
const answers = async () => (await program('virsh', ['-q', 'list'])).code === 0

/** A killed libvirtd is started again, as systemd would. */
const settle = async (victim: Victim): Promise<void> => {
  if (victim === 'command') return
  if (victim === 'libvirtd' && !(await answers())) {
    rmSync('/run/libvirt/libvirtd.pid', { force: true })
    await succeed(program('libvirtd', ['-d', '-p', '/run/libvirt/libvirtd.pid']))
    await until('libvirt to answer', answers, { within: 60_000 })
  }
  await succeed(swarm('reconcile'))
}

const diskOf = async (vmId: string): Promise<string> =>
  (await virsh('domblklist', vmId, '--inactive')).match(/vda\s+(\S+)/)?.[1] ?? ''
const chainOf = (path: string): string[] =>
  JSON.parse(
    execFileSync('qemu-img', ['info', '-U', '--output=json', '--backing-chain', path], { encoding: 'utf8' }),
  ).map(({ filename }: { filename: string }) => basename(filename))

/** What nothing needs: machines and files that no row knows, layers that no disk stands on, memories without a checkpoint. */
const leftOver = async (before: Awaited<ReturnType<typeof everything>>): Promise<string[]> => {
  const after = await everything()
  const known = new Set([...after.environments, ...(await poolMachines())].map(({ vmId }) => vmId))
  const frozen = [...known].flatMap(vmId =>
    layersIn(after.volumes, vmId).checkpoints.map(({ layer }) => ({ vmId, layer })),
  )
  const memories = frozen.map(({ vmId, layer }) => memoryVolume(vmId, layer))
  const tops = [
    // One that is lost has none.
    ...(await Promise.all([...known].map(diskOf))).filter(disk => disk !== ''),
    ...frozen.map(({ vmId, layer }) => join(POOL, layerVolume(vmId, layer))),
  ]
  const needed = new Set([...memories, ...tops.flatMap(chainOf)])
  const isLeft = (name: string): boolean => {
    const [vmId = ''] = name.split('.')
    const { disks, memories: saved } = layersIn(after.volumes, vmId)
    const isLayer =
      disks.some(layer => layerVolume(vmId, layer) === name) || saved.some(layer => memoryVolume(vmId, layer) === name)
    if (isLayer) return !needed.has(name)
    return !known.has(vmId) && !before.volumes.includes(name)
  }
  return [
    ...after.volumes.filter(isLeft),
    ...after.domains.filter(name => !known.has(name) && !before.domains.includes(name)),
  ].map(name => `${name} is left over`)
}

/** What is wrong with this home; with the ticket's machine when it is to be in this state, too. */
export const problemsOf = async (
  before: Awaited<ReturnType<typeof everything>>,
  ticket: string,
  state: 'running' | 'shut off',
): Promise<string[]> => {
  const { vmId } = await listed(ticket)
  const now = await virsh('domstate', vmId)
  const plan: unknown[] = JSON.parse(await succeed(swarm('reconcile', '--dry-run', '--json')))
  return [
    ...(now === state ? [] : [`${ticket} is ${now}, not ${state}`]),
    ...plan.map(finding => `reconcile: ${JSON.stringify(finding)}`),
    ...(await leftOver(before)),
    ...(now === 'running' && (await inside(ticket, 'hostname')) === '' ? [`${ticket} does not answer`] : []),
  ]
}

export type Rounds = {
  name: string
  /** Before each round; the machine that may die in it, by its vmId. */
  prepare: () => Promise<string>
  /** What Node runs, `at` a step that tells rounds apart. */
  words: (at: number) => readonly string[]
  /** Whether the same again says that it was done. By default: its exit code. */
  wasDone?: (again: Ran) => boolean
  problems: () => Promise<string[]>
}
/** The words of a command of agent-swarm. */
export const ours = (...words: string[]) => [entry, ...words]

/** Returns what was wrong. */
export const play = async ({ name, prepare, words, wasDone, problems }: Rounds): Promise<string[]> => {
  await prepare()
  const matrix = openMatrix(`libvirt: ${name}`, await record(words(-1)))
  for (const { at, sample } of matrix.rounds({ all: 1, some: 1, points: POINTS, isSample: true })) {
    const vmId = await prepare()
    const victim = VICTIMS[sample.next(VICTIMS.length)] ?? 'command'
    const pid = await pidOf(victim, vmId)
    const late: Record<string, string> = sample.next(2) === 0 ? {} : { CRASH_AFTER_US: String(sample.next(200_000)) }
    await watched({ CRASH_AT: String(at), ...late, ...(pid === undefined ? {} : { CRASH_PID: pid }) }, words(at))
    await settle(victim)
    const again = await program(process.execPath, words(at), swarmEnvironment)
    const isDone = again.code === 0 || wasDone?.(again) === true
    const found = isDone ? await problems() : [`the command again: ${again.stderr}`]
    matrix.played(
      at,
      found.map(problem => `${victim}: ${problem}`),
    )
  }
  return matrix.end()
}
