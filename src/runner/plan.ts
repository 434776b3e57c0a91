/** What an action would do now, for `--dry-run`. Reads the registry and the hypervisor, and changes neither. */

import { ANY_FILE, noSuchImage } from '../../providers/no-such-image.ts'
import type { Provider } from '../../providers/provider.ts'
import { attemptOf, isPreRestore, type Ticket } from '../domain.ts'
import { fail } from '../errors.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import { needOf } from '../room.ts'
import type { Action, ActionKind, ProjectSpec } from '../schema/action.ts'
import { counted, listed } from '../words.ts'
import { newKeys, requireForks, timesMachine } from './actions/fork.ts'
import { requireAttempt } from './actions/promote.ts'
import { listCheckpoints, noSuchCheckpoint, requireColdRestores } from './checkpoints.ts'
import { noSuchAttempt, type RunnerContext, requireEnvironment, resolveTicket } from './context.ts'
import type { Observed } from './lifecycle.ts'
import { requireRecoverable, wasChecked } from './lost.ts'
import { observe } from './machine.ts'
import { needOfMachine, whyNoRoom } from './room.ts'
import { isSaved, requireSave } from './wake.ts'

/**
 * Steps as sentences without a subject, for example `start it`; or why there are none. A plan throws the failure that
 * `execute` would end with, where it can be foreseen.
 */
export type Plan = { would: string[] } | { skipped: string }
type Planner<Kind extends ActionKind> = (
  context: RunnerContext,
  action: Extract<Action, { kind: Kind }>,
) => Promise<Plan>

const fromDisk = ({ vmId }: EnvironmentRow) => `make ${vmId} again from the disk that it left`
const WAIT_FOR_SSH = 'wait until it answers over SSH'
const LOOK = 'look for unsaved work'

const observed = async (
  context: RunnerContext,
  ticket: Ticket,
): Promise<{ row: EnvironmentRow; provider: Provider; state: Observed }> => {
  const row = requireEnvironment(context, ticket)
  const provider = await context.provider(row.provider)
  return { row, provider, state: await observe(provider, row) }
}

const requireRoom = async (
  context: RunnerContext,
  provider: Provider,
  { kind, ticket, vmId }: { kind: ActionKind; ticket: Ticket; vmId: string | null },
): Promise<void> => {
  if (provider.capacity === undefined) return
  const size = vmId === null ? needOf(context.config.size) : await needOfMachine(context, provider, vmId)
  // A machine that is started only to be asked for its work makes no checkpoint.
  const need = kind === 'delete' ? { ...size, diskGiB: 0 } : size
  const failure = await whyNoRoom(context, provider, { kind, ticket, need })
  if (failure !== null) throw failure
}

const startStep = async (provider: Provider, row: EnvironmentRow): Promise<string> =>
  (await isSaved(provider, row)) ? `start ${row.vmId}, which goes on with its saved memory` : `start ${row.vmId}`

const planStart: Planner<'start'> = async (context, { kind, ticket }) => {
  const { row, provider, state } = await observed(context, ticket)
  if (state === 'stopped') await requireRoom(context, provider, { kind, ticket, vmId: row.vmId })
  return state === 'running' && row.status === 'running'
    ? { skipped: `${ticket} is already running` }
    : { would: [...(state === 'running' ? [] : [await startStep(provider, row)]), WAIT_FOR_SSH] }
}

const planProject = ({ registry }: RunnerContext, ticket: Ticket, project: ProjectSpec | undefined): string[] => {
  const known = registry.project(ticket)
  if (known === null ? project === undefined : known.problem === null) return []
  const isReplaced = project?.named === true && known?.branch === null
  return [
    `clone ${((isReplaced ? project : known) ?? project)?.repo} into it, set it up and start it, where that was not done yet`,
  ]
}

/** What there is of a machine that the registry does not have: there is never a second one. */
const planLeft = async (
  { registry }: RunnerContext,
  provider: Provider,
  ticket: Ticket,
  row: EnvironmentRow | null,
): Promise<string[] | null> => {
  if (row !== null) {
    const isLost = row.status === 'lost' && (await observe(provider, row)) === 'gone'
    return isLost && (await requireRecoverable({ provider, row })) ? [fromDisk(row), `start ${row.vmId}`] : null
  }
  const vm = (await provider.listVms()).find(each => each.ticket === ticket && !registry.knowsMachine(each.vmId))
  if (vm === undefined) return null
  const start = vm.status === 'stopped' ? [`start ${vm.vmId}`] : []
  return [`adopt ${vm.vmId}, which the registry does not know`, ...start]
}

