/** (y) Processes of PowerShell that `list` and `status` take with 10 and 100 environments on Hyper-V, whose stand-in counts them. */
import { join } from 'node:path'
import { fillHypervHome } from '../test/support/hyperv/bench.ts'
import { noPwsh, openHypervStandIn } from '../test/support/hyperv/stand-in.ts'
import type { Row } from './main.ts'
import { entry, finish, withHome } from './measure.ts'

const SIZES = [10, 100]
const COMMANDS = [['list'], ['status'], ['status', 'AB-1']]

export const hyperv = async (): Promise<Row[]> => {
  const what = (name: string) =>
    `processes of PowerShell that \`${name}\` takes with ${SIZES.join(' and ')} environments on Hyper-V`
  const row = { row: 'y', target: '1 and 1' }
  if (noPwsh !== null) return [{ ...row, what: what('list'), measured: `left out: ${noPwsh}`, ok: null }]
  const counts = new Map<string, number[]>()
  for (const size of SIZES)
    await withHome(async home => {
      const standIn = openHypervStandIn()
      try {
        const state = join(home, 'state')
        await fillHypervHome(standIn, state, size)
        const environment = { HOME: home, AGENT_SWARM_HOME: state, AGENT_SWARM_PROVIDER: 'hyperv' }
        for (const words of COMMANDS) {
          const before = standIn.processes()
          const ran = await finish(process.execPath, [entry, ...words], { ...environment, ...standIn.environment })
          const name = words.join(' ')
          if (ran.code !== 0) throw new Error(`${name}: ${ran.stderr}`)
          counts.set(name, [...(counts.get(name) ?? []), standIn.processes() - before])
        }
      } finally {
        standIn.close()
      }
    })
  return [...counts].map(([name, measured]) => ({
    ...{ ...row, what: what(name), measured: measured.join(' and ') },
    ok: measured.every(count => count === 1),
  }))
}
