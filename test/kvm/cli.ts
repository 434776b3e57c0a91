/** The CLI as a whole process on real libvirt, and the base image that every test here stands on. */
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
export const home = process.env.AGENT_SWARM_TEST_HOME ?? '/var/tmp/agent-swarm-kvm-home'
export const BASE = 'agent-swarm-base'

export type Ran = { stdout: string; stderr: string; code: number }
export const program = (file: string, words: string[], environment: Record<string, string> = {}): Promise<Ran> =>
  new Promise(done => {
    execFile(
      file,
      words,
      { env: { ...process.env, LC_ALL: 'C', ...environment }, maxBuffer: 16 * 1024 * 1024 },
      (error, stdout, stderr) =>
        done({ stdout, stderr, code: error === null ? 0 : ((error.code as unknown as number) ?? 1) }),
    )
  })
export const virsh = async (...words: string[]) => (await program('virsh', ['-q', ...words])).stdout.trim()
/** Nothing that is missing is taken for nothing that is there. */
const volumes = async () => {
  const ran = await program('virsh', ['-q', 'vol-list', 'agent-swarm'])
  if (ran.code !== 0 && !ran.stderr.includes('Storage pool not found')) throw new Error(ran.stderr)
  return ran.stdout
}
const settings = {
  AGENT_SWARM_HOME: home,
  AGENT_SWARM_PROVIDER: 'kvm',
  AGENT_SWARM_MEMORY_MIB: '1024',
  AGENT_SWARM_DISK_GIB: '8',
}
export const swarm = (...words: string[]) => program(process.execPath, [entry, ...words], settings)
export const swarmEnvironment = { ...process.env, LC_ALL: 'C', ...settings }
export { entry }

/** What must be the same after every test as before: all of libvirt, and our registry. */
export const everything = async () => ({
  domains: (await virsh('list', '--all', '--name')).split('\n').sort(),
  volumes: (await volumes())
    .trim()
    .split('\n')
    .map(line => line.trim().split(/\s+/)[0])
    .sort(),
  environments: JSON.parse((await swarm('list', '--json')).stdout),
})

/** Makes the base image as a person would, unless this place has it. */
export const ensureBase = async (): Promise<void> => {
  mkdirSync(home, { recursive: true, mode: 0o700 })
  if ((await volumes()).includes(`${BASE}.manifest.json`)) return
  const ran = await swarm('init-base', '--from', 'debian-packages')
  if (ran.code !== 0) throw new Error(`no base image: ${ran.stderr}`)
}
