/**
 * Does what an action asks for, under the ticket's lock, with its intent in the journal before the first outside command.
 * The one place where machines change: the runner and the CLI both come here.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { is } from 'valibot'
import type { Provider } from '../../providers/provider.ts'
import {
  type Action,
  type ActionKind,
  type CheckpointName,
  type Environment,
  isPreRestore,
  type Keep,
  type Machine,
  type Outcome,
  type Ticket,
  timestamp,
  vmNameFor,
} from '../domain.ts'
import { fail, failureOf, isFailure } from '../errors.ts'
import { nearest } from '../nearest.ts'
import { ASKED_TOLD } from '../protocol.ts'
import type { EnvironmentRow, OperationRow } from '../registry/registry.ts'
import { ifUnlocked, withTicketLock } from '../registry/ticket-lock.ts'
import { imageName, shown } from '../schema.ts'
import { forgetHostKey, loginKey, openGuest, pinnedHostKey } from './guest.ts'
import { type Desired, nextStep, type Observed, type Step } from './lifecycle.ts'
import { keepSshConfig } from './ssh-config.ts'
import {
  asFinding,
  type Found,
  nothingAtRisk,
  parseWorkAtRisk,
  sayWorkAtRisk,
  workAtRiskScript,
} from './work-at-risk.ts'
import { environmentOf, existing, type World } from './world.ts'

export type Asked = {
  /** The queue's id, or null for a command of the CLI. Doing one action twice does it once. */
  actionId: string | null
  correlation: string | null
  signal: AbortSignal
  onPhase: (phase: string) => void
}

/** The phase of whoever stands in line: nothing is begun. */
export const WAITING = 'waiting for another command on this ticket'

/** Of the automatic checkpoints of pushes, where an action does not say how many. */
const KEPT: Keep = { newest: 5, days: null }
const DAY_MS = 24 * 60 * 60_000
/** The whole of its homes is looked through for repositories. */
const WORK_AT_RISK_DEADLINE_MS = 60_000
const SAVE_DEADLINE_MS = 30 * 60_000
const WAIT_MS = 250
/** Milliseconds that a hypervisor may be "creating" before we say that it hangs. */
const CREATING_DEADLINE_MS = 5 * 60_000

/** One action under way. */
type Work = { world: World; asked: Asked; operation: number; by: Action['by']; size?: World['config']['size'] }
type Result = { said: string; kept?: string | undefined } | { skipped: string }

// ── Seeing, and moving towards what is wanted ──────────────────────────────────────────────────────────────────────

export const observe = async (provider: Provider, row: EnvironmentRow): Promise<Observed> => {
  try {
    return await provider.status(row.vmId)
  } catch (error) {
    if (isFailure(error) && error.failure.kind === 'no-such-vm') return row.status === 'creating' ? 'unmade' : 'gone'
    throw error
  }
}

export const machineGone = (row: EnvironmentRow) =>
  fail(
    'no-such-vm',
    `${row.ticket}: its machine ${row.vmId} is gone, and nothing here deleted it`,
    `agent-swarm delete ${row.ticket} --force forgets it; agent-swarm create ${row.ticket} makes a new one after that.`,
  )

const forget = (world: World, row: EnvironmentRow) => {
  world.registry.remove(row.ticket)
  forgetHostKey(world.home, row.vmId)
}

const take = {
  create: async ({ world, asked, size = world.config.size }, provider, row) => {
    const [publicKey, hostKey] = await Promise.all([
      loginKey(world.run, world.home),
      pinnedHostKey(world.run, world.home, row.vmId),
    ])
    await provider.createVm(row.ticket, row.baseImage, { vmId: row.vmId, ...size, publicKey, hostKey }, asked.onPhase)
  },
  start: async ({ asked }, provider, row) => {
    asked.onPhase('start')
    await provider.startVm(row.vmId)
  },
  stop: async ({ asked }, provider, row) => {
    asked.onPhase('stop')
    await provider.stopVm(row.vmId)
  },
  delete: async ({ world, asked }, provider, row) => {
    asked.onPhase('delete')
    world.registry.setStatus(row.ticket, 'deleting')
    await provider.deleteVm(row.vmId)
    forget(world, row)
  },
  forget: async ({ world }, provider, row) => {
    // Its disks may be there without it.
    await provider.deleteVm(row.vmId)
    forget(world, row)
  },
  lose: async ({ world }, _provider, row) => {
    world.registry.setStatus(row.ticket, 'lost')
    throw machineGone(row)
  },
  wait: async ({ asked }) => {
    await delay(WAIT_MS, undefined, { signal: asked.signal }).catch(() => {
      throw fail('cancelled', 'waiting for the hypervisor: cancelled')
    })
  },
  none: async () => {},
} satisfies Record<Step, (work: Work, provider: Provider, row: EnvironmentRow) => Promise<void>>

