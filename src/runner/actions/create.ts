/** Creates a ticket's machine. One that exists is started. */
import { randomBytes } from 'node:crypto'
import { is } from 'valibot'
import { attemptOf, newVmId, type Ticket } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import { needOf } from '../../room.ts'
import type { Action, MachineSpec } from '../../schema/action.ts'
import { imageName, quoteValue } from '../../schema/forms.ts'
import { priceText } from '../../words.ts'
import { noSuchAttempt, type RunnerContext, requireEnvironment } from '../context.ts'
import { waitAndTell } from '../isolation-note.ts'
import { recoverLost } from '../lost.ts'
import { converge, observe, undoCreate } from '../machine.ts'
import { type ActionRunner, type Operation, type Result, type Target, targetOf } from '../operation.ts'
import { adoptMachine } from '../reconciler/adopt.ts'
import { reserveRoom } from '../room.ts'
import { unsaidNoAgent, wantAgentAfterSetup } from './agent.ts'
import { start } from './start.ts'

type Create = Extract<Action, { kind: 'create' }>

const limits = {
  cpus: ['CPUs', 'AGENT_SWARM_MAX_CPUS'],
  memoryMiB: ['MiB of memory', 'AGENT_SWARM_MAX_MEMORY_MIB'],
  diskGiB: ['GiB of disk', 'AGENT_SWARM_MAX_DISK_GIB'],
} as const

/** The new machine: the request within this runner's limits, and its defaults. */
const machineFor = (
  { config }: RunnerContext,
  ticket: Ticket,
  machine: MachineSpec,
): { baseImage: string; size: typeof config.size } => {
  const size = { ...config.size }
  for (const name of ['cpus', 'memoryMiB', 'diskGiB'] as const) {
    const requested = machine[name]
    if (requested === undefined) continue
    const [unit, setting] = limits[name]
    if (!Number.isInteger(requested) || requested < 1 || requested > config.limits[name])
      throw fail(
        'refused',
        `creating ${ticket}: the repository asks for ${requested} ${unit}, and this runner allows at most ${config.limits[name]}`,
        `Ask for less in .github/agent-swarm.yml, or set ${setting} on the runner's host.`,
      )
    size[name] = requested
  }
  const { baseImage = config.baseImage } = machine
  const named: unknown = baseImage
  if (!is(imageName, named))
    throw fail('refused', `creating ${ticket}: ${quoteValue(named)} is not a valid name of a base image`)
  return { baseImage, size }
}

type Existing = { row: EnvironmentRow /** What is gone of it. */; note: string }
/** The ticket's environment, without what an earlier create or a lost machine left of it; null when there is none. */
const existingEnvironment = async (operation: Operation, ticket: Ticket): Promise<Existing | null> => {
  const row = operation.context.registry.environment(ticket)
  if (row === null) return null
  if (row.status !== 'failed' && row.status !== 'lost') return { row, note: '' }
  const target = await targetOf(operation, ticket, row)
  if (row.status === 'failed') {
    operation.caller.onPhase('delete')
    await undoCreate(target)
    return null
  }
  if ((await observe(target.provider, row)) !== 'gone') return { row, note: '' }
  // Its disk holds somebody's work and checkpoints: the machine is made again from it.
  const note = await recoverLost(target)
  if (note !== null) return { row: requireEnvironment(operation.context, ticket), note }
  await converge(target, 'absent')
  return null
}

/** A machine of this ticket that the registry does not know, for example since it was lost. There is never a second one. */
const adoptExisting = async ({ context }: Operation, ticket: Ticket): Promise<EnvironmentRow | null> => {
  const provider = await context.chosenProvider()
  const [vm, second] = (await provider.listVms()).filter(
    each => each.ticket === ticket && !context.registry.knowsMachine(each.vmId),
  )
  if (second !== undefined)
    throw fail(
      'already-exists',
      `creating ${ticket}: ${provider.name} has several machines of it that the registry does not know`,
      'See: agent-swarm reconcile --dry-run',
    )
  return vm === undefined ? null : adoptMachine(context, provider, vm, ticket)
}

/** Journals the machine before the first outside command. */
const beginEnvironment = async (
  operation: Operation,
  ticket: Ticket,
  machine: MachineSpec,
): Promise<EnvironmentRow> => {
  const { context, id, by } = operation
  const { baseImage, size } = machineFor(context, ticket, machine)
  const provider = await context.chosenProvider()
  const vmId = newVmId(ticket, randomBytes(4).toString('hex'))
  await reserveRoom(operation, provider, { kind: 'create', ticket, vmId, need: needOf(size) })
  context.registry.begin({ ticket, provider: provider.name, vmId, baseImage, by, operation: id })
  return requireEnvironment(context, ticket)
}

/** A ready machine that becomes the ticket's; null when there is none. */
const takeReady = async (
  operation: Operation,
  { ticket, machine = {}, project }: Create,
): Promise<EnvironmentRow | null> => {
  const { context } = operation
  // Without a pool, nothing of it is loaded.
  if (context.config.pool.length === 0) return null
  const provider = await context.chosenProvider()
  const { claimReady } = await import('../pool/claim.ts')
  const wanted = { ...machineFor(context, ticket, machine), ticket, repo: project?.repo ?? null }
  const taken = await claimReady(operation, provider, wanted)
  return taken === null ? null : requireEnvironment(context, ticket)
}

/** What the machine costs, or that its price is unknown. */
const priceNote = async ({ provider, row }: Target): Promise<string> => {
  const price = (await provider.prices?.().catch(() => null))?.get(row.vmId)
  if (price === undefined) return ''
  return price.usdPerHour === null ? '. Its price is unknown' : `. It costs ${priceText(price)}`
}

