/** What the rows share: medians, timed processes, homes. */
import { spawn, spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

export const entry = resolve(import.meta.dirname, '../bin/agent-swarm.js')

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

export const withHome = async <T>(work: (home: string) => Promise<T>): Promise<T> => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-bench-'))
  try {
    return await work(home)
  } finally {
    // A process that was just killed may still be writing there.
    rmSync(home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }
}

/** Whether a libvirt with this base image answers on this host. */
export const hasLibvirt = (image = 'agent-swarm-base'): boolean =>
  spawnSync('virsh', ['-q', 'vol-info', '--pool', 'agent-swarm', `${image}.qcow2`], { stdio: 'ignore' }).status === 0

export type Finished = { milliseconds: number; stdout: string; stderr: string; code: number }
export const finish = (
  file: string,
  words: readonly string[],
  environment: Record<string, string | undefined> = process.env,
): Promise<Finished> =>
  new Promise(done => {
    const startedAt = performance.now()
    const child = spawn(file, words, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', chunk => {
      stdout += chunk
    })
    child.stderr.on('data', chunk => {
      stderr += chunk
    })
    child.on('close', code => done({ milliseconds: performance.now() - startedAt, stdout, stderr, code: code ?? 1 }))
  })

/** The same, with the processor time of the program and of all that it started and waited for, in milliseconds. Needs bash. */
export const finishMeasured = async (
  file: string,
  words: readonly string[],
  environment: Record<string, string | undefined> = process.env,
): Promise<Finished & { processorMs: number }> => {
  const timed = ['-c', 'TIMEFORMAT="cpu %U %S"; time "$@"', 'bash', file, ...words]
  const ran = await finish('bash', timed, { ...environment, LC_ALL: 'C' })
  const [, user = '', system = ''] = ran.stderr.match(/^cpu ([\d.]+) ([\d.]+)$/m) ?? []
  return { ...ran, processorMs: Math.round((Number(user) + Number(system)) * 1000) }
}

/** Of an App that does not exist. */
export const privateKey = (): string =>
  generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'pkcs1', format: 'pem' },
  }).privateKey

/** Resident memory of a process, in MiB. Linux only. */
export const resident = (pid: number | undefined): number => {
  const kib = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+)/m)?.[1]
  return Math.round(Number(kib) / 1024)
}

/** https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: ticks of a hundredth of a second. */
const TICKS = 100
/** Processor time of a process so far, of all its threads. Linux only. */
export const processorSeconds = (pid: number | undefined): number => {
  const [, stat = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  const [user, system] = stat.split(' ').slice(11, 13).map(Number)
  return ((user ?? 0) + (system ?? 0)) / TICKS
}

/** The environment of a bot with both sides configured. Nothing listens at their addresses. */
export const botEnvironment = (home: string, privateKey: string): Record<string, string | undefined> => ({
  PATH: process.env.PATH,
  HOME: home,
  AGENT_SWARM_HOME: join(home, 'state'),
  AGENT_SWARM_PROVIDER: 'synthetic',
  AGENT_SWARM_RUNNER_TOKEN: 'bench-token-of-16-characters',
  LOG_LEVEL: 'warn',
  PORT: '0',
  APP_ID: '7',
  PRIVATE_KEY: privateKey,
  WEBHOOK_SECRET: 'bench-secret-of-16-characters',
  GITHUB_API_URL: 'http://127.0.0.1:9',
  // As the recorded deliveries name it.
  GITHUB_REPOSITORIES: 'Codertocat/Hello-World',
  JIRA_HOST: 'http://127.0.0.1:9',
  JIRA_EMAIL: 'bench@example.org',
  JIRA_API_TOKEN: 'bench',
  JIRA_PROJECTS: 'BENCH',
  JIRA_WEBHOOK_SECRET: 'bench-secret-of-16-characters',
})