const SETTLED: readonly Step[] = ['none', 'delete', 'forget']

/** Hears a Ctrl-C that has come meanwhile. */
const heed = async ({ asked }: Work): Promise<void> => {
  await turn()
  asked.signal.throwIfAborted()
}

/** Takes step after step of the lifecycle table until what is wanted is seen. */
const converge = async (work: Work, provider: Provider, row: EnvironmentRow, desired: Desired): Promise<void> => {
  const until = performance.now() + CREATING_DEADLINE_MS
  while (true) {
    await heed(work)
    const step = nextStep[desired][await observe(provider, row)]
    await take[step](work, provider, row)
    if (SETTLED.includes(step)) return
    if (performance.now() > until)
      throw fail('timeout', `${row.ticket}: ${row.vmId} does not become ${desired}`, 'Try: agent-swarm status')
  }
}

/** Waits for the guest's own answer, and notes where it is. */
const becomeReady = async (work: Work, provider: Provider, row: EnvironmentRow): Promise<void> => {
  const { world, asked } = work
  asked.onPhase('address')
  const ssh = await openGuest(world.run, world.home).ready(provider, row.vmId, undefined, asked.signal, () =>
    asked.onPhase('ssh'),
  )
  await heed(work)
  world.registry.setAddress(row.ticket, ssh)
  world.registry.setStatus(row.ticket, 'running')
}

const findWorkAtRisk = async ({ world, asked }: Work, provider: Provider, row: EnvironmentRow): Promise<Found> => {
  asked.onPhase('looking for work at risk')
  try {
    return parseWorkAtRisk(
      await openGuest(world.run, world.home).script(
        provider,
        row.vmId,
        workAtRiskScript,
        WORK_AT_RISK_DEADLINE_MS,
        asked.signal,
      ),
    )
  } catch (error) {
    const failure = failureOf(error, 'asking the machine')
    if (failure.kind === 'cancelled') throw error
    return { known: false, because: failure.message }
  }
}

const shutDown = async (work: Work, provider: Provider, row: EnvironmentRow): Promise<void> => {
  await converge(work, provider, row, 'stopped')
  work.world.registry.setStatus(row.ticket, 'stopped')
  work.world.registry.setAddress(row.ticket, null)
}

const stopKeepingFinding = async (work: Work, provider: Provider, row: EnvironmentRow): Promise<void> => {
  if ((await observe(provider, row)) === 'running')
    work.world.registry.setWorkAtRisk(row.ticket, asFinding(await findWorkAtRisk(work, provider, row)))
  await shutDown(work, provider, row)
}

/** Says which there are. */
export const noSuchCheckpoint = (ticket: Ticket, name: CheckpointName, names: readonly CheckpointName[]) => {
  const near = nearest(name, names)
  return fail(
    'no-such-checkpoint',
    `${ticket} has no checkpoint ${name}`,
    `${near === null ? '' : `Did you mean ${near}? `}${names.length === 0 ? 'It has none.' : `It has ${names.join(', ')}.`}`,
  )
}

/** The rows of checkpoints follow what the provider has: after a crash either may know more. */
const adoptCheckpoints = async (world: World, provider: Provider, row: EnvironmentRow): Promise<CheckpointName[]> => {
  const there = await provider.listCheckpoints(row.vmId)
  const known = world.registry.checkpoints(row.ticket)
  for (const one of known) if (!there.includes(one.name)) world.registry.removeCheckpoint(row.ticket, one.name)
  for (const name of there) {
    if (known.some(one => one.name === name)) continue
    world.registry.addCheckpoint(row.ticket, {
      name,
      why: isPreRestore(name) ? 'before restore' : name.startsWith('push-') ? 'push' : 'command',
      commit: null,
      createdAt: world.clock().toISOString(),
      withMemory: provider.memoryCheckpoints === true,
      sizeBytes: null,
    })
  }
  return there
}

