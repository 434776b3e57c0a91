/** Ready machines of the tests' home. As a program, it makes those that are missing: `node test/kvm/ready.ts`. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readConfig } from '../../src/config/config.ts'
import type { PoolMachine } from '../../src/registry/registry.ts'
import { openRunnerContext, type RunnerContext } from '../../src/runner/context.ts'
import { openTestFiller } from '../support/pools.ts'
import { home, swarmEnvironment } from './cli.ts'

const inContext = async <T>(work: (context: RunnerContext) => T | Promise<T>): Promise<T> => {
  const context = openRunnerContext(await readConfig({}, swarmEnvironment))
  try {
    return await work(context)
  } finally {
    context.close()
  }
}

export const setPools = (...pools: string[]): void =>
  writeFileSync(
    join(home, 'config.yaml'),
    pools.length === 0 ? '' : `pool:\n${pools.map(pool => `  - ${pool}\n`).join('')}`,
  )
export const poolMachines = (): Promise<PoolMachine[]> => inContext(({ registry }) => registry.poolMachines())

/** Rounds of the runner's filler, until there is nothing to do. */
export const fill = (): Promise<PoolMachine[]> =>
  inContext(async context => {
    await openTestFiller(context).fill()
    const problem = context.registry.poolLook(context.config.baseImage)?.problem ?? null
    if (problem !== null) throw new Error(problem)
    return context.registry.poolMachines()
  })

/** For the end of a test file: no pools, and none of their machines. */
export const endPools = async (): Promise<void> => {
  setPools()
  await fill()
  rmSync(join(home, 'config.yaml'))
}

if (import.meta.main) await fill()
