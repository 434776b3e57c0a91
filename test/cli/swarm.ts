/** The CLI as whole processes on synthetic environments, under a temporary HOME of its own. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')

export type Ran = { stdout: string; stderr: string; code: number }
export type Person = ReturnType<typeof person>

export const person = (called = 'state') => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm person-'))
  const state = join(home, called)
  const environment: Record<string, string> = {
    PATH: process.env.PATH ?? '',
    HOME: home,
    AGENT_SWARM_HOME: state,
    AGENT_SWARM_PROVIDER: 'synthetic',
  }
  const run = (
    program: string,
    words: string[],
    more: Record<string, string> = {},
    input: string | null = '',
  ): Promise<Ran> =>
    new Promise((done, fail) => {
      const child = spawn(program, words, { cwd: tmpdir(), env: { ...environment, ...more }, stdio: 'pipe' })
      const ran = { stdout: '', stderr: '' }
      child.stdout.on('data', chunk => (ran.stdout += chunk))
      child.stderr.on('data', chunk => (ran.stderr += chunk))
      child.on('error', fail)
      child.on('close', code => done({ ...ran, code: code ?? 1 }))
      // A program that ends without reading closes its end.
      child.stdin.on('error', () => {})
      if (input !== null) child.stdin.end(input)
    })
  return {
    home,
    state,
    environment,
    run,
    swarm: (...words: string[]) => run(process.execPath, [entry, ...words]),
    swarmWith: (more: Record<string, string>, ...words: string[]) => run(process.execPath, [entry, ...words], more),
    /** Writes to the registry what another machine or an earlier time would have. */
    know: (work: (registry: Registry) => void) => {
      const registry = openRegistry(join(state, 'registry.db'))
      try {
        work(registry)
      } finally {
        registry.close()
      }
    },
    gone: () => rmSync(home, { recursive: true, force: true }),
  }
}