const makeCheckpoint = async (
  { world, asked }: Work,
  provider: Provider,
  row: EnvironmentRow,
  checkpoint: { name: CheckpointName; why: 'push' | 'command' | 'before restore'; commit: string | null },
) => {
  asked.onPhase('checkpoint')
  const running = (await observe(provider, row)) === 'running'
  let sizeBytes: number | null
  try {
    sizeBytes = (await provider.checkpoint(row.vmId, checkpoint.name)).sizeBytes
  } catch (error) {
    // The hypervisor may have gone on with it after we let go.
    if (asked.signal.aborted) await provider.deleteCheckpoint?.(row.vmId, checkpoint.name)
    throw error
  }
  world.registry.addCheckpoint(row.ticket, {
    ...checkpoint,
    createdAt: world.clock().toISOString(),
    withMemory: running && provider.memoryCheckpoints === true,
    sizeBytes,
  })
}

/** Undoes a create that did not come to its end. What cannot be undone is marked, and told. */
const undoCreate = async (world: World, provider: Provider, row: EnvironmentRow): Promise<void> => {
  try {
    await provider.deleteVm(row.vmId)
    forget(world, row)
  } catch (error) {
    world.registry.setStatus(row.ticket, 'failed')
    throw fail(
      'unknown',
      `undoing the create of ${row.ticket}: ${failureOf(error, 'removing what was made').message}`,
      `agent-swarm delete ${row.ticket} --force tries it again.`,
      error,
    )
  }
}

// ── One function an action ─────────────────────────────────────────────────────────────────────────────────────────

type Does<Kind extends ActionKind> = (work: Work, action: Extract<Action, { kind: Kind }>) => Promise<Result>

const limits = {
  cpus: ['CPUs', 'AGENT_SWARM_MAX_CPUS'],
  memoryMiB: ['MiB of memory', 'AGENT_SWARM_MAX_MEMORY_MIB'],
  diskGiB: ['GiB of disk', 'AGENT_SWARM_MAX_DISK_GIB'],
} as const

/** What a new machine shall be: what was asked for, within what this runner allows. */
const machineFor = (
  { config }: World,
  ticket: Ticket,
  machine: Machine,
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
  if (!is(imageName, named)) throw fail('refused', `creating ${ticket}: ${shown(named)} is no name of a base image`)
  return { baseImage, size }
}

const create: Does<'create'> = async (work, { ticket, by, machine = {} }) => {
  const { world, asked } = work
  let row = world.registry.environment(ticket)
  if (row !== null && (row.status === 'failed' || row.status === 'lost')) {
    const provider = await world.provider(row.provider)
    if (row.status === 'failed' || (await observe(provider, row)) === 'gone') {
      await converge(work, provider, row, 'absent')
      row = null
    }
  }
  if (row !== null && row.status !== 'creating') {
    const there = `${ticket} has a machine already: ${row.vmId} on ${row.provider}`
    const started = await start(work, { ticket, by, kind: 'start', replyTo: null })
    return 'skipped' in started ? { skipped: there } : { said: `${there}, which was stopped and runs again` }
  }
  const { baseImage, size } = machineFor(world, ticket, machine)
  if (row === null) {
    const provider = await world.chosenProvider()
    const vmId = vmNameFor(ticket, randomBytes(4).toString('hex'))
    world.registry.begin({
      ticket,
      provider: provider.name,
      vmId,
      baseImage,
      by,
      hostKey: null,
      operation: work.operation,
    })
    row = existing(world, ticket)
  }
  const provider = await world.provider(row.provider)
  try {
    await converge({ ...work, size }, provider, row, 'running')
    await becomeReady(work, provider, row)
  } catch (error) {
    asked.onPhase('undoing')
    await undoCreate(world, provider, row)
    throw error
  }
  return { said: `${ticket} has a machine: ${row.vmId} on ${row.provider}` }
}

const start: Does<'start'> = async (work, { ticket, by }) => {
  const { world } = work
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  const before = await observe(provider, row)
  world.registry.setDesired(ticket, 'running', by)
  const reachable = row.ssh !== null || provider.runInGuest !== undefined
  if (before === 'running' && row.status === 'running' && reachable) return { skipped: `${ticket} is running already` }
  await converge(work, provider, row, 'running')
  await becomeReady(work, provider, row)
  world.registry.setWorkAtRisk(ticket, null)
  return { said: `${ticket} is running` }
}