/** Brings the project in, or goes on with it. Returns the text that follows the summary. */
const withProject = async (
  target: Target,
  { project, noProject }: Pick<Create, 'project' | 'noProject'>,
): Promise<string> => {
  if (project === undefined && noProject === undefined) return ''
  // A create without one loads nothing of it.
  const sentences =
    project === undefined
      ? [noProject ?? '']
      : await (await import('../project/project.ts')).prepareProject(target, project)
  return sentences.map(sentence => `. ${sentence.replace(/\.$/, '')}`).join('')
}

const inFolder = (target: Target, path: string | null): Target =>
  path === null ? target : { ...target, pooled: { path } }

/** A machine that exists is started. What is missing of its project is done. */
const createAgain = async (operation: Operation, { row, note }: Existing, action: Create): Promise<Result> => {
  const { ticket, by } = action
  const result = await start(operation, { ticket, by, kind: 'start', replyTo: null })
  const spec = action.project ?? operation.context.registry.project(ticket)
  // One that was taken ready has its project's folder already, also when its create died before it noted that.
  const path = operation.context.registry.poolMachine(row.vmId)?.path ?? null
  const target = await targetOf(operation, ticket)
  const project = spec === null ? '' : await withProject(inFolder(target, path), { project: spec })
  const sentence = `${ticket} already has a machine: ${row.vmId} on ${row.provider}`
  if ('skipped' in result) return project === '' ? { skipped: sentence } : { summary: `${sentence}${project}` }
  return { summary: `${sentence}. It was stopped, and is running again${note}${project}` }
}

/** Makes the machine, and waits until it answers. Returns what to tell people of it. One that never answered is removed again. */
const bringUp = async (operation: Operation, row: EnvironmentRow, machine: MachineSpec, isGoingOn: boolean) => {
  const { context, caller } = operation
  const { ticket, vmId } = row
  const target = await targetOf(operation, ticket, row)
  const pooled = context.registry.poolMachine(vmId)
  try {
    // An interrupted create may ask for more than is allowed now.
    const { size } = machineFor(context, ticket, machine)
    if (isGoingOn)
      await reserveRoom(operation, target.provider, { kind: 'create', ticket, vmId, need: needOf(size), isGoingOn })
    if (pooled !== null) {
      const note = await (await import('../pool/claim.ts')).bringUp(target, pooled)
      return { target, note: `${note}${await priceNote(target)}`, path: pooled.path }
    }
    await converge({ ...target, size }, 'running')
    return { target, note: `${await waitAndTell(target)}${await priceNote(target)}`, path: null }
  } catch (error) {
    // One that answered may hold somebody's work.
    if (context.registry.environment(ticket)?.status === 'running') throw error
    caller.onPhase('undoing')
    await undoCreate(target)
    throw error
  }
}

/** A ready machine that cannot be used is removed, and another one is made in its place. */
const bringUpOne = async (operation: Operation, existing: EnvironmentRow | null, action: Create) => {
  const { context, caller } = operation
  const { ticket, machine = {} } = action
  const row = existing ?? (await takeReady(operation, action)) ?? (await beginEnvironment(operation, ticket, machine))
  const pooled = context.registry.poolMachine(row.vmId)
  if (pooled === null) return bringUp(operation, row, machine, existing !== null)
  try {
    return await bringUp(operation, row, machine, existing !== null)
  } catch (error) {
    if (caller.signal.aborted) throw error
    const reason = failureOf(error, 'taking it').message
    const at = context.clock().toISOString()
    const left = context.registry.environment(ticket)
    // One that answered was taken.
    if (left?.status !== 'running')
      context.registry.claimFailed(pooled.pool, `a create could not take ${row.vmId}: ${reason}`, at)
    if (left !== null) throw error
    caller.onPhase(`a ready machine could not be used: ${reason}`)
    const made = await bringUp(operation, await beginEnvironment(operation, ticket, machine), machine, false)
    return { ...made, note: `${made.note}. A ready machine could not be used, and this one was made anew: ${reason}` }
  }
}

export const create: ActionRunner<'create'> = async (operation, action) => {
  const { ticket } = action
  const { context } = operation
  const found = await existingEnvironment(operation, ticket)
  const existing = found?.row ?? (await adoptExisting(operation, ticket))
  if (existing !== null && existing.status !== 'creating') {
    const again = await createAgain(operation, { row: existing, note: found?.note ?? '' }, action)
    // An earlier try may have died before it came to the agent.
    if (action.task === undefined || context.registry.agent(ticket) !== null) return again
    const agent = wantAgentAfterSetup(await targetOf(operation, ticket), action)
    if (agent === '') return again
    return { summary: `${'skipped' in again ? again.skipped : again.summary}${agent}` }
  }
  if (existing === null && attemptOf(ticket) !== null)
    throw noSuchAttempt(context, ticket, `creating ${ticket}: there is no such attempt`)
  const { target, note, path } = await bringUpOne(operation, existing, action)
  const { row } = target
  // From here on people may work in it: it stays, whatever becomes of its project.
  const up = await targetOf(operation, ticket)
  const project = await withProject(inFolder(up, path), action)
  const agent = wantAgentAfterSetup(target, action)
  const noAgent = unsaidNoAgent(context, action)
  return {
    summary: `${ticket} has a machine: ${row.vmId} on ${row.provider}${note}${project}${agent}`,
    ...(noAgent === null ? {} : { noAgent }),
  }
}