/** Fails with `no-such-image` where a machine needs the image and it is not there. */
export const requireBaseImage = async (provider: Provider, baseImage: string): Promise<void> => {
  const images = await provider.listBaseImages?.()
  if (images !== undefined && !images.includes(baseImage))
    throw noSuchImage(
      baseImage,
      provider.beginning ?? ANY_FILE,
      `; available images: ${images.length === 0 ? 'none' : images.join(', ')}`,
    )
}

/** The ready machines that a create could take. */
const planReady = async (context: RunnerContext, provider: Provider, repo: string | null) => {
  const { pool, size, baseImage } = context.config
  if (pool.length === 0) return []
  return (await import('./pool/claim.ts')).readyFor(context, provider, { baseImage, size, repo })
}

const planCreate: Planner<'create'> = async (context, { ticket, project, noProject }) => {
  const row = context.registry.environment(ticket)
  const { size, baseImage } = context.config
  if (row !== null && row.status !== 'failed' && row.status !== 'lost') {
    const start = await planStart(context, { kind: 'start', ticket, by: row.createdBy, replyTo: null })
    const more = planProject(context, ticket, project)
    if (!('skipped' in start)) return { would: [...start.would, ...more] }
    return more.length > 0
      ? { would: more }
      : { skipped: `${ticket} already has a machine: ${row.vmId} on ${row.provider}` }
  }
  const provider = row === null ? await context.chosenProvider() : await context.provider(row.provider)
  const left = await planLeft(context, provider, ticket, row)
  if (left !== null) return { would: [...left, WAIT_FOR_SSH, ...planProject(context, ticket, project)] }
  if (attemptOf(ticket) !== null) throw noSuchAttempt(context, ticket, `creating ${ticket}: there is no such attempt`)
  const [ready] = await planReady(context, provider, project?.repo ?? null)
  if (ready !== undefined) {
    // One that is held in memory has its room already.
    if (ready.hold === 'disk') await requireRoom(context, provider, { kind: 'create', ticket, vmId: null })
    return {
      would: [
        `take the ready machine ${ready.vmId} of the pool ${ready.pool}, and start it`,
        WAIT_FOR_SSH,
        ...planProject(context, ticket, project),
        ...(noProject === undefined ? [] : [noProject]),
      ],
    }
  }
  await requireBaseImage(provider, baseImage)
  await requireRoom(context, provider, { kind: 'create', ticket, vmId: null })
  return {
    would: [
      ...(row === null ? [] : [`remove what is left of ${row.vmId}`]),
      `create a machine from the base image ${baseImage} on ${provider.name}: ${size.cpus} CPUs, ${size.memoryMiB} MiB of memory, ${size.diskGiB} GiB of disk`,
      'start it',
      WAIT_FOR_SSH,
      ...planProject(context, ticket, project),
      ...(noProject === undefined ? [] : [noProject]),
    ],
  }
}

const planDelete: Planner<'delete'> = async (context, { ticket, force }) => {
  if (context.registry.environment(ticket) === null) return { skipped: `${ticket} has no machine` }
  const { row, provider, state } = await observed(context, ticket)
  const isRecovered = state === 'gone' && !force && !wasChecked(row) && (await requireRecoverable({ provider, row }))
  const isStarted = isRecovered || (state === 'stopped' && !force && !wasChecked(row))
  if (isStarted) await requireRoom(context, provider, { kind: 'delete', ticket, vmId: row.vmId })
  const count = context.registry.checkpoints(ticket).length
  const checkpoints = count === 0 ? '' : ` and its ${counted(count, 'checkpoint')}`
  return {
    would: [
      ...(isRecovered ? [fromDisk(row)] : []),
      ...(isStarted ? [`start ${row.vmId}`, WAIT_FOR_SSH] : []),
      ...(!force && (state === 'running' || isStarted)
        ? [`${LOOK}; if there is some, save it first, or keep the machine`]
        : []),
      `delete ${row.vmId} with its disk${checkpoints}`,
    ],
  }
}

const planMove: Planner<'move'> = async (context, { ticket, from: former }) => {
  const from = resolveTicket(context, former)
  const [old, existing] = [context.registry.environment(from), context.registry.environment(ticket)]
  if (old === null) return { skipped: `${former} has no machine` }
  if (from === ticket) return { skipped: `${former} is already ${ticket}` }
  return existing === null
    ? { would: [`give ${old.vmId}, its checkpoints and its history the key ${ticket}`] }
    : { would: [`stop ${old.vmId} and keep it as ${from}, because ${ticket} already has a machine`] }
}