const stop: Does<'stop'> = async (work, { ticket, by }) => {
  const { world } = work
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  world.registry.setDesired(ticket, 'stopped', by)
  if ((await observe(provider, row)) === 'stopped') {
    world.registry.setStatus(ticket, 'stopped')
    return { skipped: `${ticket} is stopped already` }
  }
  await stopKeepingFinding(work, provider, row)
  return { said: `${ticket} is stopped; its disk and checkpoints are kept` }
}

const checkpoint: Does<'checkpoint'> = async (work, { ticket, name: asked, why, commit, keep = KEPT }) => {
  const { world, operation } = work
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  const earlier = work.asked.actionId === null ? null : world.registry.detailOf(work.asked.actionId)
  const name = asked ?? earlier?.name ?? timestamp(world.clock())
  world.registry.setDetail(operation, { name })
  const there = await adoptCheckpoints(world, provider, row)
  if (there.includes(name)) {
    // An earlier attempt of this very action made it, or it is a push that was seen before.
    if (earlier?.name === name) return { said: `checkpoint ${name} of ${ticket} is made` }
    if (why === 'push') return { skipped: `${ticket} has a checkpoint ${name} already` }
    throw fail('already-exists', `${ticket} has a checkpoint ${name} already`, 'Take another name.')
  }
  if (why === 'push') {
    if (provider.liveCheckpoints !== true)
      return { skipped: `${provider.name} cannot make a checkpoint without stopping the machine` }
    if ((await observe(provider, row)) !== 'running') return { skipped: `${ticket} is not running` }
  }
  await makeCheckpoint(work, provider, row, { name, why, commit })
  if (why === 'push' && provider.deleteCheckpoint !== undefined) {
    const pushes = world.registry.checkpoints(ticket).filter(one => one.why === 'push')
    const oldest = keep.days === null ? '' : new Date(world.clock().getTime() - keep.days * DAY_MS).toISOString()
    for (const old of pushes.filter((one, at) => at < pushes.length - keep.newest || one.createdAt < oldest)) {
      await provider.deleteCheckpoint(row.vmId, old.name)
      world.registry.removeCheckpoint(ticket, old.name)
    }
  }
  return { said: `checkpoint ${name} of ${ticket} is made` }
}

const restore: Does<'restore'> = async (work, { ticket, name: asked, by }) => {
  const { world, operation } = work
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  const earlier = work.asked.actionId === null ? null : world.registry.detailOf(work.asked.actionId)
  const there = await adoptCheckpoints(world, provider, row)
  const name = asked ?? earlier?.name ?? there.findLast(one => !isPreRestore(one)) ?? null
  if (name === null)
    throw fail(
      'no-such-checkpoint',
      `${ticket} has no checkpoint to restore`,
      `Make one: agent-swarm checkpoint ${ticket} [name]`,
    )
  if (!there.includes(name)) throw noSuchCheckpoint(ticket, name, there)
  const keptAs = earlier?.keptAs ?? `pre-restore-${timestamp(world.clock())}`
  world.registry.setDetail(operation, { name, keptAs })
  if (!there.includes(keptAs))
    await makeCheckpoint(work, provider, row, { name: keptAs, why: 'before restore', commit: null })
  work.asked.onPhase('restore')
  await provider.restore(row.vmId, name)
  if ((await observe(provider, row)) === 'running') {
    world.registry.setDesired(ticket, 'running', by)
    await becomeReady(work, provider, row)
  } else {
    world.registry.setDesired(ticket, 'stopped', by)
    world.registry.setStatus(ticket, 'stopped')
    world.registry.setAddress(ticket, null)
  }
  // What was found before is about another state of the disk.
  world.registry.setWorkAtRisk(ticket, null)
  return {
    said: `${ticket} is back at ${name}; what it replaced is kept as ${keptAs}. What has left the machine stays as it is: pushed commits, sent messages`,
  }
}

