/** (b) The time of short commands, compared with Node that does nothing. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openRegistry } from '../src/registry/registry.ts'
import type { Row } from './main.ts'
import { entry, finish, median, withHome } from './measure.ts'

const ROUNDS = 20
const ENVIRONMENTS = 1_000

export const start = (): Promise<Row[]> =>
  withHome(async home => {
    const state = join(home, 'state')
    const registry = openRegistry(join(state, 'registry.db'))
    const operation = registry.startOperation({
      actionId: null,
      correlation: null,
      ticket: 'BENCH-1',
      kind: 'create',
      by: { via: 'cli', who: null },
      at: '',
    })
    mkdirSync(join(state, 'synthetic-state'), { recursive: true })
    for (let n = 1; n <= ENVIRONMENTS; n += 1) {
      const ticket = `BENCH-${n}`
      const vmId = `as-bench-${n}-${n.toString(16).padStart(8, '0')}`
      registry.begin({
        ticket,
        provider: 'synthetic',
        vmId,
        baseImage: 'base',
        by: { via: 'cli', who: null },
        operation,
      })
      registry.setStatus(ticket, 'running')
      writeFileSync(join(state, 'synthetic-state', `${vmId}.${ticket}.running`), '')
    }
    registry.close()
    mkdirSync(join(state, 'synthetic', 'as-bench-1-00000001', 'checkpoints'), { recursive: true })
    const environment = {
      PATH: process.env.PATH,
      HOME: home,
      AGENT_SWARM_HOME: state,
      AGENT_SWARM_PROVIDER: 'synthetic',
    }
    const run = async (...words: string[]) => {
      const ran = await finish(process.execPath, words, environment)
      if (ran.code !== 0) throw new Error(ran.stderr)
      return ran
    }
    const calls: Record<string, string[]> = {
      node: ['-e', '0'],
      version: [entry, '--version'],
      help: [entry, '--help'],
      list: [entry, 'list'],
      checkpoints: [entry, 'checkpoints', 'BENCH-1'],
      status: [entry, 'status', 'BENCH-1'],
    }
    // Once each, to fill the compile cache.
    for (const words of Object.values(calls)) await run(...words)
    if (!(await run(entry, 'list')).stdout.includes('BENCH-1000'))
      throw new Error('list does not show every environment')
    const times = new Map(Object.keys(calls).map(name => [name, [] as number[]]))
    for (let round = 0; round < ROUNDS; round += 1)
      for (const [name, words] of Object.entries(calls)) times.get(name)?.push((await run(...words)).milliseconds)
    const of = (name: string) => median(times.get(name) ?? [])
    const row = (name: string, what: string, target: number | null): Row => ({
      row: 'b',
      what: `${what} / node -e 0`,
      measured: `${(of(name) / of('node')).toFixed(2)} (${Math.round(of(name))} / ${Math.round(of('node'))} ms)`,
      target: target === null ? '' : `<= ${target}`,
      ok: target === null ? null : of(name) / of('node') <= target,
    })
    return [
      row('version', `--version, medians of ${ROUNDS} alternating,`, 1.5),
      row('list', `list with ${ENVIRONMENTS} environments`, 2),
      row('help', '--help', null),
      row('checkpoints', `checkpoints of one of ${ENVIRONMENTS}`, null),
      row('status', `status of one of ${ENVIRONMENTS}`, null),
    ]
  })
