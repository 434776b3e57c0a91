/** Brings registry and hypervisors together: looks at both, and takes each step under its ticket's lock. */
import type { VmInfo } from '../../../providers/provider.ts'
import type { ProviderName, Ticket } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { isProcessAlive } from '../../exec.ts'
import { ifUnlocked } from '../../registry/lock.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { Action } from '../../schema/action.ts'
import type { Failure } from '../../schema/failure.ts'
import { markMachine } from '../actions/move.ts'
import type { RunnerContext } from '../context.ts'
import { executeLocked } from '../executor.ts'
import { openGate } from '../gate.ts'
import { forgetEnvironment, recordObserved, undoCreate } from '../machine.ts'
import { type Caller, type Target, targetOf } from '../operation.ts'
import { recoverInterrupted } from '../recovery.ts'
import { refreshSshConfig } from '../ssh/config-file.ts'
import { removeDeadMachines } from '../temporary-machines.ts'
import { adoptMachine } from './adopt.ts'
import { type Found, findingsOfTicket, type StepKind } from './findings.ts'
import { findingsIn, interruptedOf, type Listings, readListings, type Unread } from './look.ts'

/** What a person reads of a finding. */
type Finding = Pick<Found, 'ticket' | 'vmId' | 'finding' | 'step'>
type StepFailure = Pick<Found, 'ticket' | 'vmId'> & { failure: Failure }
export type Reconciled = { findings: Finding[]; unread: Unread[]; failed: StepFailure[] }
type Options = { signal: AbortSignal; onPhase?: (ticket: Ticket, phase: string) => void }

const by = { via: 'clock', who: null } as const
/** Steps of the lifecycle are actions like any other: journalled, with their unsaved work looked for, and waited for. */
const ACTIONS = { start: 'start', resume: 'start', stop: 'stop', dismiss: 'delete' } as const
const hasAction = (does: StepKind): does is keyof typeof ACTIONS => does in ACTIONS
const DOES_NOTHING: readonly StepKind[] = ['keep', 'wait']
export const changesSomething = ({ does }: Pick<Found, 'does'>): boolean => !DOES_NOTHING.includes(does)

// ── Steps ──

/** A target without an operation: for what changes nothing but the registry, and for what the journal has already. */
const bareTarget = (context: RunnerContext, row: EnvironmentRow, signal: AbortSignal): Promise<Target> => {
  const caller: Caller = { actionId: null, correlation: null, signal, onPhase: () => {} }
  return targetOf({ context, caller, id: 0, by }, row.ticket, row)
}

const record = async ({ context, provider, row }: Target, vm: VmInfo): Promise<void> => {
  const { registry } = context
  const status = vm.status === 'stopped' ? 'stopped' : 'running'
  recordObserved(context, row, status)
  if (status === 'stopped') registry.setAddress(row.ticket, null)
  else if (vm.ip !== null && vm.ip !== row.ssh?.host) registry.setAddress(row.ticket, await provider.sshInfo(row.vmId))
}

const lose = ({ registry }: RunnerContext, { ticket }: EnvironmentRow): void => {
  registry.setStatus(ticket, 'lost')
  registry.setAddress(ticket, null)
}

/** Its delete was decided. What is left of it is no disk. */
const forget = async ({ context, provider, row }: Target): Promise<void> => {
  await provider.deleteVm(row.vmId)
  forgetEnvironment(context, row)
}

const takeAction = async (context: RunnerContext, does: keyof typeof ACTIONS, ticket: Ticket, options: Options) => {
  const kind = ACTIONS[does]
  const common = { ticket, by, replyTo: null }
  const action: Action = kind === 'delete' ? { kind, ...common, force: false } : { kind, ...common }
  const onPhase = (phase: string) => options.onPhase?.(ticket, phase)
  const outcome = await executeLocked(context, action, {
    ...{ actionId: null, correlation: null, signal: options.signal, onPhase },
  })
  // Its work cannot be saved: from here on it is kept. Any other failure may pass.
  if (does === 'dismiss' && outcome.result === 'failed' && outcome.failure.kind === 'unsaved-work')
    context.registry.keep(ticket)
  if (outcome.result === 'failed') throw Object.assign(new Error(outcome.failure.message), { failure: outcome.failure })
}

const take = async (
  context: RunnerContext,
  { does }: Found,
  { row, vm }: { row: EnvironmentRow; vm: VmInfo | undefined },
  options: Options,
): Promise<void> => {
  if (hasAction(does)) return takeAction(context, does, row.ticket, options)
  const target = await bareTarget(context, row, options.signal)
  if (does === 'undo') await undoCreate(target)
  else if (does === 'lose') lose(context, row)
  else if (does === 'forget') await forget(target)
  else if (does === 'mark') await markMachine(target)
  else if (does === 'record' && vm !== undefined) await record(target, vm)
  refreshSshConfig(context)
}

