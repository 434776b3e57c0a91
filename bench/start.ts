/** (b) How long the short commands take, against Node that does nothing. */
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
        hostKey: null,
        operation,
      })
      registry.setStatus(ticket, 'running')
      writeFileSync(join(state, 'synthetic-state', `${vmId}.${ticket}.running`), '')
    }
    registry.close()
    const environment = { PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: state }
    const run = async (...words: string[]) => {
      const ran = await finish(process.execPath, words, environment)
      if (ran.code !== 0) throw new Error(ran.stderr)
      return ran
    }
    // Once each, so that the compile cache is what it is for everybody but the first.
    if (!(await run(entry, 'list')).stdout.includes('BENCH-1000')) throw new Error('list does not list')
    await run(entry, '--version')
    const times = { node: [] as number[], version: [] as number[], list: [] as number[] }
    for (let round = 0; round < ROUNDS; round += 1) {
      times.node.push((await run('-e', '0')).milliseconds)
      times.version.push((await run(entry, '--version')).milliseconds)
      times.list.push((await run(entry, 'list')).milliseconds)
    }
    const base = median(times.node)
    const row = (what: string, values: number[], target: number): Row => ({
      row: 'b',
      what,
      measured: `${(median(values) / base).toFixed(2)} (${Math.round(median(values))} / ${Math.round(base)} ms)`,
      target: `<= ${target}`,
      ok: median(values) / base <= target,
    })
    return [
      row(`--version / node -e 0, medians of ${ROUNDS} alternating`, times.version, 1.5),
      row(`list with ${ENVIRONMENTS} environments / node -e 0`, times.list, 2),
    ]
  })