const planFork: Planner<'fork'> = async (context, { ticket, count, from }) => {
  const { row, provider } = await observed(context, ticket)
  requireForks(provider)
  const names = from === null ? [] : await listCheckpoints(provider, row)
  if (from !== null && !names.includes(from)) throw noSuchCheckpoint(ticket, from, names)
  const keys = newKeys(context, { ticket, count })
  const each = await needOfMachine(context, provider, row.vmId)
  const need = timesMachine(each, keys.length)
  const failure = await whyNoRoom(context, provider, { kind: 'fork', ticket, need })
  if (failure !== null) throw failure
  return {
    would: [
      `make ${keys.join(', ')} from ${from === null ? `${row.vmId} as it is now` : `its checkpoint ${from}`}`,
      provider.memoryForks === true ? 'go on with its memory in each, where it has one' : 'boot each',
      WAIT_FOR_SSH,
    ],
  }
}

const planPromote: Planner<'promote'> = async (context, { ticket, attempt }) => {
  const key = requireAttempt({ context }, ticket, attempt)
  const { registry } = context
  const former = registry.environment(ticket)
  const others = registry.attempts(ticket).filter(each => each !== key)
  const count = registry.checkpoints(ticket).length
  const checkpoints = count === 0 ? '' : ` with its ${counted(count, 'checkpoint')}`
  const go = [...(former === null ? [] : [`the former machine of ${ticket}, ${former.vmId}${checkpoints}`]), ...others]
  return {
    would: [
      `make ${registry.environment(key)?.vmId} the machine of ${ticket}`,
      ...(go.length === 0
        ? []
        : [`${LOOK} in what it deletes; save it first, or keep the machine`, `delete ${listed(go)}`]),
    ],
  }
}

const planners = {
  create: planCreate,
  start: planStart,
  stop: async (context, { ticket, save = false }) => {
    const { row, provider, state } = await observed(context, ticket)
    if (save) requireSave(provider, ticket)
    if (save && state === 'running')
      return { would: [`save the memory of ${row.vmId} and turn it off; whoever needs it wakes it`] }
    return state === 'running'
      ? { would: [`${LOOK}, and note it`, `shut ${row.vmId} down; its disk and checkpoints are kept`] }
      : { skipped: `${ticket} is already stopped` }
  },
  restart: async (context, { ticket }) => {
    const { row, provider, state } = await observed(context, ticket)
    if (state === 'stopped') await requireRoom(context, provider, { kind: 'start', ticket, vmId: row.vmId })
    const stop = state === 'running' ? [`shut ${row.vmId} down; its disk and checkpoints are kept`] : []
    return { would: [...stop, `start ${row.vmId}`, WAIT_FOR_SSH] }
  },
  checkpoint: async (context, { ticket, name }) => {
    const { row, provider, state } = await observed(context, ticket)
    if (name !== null && (await listCheckpoints(provider, row)).includes(name))
      throw fail('already-exists', `${ticket} already has a checkpoint ${name}`, 'Choose another name.')
    const parts = state === 'running' && provider.memoryCheckpoints === true ? 'memory and disk' : 'its disk'
    return { would: [`make the checkpoint ${name ?? 'named after the time'} of ${row.vmId}, ${parts}`] }
  },
  restore: async (context, { ticket, name: requested, cold }) => {
    const { row, provider } = await observed(context, ticket)
    if (cold === true) requireColdRestores(provider)
    const names = await listCheckpoints(provider, row)
    const name = requested ?? names.findLast(existing => !isPreRestore(existing)) ?? null
    if (name === null || !names.includes(name)) throw noSuchCheckpoint(ticket, name ?? 'to restore', names)
    return {
      would: [
        `keep ${row.vmId} as it is now as pre-restore-<time>`,
        ...(cold === true
          ? [`restore the disk of the checkpoint ${name}`, 'start it']
          : [`restore the checkpoint ${name}`]),
      ],
    }
  },
  'delete-checkpoint': async (context, { ticket, name }) => {
    const { row, provider } = await observed(context, ticket)
    const names = await listCheckpoints(provider, row)
    if (!names.includes(name)) throw noSuchCheckpoint(ticket, name, names)
    return { would: [`delete the checkpoint ${name} of ${row.vmId}; the machine stays as it is`] }
  },
  delete: planDelete,
  move: planMove,
  fork: planFork,
  promote: planPromote,
  tell: async (context, { ticket }) => ({
    would: [`give the agent of ${requireEnvironment(context, ticket).ticket} the message`],
  }),
  agent: async (context, { ticket, what }) => ({
    would: [`${what} the agent of ${requireEnvironment(context, ticket).ticket}`],
  }),
  status: async (_context, { ticket }) => ({ would: [`look at ${ticket}`] }),
} satisfies { [Kind in ActionKind]: Planner<Kind> }

export const planAction = (context: RunnerContext, action: Action): Promise<Plan> => {
  const ticket = action.kind === 'move' ? action.ticket : resolveTicket(context, action.ticket)
  // The table's type guarantees that each kind gets its own action.
  return (planners[action.kind] as (context: RunnerContext, action: Action) => Promise<Plan>)(context, {
    ...action,
    ticket,
  })
}