const deleteCheckpoint: Does<'delete-checkpoint'> = async ({ world, asked, operation }, { ticket, name }) => {
  const row = existing(world, ticket)
  const provider = await world.provider(row.provider)
  if (provider.deleteCheckpoint === undefined)
    throw fail('unsupported', `${provider.name} cannot delete a checkpoint`, 'It goes with its environment.')
  world.registry.setDetail(operation, { name })
  const there = await adoptCheckpoints(world, provider, row)
  if (!there.includes(name)) {
    // An earlier attempt of this very action deleted it.
    if (asked.actionId !== null && world.registry.detailOf(asked.actionId)?.name === name)
      return { said: `checkpoint ${name} of ${ticket} is deleted` }
    throw noSuchCheckpoint(ticket, name, there)
  }
  asked.onPhase('delete checkpoint')
  await provider.deleteCheckpoint(row.vmId, name)
  world.registry.removeCheckpoint(ticket, name)
  return { said: `checkpoint ${name} of ${ticket} is deleted` }
}

/** What is known of the work in a machine that shall be deleted. One that is stopped, with work in it, is started for that. */
const findBeforeDelete = async (work: Work, provider: Provider, row: EnvironmentRow): Promise<Found> => {
  const observed = await observe(provider, row)
  if (observed === 'gone' || observed === 'unmade') return { known: true, repositories: [] }
  if (observed === 'running') return findWorkAtRisk(work, provider, row)
  const earlier = row.workAtRisk
  if (earlier === null) return { known: false, because: 'the machine is stopped, and was not asked before' }
  if (!earlier.known) return earlier
  if (nothingAtRisk(earlier)) return { known: true, repositories: [] }
  work.asked.onPhase('starting it to save its work')
  await converge(work, provider, row, 'running')
  await becomeReady(work, provider, row)
  return findWorkAtRisk(work, provider, row)
}

/** A path of ours as it is told: published too, where nobody needs to know whose home it is. */
const underHome = ({ config }: World, path: string): string => {
  const { HOME } = config.environment
  return HOME !== undefined && path.startsWith(`${HOME}/`) ? `~${path.slice(HOME.length)}` : path
}

/** Null when there was nothing to save; otherwise what was, as a clause. Throws when it is not known, or not saved. */
const saveBeforeDelete = async (work: Work, provider: Provider, row: EnvironmentRow): Promise<string | null> => {
  const { world, asked, by } = work
  const found = await findBeforeDelete(work, provider, row)
  world.registry.setWorkAtRisk(row.ticket, asFinding(found))
  if (nothingAtRisk(found)) return null
  if (!found.known) throw fail('work-at-risk', sayWorkAtRisk(found))
  const { rescue } = await import('./rescue.ts')
  const guest = openGuest(world.run, world.home)
  const folder = await rescue(world, row, found.repositories, {
    by,
    signal: asked.signal,
    onPhase: asked.onPhase,
    stream: (script, into) =>
      guest.stream(provider, row.vmId, script, { into, deadline: SAVE_DEADLINE_MS, signal: asked.signal }),
  })
  return `its unsaved work (${sayWorkAtRisk(found)}) is kept in ${underHome(world, folder)}`
}

const deleteEnvironment: Does<'delete'> = async (work, { ticket, force, by }) => {
  const { world, operation, asked } = work
  const row = world.registry.environment(ticket)
  const earlier = asked.actionId === null ? null : world.registry.detailOf(asked.actionId)
  let kept = earlier?.kept ?? null
  const said = () =>
    `${ticket} is deleted: its machine, its disk and its checkpoints are gone${kept === null ? '' : `; ${kept}`}`
  if (row === null) return kept === null ? { skipped: `${ticket} has no environment` } : { said: said(), kept }
  const provider = await world.provider(row.provider)
  const cleared = asked.actionId !== null && row.status === 'deleting' && row.desired === 'absent'
  if (!force && !cleared) {
    world.registry.setDetail(operation, { force })
    try {
      kept = await saveBeforeDelete(work, provider, row)
    } catch (error) {
      const { kind, message } = failureOf(error, 'saving its work')
      if (asked.signal.aborted || kind === 'cancelled') throw error
      world.registry.setDesired(ticket, 'stopped', by)
      await shutDown(work, provider, row)
      const risk = world.registry.environment(ticket)?.workAtRisk ?? null
      const what =
        risk?.known === true && !nothingAtRisk(risk) ? `${sayWorkAtRisk(risk)}, which could not be saved: ` : ''
      throw fail(
        'work-at-risk',
        `${ticket} is kept and stopped: ${what}${message}`,
        `agent-swarm start ${ticket} to look after it, or agent-swarm delete ${ticket} --force (on the pull request: /swarm delete --force).`,
        error,
      )
    }
  }
  // From here on the delete is decided: after a crash it goes on without asking again.
  world.registry.setDetail(operation, { force, ...(kept === null ? {} : { kept }) })
  world.registry.setDesired(ticket, 'absent', by)
  world.registry.setStatus(ticket, 'deleting')
  try {
    await converge(work, provider, row, 'absent')
  } catch (error) {
    if (!asked.signal.aborted) throw error
    // Who lets go of it now does not want half a machine either.
    await provider.deleteVm(row.vmId)
    forget(world, row)
  }
  return { said: said(), kept: kept ?? undefined }
}

