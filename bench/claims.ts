/** Machines that are kept ready on real libvirt: filled in this process, claimed by a create of the CLI. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readConfig } from '../src/config/config.ts'
import { openRunnerContext } from '../src/runner/context.ts'
import { openTestFiller } from '../test/support/pools.ts'
import { finish } from './measure.ts'

type Hold = 'memory' | 'disk'

/** Memory of the machines' QEMU processes, in MiB: what several share counts by its part. */
export const sharedMemory = async (vmIds: readonly string[]): Promise<number> => {
  let kib = 0
  for (const vmId of vmIds) {
    const { stdout } = await finish('pgrep', ['-f', `qemu.*guest=${vmId}[,]`])
    const rollup = readFileSync(`/proc/${Number(stdout.split('\n')[0])}/smaps_rollup`, 'utf8')
    kib += Number(rollup.match(/^Pss:\s+(\d+)/m)?.[1])
  }
  return Math.round(kib / 1024)
}

/** One machine ready in the pool, forked from a template that stays from one call to the next. Returns it. */
export const fillPool = async (environment: Record<string, string | undefined>, hold: Hold): Promise<string> => {
  writeFileSync(
    join(environment.AGENT_SWARM_HOME ?? '', 'config.yaml'),
    `pool:\n  - { image: agent-swarm-base, hold: ${hold} }\n`,
  )
  const context = openRunnerContext(await readConfig({}, environment))
  try {
    await openTestFiller(context).fill()
    const ready = context.registry.poolMachines().find(({ state }) => state === 'ready')
    if (ready === undefined)
      throw new Error(`the pool is not filled: ${JSON.stringify(context.registry.poolLook(context.config.baseImage))}`)
    return ready.vmId
  } finally {
    context.close()
  }
}

/** What is left of pools is deleted. */
export const emptyPool = async (environment: Record<string, string | undefined>): Promise<void> => {
  writeFileSync(join(environment.AGENT_SWARM_HOME ?? '', 'config.yaml'), '')
  const context = openRunnerContext(await readConfig({}, environment))
  try {
    await openTestFiller(context).fill()
  } finally {
    context.close()
  }
}
