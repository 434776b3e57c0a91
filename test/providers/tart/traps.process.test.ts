/**
 * Each trap of Tart has a row: what Tart does, and a test that springs it. The stand-in notes what was sprung; the last test finds a
 * trap without a row, and a row without a trap.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { some } from '../../support/samples.ts'
import { openTartBench } from '../../support/tart/bench.ts'
import { inLife, lived } from './traps/life.ts'
import { network } from './traps/network.ts'
import { runs } from './traps/runs.ts'
import { storage } from './traps/storage.ts'

const rows = [...network, ...runs, ...storage]

describe('traps of Tart', () => {
  beforeAll(async () => {
    const bench = openTartBench()
    await lived(bench)
    for (const trap of bench.mac.sprung()) inLife.add(trap)
    bench.close()
  })

  test.for(some(rows, 2).map(row => [row.trap, row.says, row] as const))('%s: %s', async ([trap, , { spring }]) => {
    const bench = openTartBench()
    onTestFinished(bench.close)
    await spring(bench)
    expect(bench.mac.sprung()).toContain(trap)
  })

  test('every trap of the stand-in has a row, and every row a trap', () => {
    const folder = join(import.meta.dirname, '../../support/tart')
    const sources = readdirSync(folder)
      .filter(file => file.endsWith('.ts'))
      .map(file => readFileSync(join(folder, file), 'utf8'))
    const traps = sources.flatMap(text => [...text.matchAll(/\bspring\('([^']+)'\)/g)].map(([, trap]) => trap))
    expect(rows.map(({ trap }) => trap).sort()).toEqual([...new Set(traps)].sort())
  })
})
