/** Makes a ticket's machine. One that is there already is started. */
import { randomBytes } from 'node:crypto'
import { is } from 'valibot'
import { newVmId, type Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { MachineSpec } from '../../schema/action.ts'
import { imageName, quoteValue } from '../../schema/forms.ts'
import { type RunnerContext, requireEnvironment } from '../context.ts'
import { converge, observe, undoCreate, waitUntilReady } from '../machine.ts'
import type { ActionRunner } from '../operation.ts'
import { start } from './start.ts'

const limits = {
  cpus: ['CPUs', 'AGENT_SWARM_MAX_CPUS'],
  memoryMiB: ['MiB of memory', 'AGENT_SWARM_MAX_MEMORY_MIB'],
  diskGiB: ['GiB of disk', 'AGENT_SWARM_MAX_DISK_GIB'],
} as const

/** What a new machine shall be: what was asked for, within what this runner allows. */
const machineFor = (
  { config }: RunnerContext,
  ticket: Ticket,
  machine: MachineSpec,
): { baseImage: string; size: typeof config.size } => {
  const size = { ...config.size }
  for (const name of ['cpus', 'memoryMiB', 'diskGiB'] as const) {
    const wanted = machine[name]
    if (wanted === undefined) continue
    const [what, setting] = limits[name]
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > config.limits[name])
      throw fail(
        'refused',
        `creating ${ticket}: ${wanted} ${what} are asked for, and this runner gives a repository ${config.limits[name]} at most`,
        `Ask for less in the repository's .github/agent-swarm.yml, or set ${setting} on the runner's machine.`,
      )
    size[name] = wanted
  }
  const { baseImage = config.baseImage } = machine
  const named: unknown = baseImage
  if (!is(imageName, named))
    throw fail('refused', `creating ${ticket}: ${quoteValue(named)} is no name of a base image`)
  return { baseImage, size }
}

export const create: ActionRunner<'create'> = async (work, { ticket, by, machine = {} }) => {
  const { world, asked } = work
  let row = world.registry.environment(ticket)
  if (row !== null && (row.status === 'failed' || row.status === 'lost')) {
    const provider = await world.provider(row.provider)
    if (row.status === 'failed') {
      asked.onPhase('delete')
      await undoCreate(world, provider, row)
      row = null
    } else if ((await observe(provider, row)) === 'gone') {
      await converge(work, provider, row, 'absent')
      row = null
    }
  }
  if (row !== null && row.status !== 'creating') {
    const there = `${ticket} has a machine already: ${row.vmId} on ${row.provider}`
    const started = await start(work, { ticket, by, kind: 'start', replyTo: null })
    return 'skipped' in started ? { skipped: there } : { said: `${there}, which was stopped and runs again` }
  }
  if (row === null) {
    const { baseImage } = machineFor(world, ticket, machine)
    const provider = await world.chosenProvider()
    const vmId = newVmId(ticket, randomBytes(4).toString('hex'))
    world.registry.begin({
      ticket,
      provider: provider.name,
      vmId,
      baseImage,
      by,
      hostKey: null,
      operation: work.operation,
    })
    row = requireEnvironment(world, ticket)
  }
  const provider = await world.provider(row.provider)
  try {
    // What was begun before may be more than is allowed now.
    const { size } = machineFor(world, ticket, machine)
    await converge({ ...work, size }, provider, row, 'running')
    await waitUntilReady(work, provider, row)
  } catch (error) {
    asked.onPhase('undoing')
    await undoCreate(world, provider, row)
    throw error
  }
  return { said: `${ticket} has a machine: ${row.vmId} on ${row.provider}` }
}