const status: Does<'status'> = async ({ world }, { ticket }) => {
  const row = world.registry.environment(ticket)
  if (row === null) return { said: `${ticket} has no environment` }
  const provider = await world.provider(row.provider)
  const observed = await observe(provider, row)
  if (observed === 'gone') return { said: `${ticket}: its machine ${row.vmId} is gone, and nothing here deleted it` }
  if (observed !== 'unmade' && observed !== 'creating' && ['running', 'stopped', 'lost'].includes(row.status))
    world.registry.setStatus(ticket, observed)
  await adoptCheckpoints(world, provider, row)
  return { said: `${ticket} is ${observed}` }
}

const does = {
  create,
  start,
  stop,
  checkpoint,
  restore,
  'delete-checkpoint': deleteCheckpoint,
  delete: deleteEnvironment,
  status,
} satisfies {
  [Kind in ActionKind]: Does<Kind>
}

/** The end of every operation. That a file for ssh could not be brought up to date is told, and fails nothing. */
const endOperation = (
  world: World,
  { id, onPhase }: { id: number; onPhase: (phase: string) => void },
  result: NonNullable<OperationRow['result']>,
  outcome: Outcome | null,
): void => {
  try {
    keepSshConfig(world)
  } catch (error) {
    const { message, remedy } = failureOf(error, 'keeping the hosts for ssh')
    onPhase([message, remedy].filter(Boolean).join('. '))
  }
  world.registry.endOperation(id, world.clock().toISOString(), result, outcome)
}

// ── After a crash ──────────────────────────────────────────────────────────────────────────────────────────────────

/** What becomes of an operation whose process died in it. `same`: the action that goes on now is that one. */
const settleInterrupted = async (world: World, operation: OperationRow, same: boolean): Promise<void> => {
  const row = world.registry.environment(operation.ticket)
  if (row !== null && !same) {
    const provider = await world.provider(row.provider)
    const observed = await observe(provider, row)
    if (row.status === 'creating') await undoCreate(world, provider, row)
    else if (row.desired === 'absent' && row.status === 'deleting') {
      await provider.deleteVm(row.vmId)
      forget(world, row)
    } else if (observed === 'running' || observed === 'stopped') {
      world.registry.setStatus(row.ticket, observed)
      await adoptCheckpoints(world, provider, row)
    }
  }
  const { id } = operation
  const onPhase = (phase: string) => world.registry.addPhase(id, { phase, at: world.clock().toISOString() })
  endOperation(world, { id, onPhase }, 'interrupted', null)
}

/**
 * Settles what other processes left when they died: called at every start of a runner and before every changing command
 * of the CLI. An operation of the queue is left to the queue, which hands its action out again (`queueToo` false).
 */
export const sweep = async (world: World, { queueToo }: { queueToo: boolean }): Promise<void> => {
  if (existsSync(join(world.home, 'rescued'))) {
    const { sweepRescues } = await import('./rescue.ts')
    await sweepRescues(world.home, (ticket, work) => ifUnlocked(world.home, ticket, work))
  }
  for (const operation of world.registry.openOperations()) {
    if (operation.actionId !== null && !queueToo) continue
    await ifUnlocked(world.home, operation.ticket, async () => {
      const still = world.registry.openOperations(operation.ticket).find(one => one.id === operation.id)
      if (still !== undefined) await settleInterrupted(world, still, false)
    })
  }
}

// ── The door ───────────────────────────────────────────────────────────────────────────────────────────────────────

const perform = (work: Work, action: Action): Promise<Result> =>
  // The table's type says that each kind gets its own action.
  (does[action.kind] as (work: Work, action: Action) => Promise<Result>)(work, action)

