/**
 * The crash matrix on real libvirt, in long runs: at a commit or a command of virsh of a command on a running machine, the command,
 * libvirtd or the machine's QEMU is killed (-9). What virsh had begun goes on. The same command again, and the machine is as asked,
 * with nothing left over.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { layersIn, layerVolume, memoryVolume } from '../../providers/kvm/layers.ts'
import type { Point, When } from '../crash/points.ts'
import { openMatrix } from '../crash/rounds.ts'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import {
  ensureMachines,
  everything,
  FIRST,
  inside,
  list,
  listed,
  program,
  succeed,
  swarm,
  swarmWith,
  virsh,
} from './cli.ts'

const preload = resolve(import.meta.dirname, '../crash/preload.ts')
const watched = (more: Record<string, string>, words: readonly string[]) =>
  swarmWith({ NODE_OPTIONS: `--import=${preload}`, ...more }, ...words)
const SAVED = 'crash'

let before: Awaited<ReturnType<typeof everything>>
let log: string
beforeAll(async () => {
  if (!isLong) return
  await ensureMachines(FIRST)
  await inside(FIRST, 'echo saved >state; sync')
  await succeed(swarm('checkpoint', FIRST, SAVED))
  before = await everything()
  log = mkdtempSync(join(tmpdir(), 'agent-swarm-crash-log-'))
})
afterAll(async () => {
  if (!isLong) return
  rmSync(log, { recursive: true, force: true })
  await swarm('start', FIRST)
  const { checkpoints } = await listed(FIRST)
  for (const name of checkpoints.filter(each => /^(crash|pre-restore-)/.test(each)))
    await succeed(swarm('checkpoint', FIRST, '--delete', name))
})

const record = async (words: readonly string[]): Promise<Point[]> => {
  const file = join(log, 'points')
  await succeed(watched({ CRASH_LOG: file }, words))
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  rmSync(file)
  return lines.map(line => {
    const [when = '', ...name] = line.split(' ')
    return { when: when as When, name: name.join(' ') }
  })
}

/** Each begins with the saved machine running. */
const commands = [
  ['restore', ['restore', FIRST, SAVED], 'running'],
  ['stop', ['stop', FIRST], 'shut off'],
  // Each time another name: a checkpoint stays.
  ['checkpoint', ['checkpoint', FIRST], 'running'],
  ['fork', ['fork', FIRST], 'running'],
] as const
/** Of each command, chosen by the seed: a round takes more than a minute. */
const POINTS = 8

/** Of those that may die in a round: the command itself, libvirt, and the machine. */
const pidOf = {
  command: async () => undefined,
  libvirtd: async () => readFileSync('/run/libvirt/libvirtd.pid', 'utf8').trim(),
  QEMU: async (vmId: string) => (await succeed(program('pgrep', ['-f', `qemu.*guest=${vmId}[,]`]))).split('\n')[0],
}
const victims = Object.keys(pidOf) as (keyof typeof pidOf)[]
const answers = async () => (await program('virsh', ['-q', 'list'])).code === 0

/** A killed libvirtd is started again, as systemd would. */
const settle = async (victim: keyof typeof pidOf): Promise<void> => {
  if (victim === 'command') return
  if (victim === 'libvirtd' && !(await answers())) {
    rmSync('/run/libvirt/libvirtd.pid', { force: true })
    await succeed(program('libvirtd', ['-d', '-p', '/run/libvirt/libvirtd.pid']))
    await until('libvirt to answer', answers, { within: 60_000 })
  }
  await succeed(swarm('reconcile'))
}

/** Made by rounds of `fork`. */
const deleteAttempts = async (): Promise<void> => {
  for (const { ticket } of await list())
    if (ticket.startsWith(`${FIRST}~`)) await succeed(swarm('delete', ticket, '--force'))
}

const POOL = '/var/lib/libvirt/agent-swarm'
const chainOf = (path: string): string[] =>
  JSON.parse(
    execFileSync('qemu-img', ['info', '-U', '--output=json', '--backing-chain', path], { encoding: 'utf8' }),
  ).map(({ filename }: { filename: string }) => basename(filename))

/** What nothing needs: beside the machine, what was not there before; of the machine, layers and memories without a checkpoint. */
const leftOver = (vmId: string, after: typeof before, disk: string): string[] => {
  const isOurs = (name: string) => name.startsWith(`${vmId}.`)
  const { disks, memories, checkpoints } = layersIn(after.volumes, vmId)
  const frozen = checkpoints.map(({ layer }) => layer)
  const needed = new Set([disk, ...frozen.map(layer => join(POOL, layerVolume(vmId, layer)))].flatMap(chainOf))
  return [
    ...after.volumes.filter(name => !isOurs(name) && !before.volumes.includes(name)),
    ...after.domains.filter(name => !before.domains.includes(name)),
    ...disks.map(layer => layerVolume(vmId, layer)).filter(name => !needed.has(name)),
    ...memories.filter(layer => !frozen.includes(layer)).map(layer => memoryVolume(vmId, layer)),
  ].map(name => `${name} is left over`)
}

const problemsOf = async (state: string): Promise<string[]> => {
  const { vmId } = await listed(FIRST)
  const now = await virsh('domstate', vmId)
  const after = await everything()
  const plan: unknown[] = JSON.parse(await succeed(swarm('reconcile', '--dry-run', '--json')))
  return [
    ...(now === state ? [] : [`it is ${now}, not ${state}`]),
    ...plan.map(finding => `reconcile: ${JSON.stringify(finding)}`),
    ...leftOver(vmId, after, (await virsh('domblklist', vmId, '--inactive')).match(/vda\s+(\S+)/)?.[1] ?? ''),
    ...(state === 'running' && (await inside(FIRST, 'cat state')) !== 'saved' ? ['it has another state'] : []),
  ]
}

test.skipIf(!isLong).for(commands)('%s', async ([name, given, state]) => {
  const back = () => succeed(swarm('restore', FIRST, SAVED))
  const wordsFor = (at: number) => (name === 'checkpoint' ? [...given, `${SAVED}-${at + 1}`] : given)
  await back()
  const points = await record(wordsFor(-1))
  const matrix = openMatrix(`libvirt: ${name}`, points)
  for (const { at, sample } of matrix.rounds({ all: 1, some: 1, points: POINTS, isSample: true })) {
    await back()
    const words = wordsFor(at)
    const victim = victims[sample.next(victims.length)] ?? 'command'
    const pid = await pidOf[victim]((await listed(FIRST)).vmId)
    const late: Record<string, string> = sample.next(2) === 0 ? {} : { CRASH_AFTER_US: String(sample.next(200_000)) }
    await watched({ CRASH_AT: String(at), ...late, ...(pid === undefined ? {} : { CRASH_PID: pid }) }, words)
    await settle(victim)
    const again = await swarm(...words)
    const isDone = again.code === 0 || again.stderr.includes('already has a checkpoint')
    await deleteAttempts()
    const problems = isDone ? await problemsOf(state) : [`the command again: ${again.stderr}`]
    matrix.played(
      at,
      problems.map(problem => `${victim}: ${problem}`),
    )
  }
  expect(matrix.end()).toEqual([])
})
