/** The CLI as a whole process on real libvirt, the base image, and the machines that most tests begin with. */
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Provider } from '../../providers/provider.ts'
import { readConfig } from '../../src/config/config.ts'
import { openRunnerContext } from '../../src/runner/context.ts'

export const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
/** Its name must be quoted wherever ssh and virsh get it. */
export const home = process.env.AGENT_SWARM_TEST_HOME ?? ''
if (home === '') throw new Error('These tests need a libvirt of their own: npm run test:kvm')
export const BASE = 'agent-swarm-base'
/** How many seconds and gigabytes the tests take depends on these. */
const SIZE = { AGENT_SWARM_MEMORY_MIB: '1024', AGENT_SWARM_DISK_GIB: '8' }

export type Ran = { stdout: string; stderr: string; code: number }
export const program = (
  file: string,
  words: readonly string[],
  environment: Record<string, string | undefined> = {},
): Promise<Ran> =>
  new Promise(resolve => {
    execFile(
      file,
      words,
      { env: { ...process.env, LC_ALL: 'C', ...environment }, maxBuffer: 16 * 1024 * 1024 },
      (error, stdout, stderr) =>
        resolve({ stdout, stderr, code: error === null ? 0 : ((error.code as unknown as number) ?? 1) }),
    )
  })
export const virsh = async (...words: string[]) => (await program('virsh', ['-q', ...words])).stdout.trim()

const settings = { AGENT_SWARM_HOME: home, AGENT_SWARM_PROVIDER: 'kvm', ...SIZE }
export const swarmEnvironment: Record<string, string | undefined> = { ...process.env, LC_ALL: 'C', ...settings }
export const swarmWith = (environment: Record<string, string | undefined>, ...words: string[]) =>
  program(process.execPath, [entry, ...words], { ...settings, ...environment })
export const swarm = (...words: string[]) => swarmWith({}, ...words)

/** The output of a command that must succeed. */
export const succeed = async (ran: Promise<Ran>): Promise<string> => {
  const { stdout, stderr, code } = await ran
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`)
  return stdout.trim()
}
/** Runs a shell command in the ticket's machine. */
export const inside = (ticket: string, command: string) => succeed(swarm('ssh', ticket, '--', command))

type Listed = {
  ticket: string
  vmId: string
  ip: string | null
  status: string
  diskBytes: number
  ssh: { host: string } | null
  checkpoints: string[]
}
export const list = async (): Promise<Listed[]> => JSON.parse(await succeed(swarm('list', '--json')))
export const listed = async (ticket: string): Promise<Listed> => {
  const row = (await list()).find(each => each.ticket === ticket)
  if (row === undefined) throw new Error(`${ticket} has no machine`)
  return row
}

/** A pool that cannot be read is not an empty pool. */
export const volumes = async (): Promise<string[]> => {
  const ran = await program('virsh', ['-q', 'vol-list', 'agent-swarm'])
  if (ran.code !== 0 && !ran.stderr.includes('Storage pool not found')) throw new Error(ran.stderr)
  return ran.stdout.split('\n').flatMap(line => line.trim().split(/\s+/)[0] || [])
}

/** The provider itself, as a runner opens it: a command would do more than is asked here. */
export const withProvider = async <T>(work: (provider: Provider) => Promise<T>): Promise<T> => {
  const context = openRunnerContext(await readConfig({}, swarmEnvironment))
  try {
    return await work(await context.provider('kvm'))
  } finally {
    context.close()
  }
}

/** Makes a stopped machine one of an earlier version: its checkpoints are snapshots inside its disk. */
export const makeOlder = async (vmId: string): Promise<void> => {
  const mark = (await virsh('metadata', vmId, 'urn:agent-swarm:1')).replace(/ checkpoints=["'][^"']*["']/, '')
  await succeed(
    program('virsh', ['-q', 'metadata', vmId, 'urn:agent-swarm:1', '--key', 'as', '--set', mark, '--config']),
  )
}

/** Everything that a test must leave as it was: libvirt's machines and volumes, and our environments. */
export const everything = async () => ({
  domains: (await virsh('list', '--all', '--name')).split('\n').sort(),
  volumes: (await volumes()).sort(),
  environments: (await list()).map(({ ticket, vmId, status }) => ({ ticket, vmId, status })),
})

/** Builds the base image as a person would, unless the pool has it. mmdebstrap takes no path with a space. */
export const ensureBase = async (): Promise<void> => {
  mkdirSync(home, { recursive: true, mode: 0o700 })
  if ((await volumes()).includes(`${BASE}.manifest.json`)) return
  const environment = { AGENT_SWARM_HOME: join(dirname(home), 'build') }
  await succeed(swarmWith(environment, 'init-base', '--from', 'debian-packages', '--profile', 'minimal'))
}

export const [FIRST, SECOND] = ['KEEP-1', 'KEEP-2'] as const
const FRESH = 'fresh'

/**
 * The machines of these tickets as they were after their first boot. They are created once for all test files, since a boot
 * takes most of a test's time; later each is restored, with its memory, from a checkpoint.
 */
export const ensureMachines = async (...tickets: string[]): Promise<void> => {
  await ensureBase()
  const existing = new Map((await list()).map(row => [row.ticket, row]))
  await Promise.all(
    tickets.map(async ticket => {
      if (existing.get(ticket)?.checkpoints.includes(FRESH)) await succeed(swarm('restore', ticket, FRESH))
      else {
        await succeed(swarm('create', ticket))
        await succeed(swarm('checkpoint', ticket, FRESH))
      }
    }),
  )
}