/** People win: what somebody did here after that which asks for the action holds, whether the bot knew of it or not. */
const byHandSince = ({ registry }: World, { ticket, at }: Action): Result | null => {
  const last = at === undefined ? undefined : registry.askedByHand(ASKED_TOLD).find(one => one.ticket === ticket)
  return last !== undefined && at !== undefined && Date.parse(last.at) > Date.parse(at)
    ? { skipped: `${last.by.who ?? 'somebody'} asked for ${last.kind} by hand after that` }
    : null
}

/** How things stand when somebody let go of an action. */
const afterCancel = {
  create: 'what it had made is removed',
  start: 'the machine may still be coming up',
  stop: 'the machine may still be shutting down',
  checkpoint: 'no checkpoint is left of it',
  restore: 'the machine is as it was, or as it was kept: agent-swarm checkpoints tells',
  'delete-checkpoint': 'the checkpoint may be gone: agent-swarm checkpoints tells',
  delete: 'the machine is still there',
  status: 'nothing was changed',
} satisfies Record<ActionKind, string>

/** A create of a machine that is there already starts it. */
export const doing = <Kind extends ActionKind>(
  kind: Kind,
  environment: Pick<Environment, 'status'> | null,
): Kind | 'start' => (kind === 'create' && environment !== null && environment.status !== 'creating' ? 'start' : kind)

export const execute = async (world: World, action: Action, caller: Asked): Promise<Outcome> => {
  const { ticket } = action
  const began = performance.now()
  const now = () => world.clock().toISOString()
  const environment = () => {
    const row = world.registry.environment(ticket)
    return row === null ? null : environmentOf(world, row, world.clock())
  }
  let waiting: number | null = null
  const noLongerWaiting = () => {
    if (waiting !== null) world.registry.endWaiting(waiting)
    waiting = null
  }
  const locked = async (): Promise<Outcome> => {
    noLongerWaiting()
    const known = caller.actionId === null ? null : world.registry.outcomeOf(caller.actionId)
    if (known !== null) return known
    for (const open of world.registry.openOperations(ticket)) {
      await settleInterrupted(world, open, open.actionId !== null && open.actionId === caller.actionId)
    }
    const operation = world.registry.startOperation({
      actionId: caller.actionId,
      correlation: caller.correlation,
      ticket,
      kind: action.kind,
      by: action.by,
      at: now(),
    })
    const asked: Asked = {
      ...caller,
      onPhase: phase => {
        world.registry.addPhase(operation, { phase, at: now() })
        caller.onPhase(phase)
      },
    }
    let outcome: Outcome
    try {
      const later = byHandSince(world, action)
      const result = later ?? (await perform({ world, asked, operation, by: action.by }, action))
      const seconds = Math.round((performance.now() - began) / 100) / 10
      outcome =
        'skipped' in result
          ? { result: 'skipped', because: result.skipped, environment: environment() }
          : {
              result: 'done',
              said: result.said,
              environment: environment(),
              seconds,
              ...(result.kept === undefined ? {} : { kept: result.kept }),
            }
    } catch (error) {
      const failure = failureOf(error, `${action.kind} of ${ticket}`)
      // What was undone in vain says so itself.
      const cancelled = asked.signal.aborted && world.registry.environment(ticket)?.status !== 'failed'
      outcome = {
        result: 'failed',
        failure: cancelled
          ? {
              kind: 'cancelled',
              message: `${action.kind} of ${ticket}: cancelled; ${afterCancel[doing(action.kind, environment())]}`,
              remedy: null,
            }
          : failure,
        environment: environment(),
      }
    }
    endOperation(world, { id: operation, onPhase: asked.onPhase }, outcome.result, outcome)
    return outcome
  }
  try {
    return await withTicketLock(
      world.home,
      ticket,
      {
        signal: caller.signal,
        onWait: () => {
          waiting = world.registry.beginWaiting({
            ...{ pid: process.pid, ticket, kind: action.kind, by: action.by, since: now() },
          })
          caller.onPhase(WAITING)
        },
      },
      locked,
    )
  } catch (error) {
    return { result: 'failed', failure: failureOf(error, `${action.kind} of ${ticket}`), environment: null }
  } finally {
    noLongerWaiting()
  }
}
