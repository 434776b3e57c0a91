/** What an action would do now, for `--dry-run`: reads the registry and the hypervisor, and changes neither. */
import { isPreRestore } from '../domain.ts'
import { fail } from '../errors.ts'
import type { Action, ActionKind } from '../schema/action.ts'
import { noSuchCheckpoint } from './checkpoints.ts'
import { type RunnerContext, requireEnvironment } from './context.ts'
import { observe } from './machine.ts'

/** Steps as sentences without a subject, `start it`; or why there are none. Throws what `execute` would fail with, where that can be seen beforehand. */
export type Plan = { would: string[] } | { skipped: string }
type Plans<Kind extends ActionKind> = (world: RunnerContext, action: Extract<Action, { kind: Kind }>) => Promise<Plan>

const WAIT_FOR_SSH = 'wait until it answers over SSH'

const create: Plans<'create'> = async (world, { ticket }) => {
  const row = world.registry.environment(ticket)
  const { size, baseImage } = world.config
  if (row === null || row.status === 'failed' || row.status === 'lost') {
    const provider = row === null ? await world.chosenProvider() : await world.provider(row.provider)
    const images = await provider.listBaseImages?.()
    if (images !== undefined && !images.includes(baseImage)) {
      throw fail(
        'no-such-image',
        `there is no base image ${baseImage}${images.length === 0 ? '' : `; there is ${images.join(', ')}`}`,
        `Make it: agent-swarm init-base ${baseImage} --from …`,
      )
    }
    return {
      would: [
        ...(row === null ? [] : [`remove what is left of ${row.vmId}`]),
        `make a machine of the base image ${baseImage} on ${provider.name}: ${size.cpus} CPUs, ${size.memoryMiB} MiB of memory, ${size.diskGiB} GiB of disk`,
        'start it',
        WAIT_FOR_SSH,
      ],
    }
  }
  const started = await start(world, { kind: 'start', ticket, by: row.createdBy, replyTo: null })
  return 'skipped' in started ? { skipped: `${ticket} has a machine already: ${row.vmId} on ${row.provider}` } : started
}

const seen = async (world: RunnerContext, ticket: string) => {
  const row = requireEnvironment(world, ticket)
  const provider = await world.provider(row.provider)
  return { row, provider, observed: await observe(provider, row) }
}

const start: Plans<'start'> = async (world, { ticket }) => {
  const { row, observed } = await seen(world, ticket)
  return observed === 'running' && row.status === 'running'
    ? { skipped: `${ticket} is running already` }
    : { would: [...(observed === 'running' ? [] : [`start ${row.vmId}`]), WAIT_FOR_SSH] }
}

const LOOK = 'look for work that is saved nowhere else'

const plans = {
  create,
  start,
  stop: async (world, { ticket }) => {
    const { row, observed } = await seen(world, ticket)
    return observed === 'running'
      ? { would: [`${LOOK}, and note it`, `shut ${row.vmId} down; its disk and checkpoints are kept`] }
      : { skipped: `${ticket} is stopped already` }
  },
  checkpoint: async (world, { ticket, name }) => {
    const { row, provider, observed } = await seen(world, ticket)
    if (name !== null && (await provider.listCheckpoints(row.vmId)).includes(name))
      throw fail('already-exists', `${ticket} has a checkpoint ${name} already`, 'Take another name.')
    const memory = observed === 'running' && provider.memoryCheckpoints === true
    return {
      would: [
        `make the checkpoint ${name ?? 'named after the time'} of ${row.vmId}, ${memory ? 'memory and disk' : 'its disk'}`,
      ],
    }
  },
  restore: async (world, { ticket, name: asked }) => {
    const { row, provider } = await seen(world, ticket)
    const there = await provider.listCheckpoints(row.vmId)
    const name = asked ?? there.findLast(one => !isPreRestore(one)) ?? null
    if (name === null || !there.includes(name)) throw noSuchCheckpoint(ticket, name ?? 'to restore', there)
    return { would: [`keep ${row.vmId} as it is now as pre-restore-<time>`, `bring the checkpoint ${name} back`] }
  },
  'delete-checkpoint': async (world, { ticket, name }) => {
    const { row, provider } = await seen(world, ticket)
    const there = await provider.listCheckpoints(row.vmId)
    if (!there.includes(name)) throw noSuchCheckpoint(ticket, name, there)
    return { would: [`delete the checkpoint ${name} of ${row.vmId}; the machine stays as it is`] }
  },
  delete: async (world, { ticket, force }) => {
    if (world.registry.environment(ticket) === null) return { skipped: `${ticket} has no environment` }
    const { row, observed } = await seen(world, ticket)
    const checkpoints = world.registry.checkpoints(ticket).length
    return {
      would: [
        ...(force || (observed !== 'running' && observed !== 'stopped')
          ? []
          : [`${LOOK}; where there is some, save it first, or keep the machine`]),
        `delete ${row.vmId} with its disk${checkpoints === 0 ? '' : ` and its ${checkpoints} ${checkpoints === 1 ? 'checkpoint' : 'checkpoints'}`}`,
      ],
    }
  },
  status: async (_world, { ticket }) => ({ would: [`look at ${ticket}`] }),
} satisfies { [Kind in ActionKind]: Plans<Kind> }

export const planAction = (world: RunnerContext, action: Action): Promise<Plan> =>
  // The table's type says that each kind gets its own action.
  (plans[action.kind] as (world: RunnerContext, action: Action) => Promise<Plan>)(world, action)
