/**
 * Tries what providers promise, and puts the transcripts into docs/proven/, which `agent-swarm providers` reads:
 *   npm run proven                  synthetic here, and kvm on the real libvirt of test/kvm/run.sh (root)
 *   npm run proven -- synthetic     one of them
 * A transcript of another host goes there as it is: docs/proven/tart.txt.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseTranscript } from '../src/selftest/proven.ts'

const root = resolve(import.meta.dirname, '..')
const shipped = join(root, 'docs/proven')
const IMAGE = ['init-base', '--from', 'debian-packages', '--profile', 'minimal']

const run = (program: string, argv: readonly string[], env: NodeJS.ProcessEnv): void => {
  const { status, error } = spawnSync(program, argv, { env, stdio: ['ignore', 'inherit', 'inherit'], cwd: root })
  if (status !== 0) throw error ?? new Error(`${program} ${argv.join(' ')} ended with ${status}`)
}
const swarm = (words: readonly string[], env: NodeJS.ProcessEnv): void =>
  run(process.execPath, [join(root, 'bin/agent-swarm.js'), ...words], env)

/** Runs the selftest in this home, and keeps its transcript when no promise was broken. */
const prove = (provider: string, home: string): void => {
  const env = { ...process.env, AGENT_SWARM_HOME: home, AGENT_SWARM_PROVIDER: provider }
  swarm(['doctor', '--selftest'], env)
  const name = readdirSync(join(home, 'proven')).sort().at(-1) ?? ''
  const text = readFileSync(join(home, 'proven', name), 'utf8')
  if (parseTranscript(text)?.provider !== provider) throw new Error(`${name} proves nothing`)
  mkdirSync(shipped, { recursive: true })
  writeFileSync(join(shipped, `${provider}.txt`), text)
}

const proveSynthetic = (): void => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-proven-'))
  try {
    prove('synthetic', home)
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

/** run.sh gives its own home, whose libvirt may have the base image from an earlier run. */
const proveKvm = (): void => {
  const home = process.env.AGENT_SWARM_HOME
  if (process.env.AGENT_SWARM_TEST_HOME === undefined || home === undefined) {
    run('bash', ['test/kvm/run.sh', '--run', process.execPath, 'scripts/proven.ts', 'kvm'], process.env)
    return
  }
  const argv = [join(root, 'bin/agent-swarm.js'), 'init-base', '--list', '--json']
  const { stdout } = spawnSync(process.execPath, argv, { encoding: 'utf8' })
  if (!stdout.includes('"agent-swarm-base"')) swarm(IMAGE, process.env)
  prove('kvm', home)
}

const ways: Readonly<Record<string, () => void>> = { synthetic: proveSynthetic, kvm: proveKvm }
const [, , ...names] = process.argv
for (const name of names.length === 0 ? Object.keys(ways) : names) {
  const way = ways[name]
  if (way === undefined)
    throw new Error(`${name} is proven on a host of its own: agent-swarm doctor --selftest --provider ${name}`)
  way()
}
