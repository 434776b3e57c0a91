/** (r) What one look of the reconciler costs: questions to the hypervisor, and time, with 10, 100 and 1,000 environments. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { homeId } from '../src/config/home.ts'
import { openRunnerContext } from '../src/runner/context.ts'
import { reconcile } from '../src/runner/reconciler/reconcile.ts'
import { configFor } from '../test/support/context.ts'
import type { Row } from './main.ts'
import { median, withHome } from './measure.ts'

const SIZES = [10, 100, 1_000]
const LOOKS = 9

/** Milliseconds and questions of one look at so many environments that are as they should be. */
const look = (count: number): Promise<{ milliseconds: number; calls: number }> =>
  withHome(async home => {
    const context = openRunnerContext(await configFor(home))
    const marks = join(home, 'synthetic-state')
    mkdirSync(marks)
    const id = await homeId(home)
    for (let n = 1; n <= count; n += 1) {
      const [ticket, vmId] = [`DROP-${n}`, `as-drop-${n}-00000001`]
      writeFileSync(join(marks, `${vmId}.${ticket}.${id}.running`), '')
      for (const folder of ['disk', 'checkpoints'])
        mkdirSync(join(home, 'synthetic', vmId, folder), { recursive: true, mode: 0o700 })
      context.registry.adopt({ ticket, provider: 'synthetic', vmId, baseImage: 'base', status: 'running' })
    }
    let calls = 0
    const { provider } = context
    context.provider = async name =>
      new Proxy(await provider(name), {
        get: (target, member) => {
          const value = Reflect.get(target, member)
          if (typeof value !== 'function') return value
          return (...values: unknown[]) => {
            calls += 1
            return value(...values)
          }
        },
      })
    const times: number[] = []
    for (let n = 0; n < LOOKS; n += 1) {
      calls = 0
      const began = performance.now()
      const { findings } = await reconcile(context, { dryRun: false, signal: new AbortController().signal })
      times.push(performance.now() - began)
      if (findings.length > 0) throw new Error(`the reconciler found ${JSON.stringify(findings[0])}`)
    }
    context.close()
    return { milliseconds: median(times), calls }
  })

export const reconciling = async (): Promise<Row[]> => {
  const results: { count: number; milliseconds: number; calls: number }[] = []
  for (const count of SIZES) results.push({ count, ...(await look(count)) })
  const isConstant = new Set(results.map(({ calls }) => calls)).size === 1
  return results.map(({ count, milliseconds, calls }) => ({
    row: 'r',
    what: `reconcile of ${count} environments: questions to the hypervisor; time`,
    measured: `${calls}; ${milliseconds.toFixed(1)} ms`,
    target: 'as many questions with each number',
    ok: isConstant,
  }))
}