// ── Under a lock ──

const listed = async (context: RunnerContext, provider: ProviderName, vmId: string): Promise<VmInfo | undefined> =>
  (await (await context.provider(provider)).listVms()).find(vm => vm.vmId === vmId)

/** Ends what died, then takes the steps that the ticket needs now. The caller holds its lock. */
const settleTicket = async (context: RunnerContext, ticket: Ticket, options: Options): Promise<void> => {
  const { registry } = context
  const interrupted = interruptedOf(context, ticket).get(ticket) ?? []
  if (interrupted.some(({ isLeftToQueue }) => isLeftToQueue)) return
  for (const operation of interrupted) await recoverInterrupted(context, operation, false)
  const row = registry.environment(ticket)
  if (row === null) return
  const provider = await context.provider(row.provider)
  const vm = await listed(context, row.provider, row.vmId)
  const hasDisk = vm === undefined && (await provider.hasLeftDisk?.(row.vmId)) === true
  const view = { row, vm, interrupted: [], hasDisk, canAssign: provider.assign !== undefined }
  for (const finding of findingsOfTicket(view))
    if (changesSomething(finding)) await take(context, finding, { row, vm }, options)
}

const adopt = async (context: RunnerContext, { ticket, vmId, provider: name }: Found): Promise<void> => {
  if (ticket === null || vmId === null || name === null || context.registry.environment(ticket) !== null) return
  const vm = await listed(context, name, vmId)
  if (vm?.ticket !== ticket) return
  await adoptMachine(context, await context.provider(name), vm, ticket)
  refreshSshConfig(context)
}

const removeDeadWaiting = ({ registry }: RunnerContext): void => {
  for (const { id, pid } of registry.waiting()) if (!isProcessAlive(pid)) registry.endWaiting(id)
}

const removeTemporary = async (context: RunnerContext, { vmId, provider }: Found): Promise<void> => {
  const { registry, clock } = context
  const isPooled = vmId !== null && provider !== null && registry.poolMachine(vmId) !== null
  if (isPooled && (await listed(context, provider, vmId)) === undefined)
    await ifUnlocked(context.home, vmId, async () => registry.leavePool(vmId, clock().toISOString()))
  const [first] = await removeDeadMachines(context)
  if (first !== undefined) throw fail(first.failure.kind, first.failure.message, first.failure.remedy)
}

/** Takes the step of one finding, which is looked at again. Somebody else's lock leaves it for the next time. */
export const takeStep = async (context: RunnerContext, finding: Found, options: Options): Promise<void> => {
  const { ticket, does } = finding
  if (!changesSomething(finding)) return
  if (does === 'remove-waiting') removeDeadWaiting(context)
  else if (does === 'remove-temporary') await removeTemporary(context, finding)
  else if (ticket !== null)
    await ifUnlocked(context.home, ticket, () =>
      does === 'adopt' ? adopt(context, finding) : settleTicket(context, ticket, options),
    )
}

// ── All of them ──

/** Whether nobody works on what the finding is about. */
const isFree = async ({ home }: RunnerContext, { ticket, vmId, does }: Found): Promise<boolean> => {
  const name = does === 'remove-temporary' ? vmId : ticket
  return name === null || (await ifUnlocked(home, name, async () => true)) === true
}

/** What one look finds. What somebody works on is left out. */
export const findAll = async (context: RunnerContext): Promise<Listings & { found: Found[] }> => {
  const listings = await readListings(context)
  const found: Found[] = []
  for (const finding of findingsIn(context, listings)) if (await isFree(context, finding)) found.push(finding)
  return { ...listings, found }
}

const toFinding = ({ ticket, vmId, finding, step }: Found): Finding => ({ ticket, vmId, finding, step })

/** Looks once, and takes all steps, as many at a time as a runner does actions. `dryRun`: takes none. */
export const reconcile = async (
  context: RunnerContext,
  { dryRun, ...options }: Options & { dryRun: boolean },
): Promise<Reconciled> => {
  const { found, unread } = await findAll(context)
  const failed: StepFailure[] = []
  const gate = openGate(context.config.runnerSlots)
  const take = async (finding: Found): Promise<void> => {
    const { ticket, vmId } = finding
    if (options.signal.aborted) return
    await takeStep(context, finding, options).catch(error => {
      failed.push({ ticket, vmId, failure: failureOf(error, `reconciling ${ticket ?? vmId}`) })
    })
  }
  if (!dryRun) await Promise.all(found.map(finding => gate(() => take(finding))))
  return { findings: found.map(toFinding), unread, failed }
}
