/** What differs between the registry and the hypervisors, and the step that each difference needs. Pure. */
import type { Leftover, VmInfo } from '../../../providers/provider.ts'
import { attemptOf, type ProviderName, type Ticket } from '../../domain.ts'
import type { MachineRow } from '../../registry/machines.ts'
import type { EnvironmentRow, PoolMachine } from '../../registry/registry.ts'
import type { OperationRow } from '../../schema/operation.ts'
import { nextStep, type Observed, observedIn, recoveryStep } from '../lifecycle.ts'

/** What is done, by its name in the code; `keep` and `wait` do nothing. */
const steps = {
  recover: 'end the operation, and record what the machine is',
  undo: 'remove what the create left',
  delete: 'finish the delete',
  start: 'start it',
  resume: 'resume it',
  stop: 'look for unsaved work, and shut it down',
  lose: 'mark it lost, and tell it on the ticket',
  forget: 'remove its row',
  record: 'record it',
  mark: 'write the ticket into the mark',
  dismiss: 'save its unsaved work, and delete it',
  adopt: 'adopt it',
  'remove-temporary': 'delete its machine',
  'remove-waiting': 'remove its row',
  wait: 'none yet: the queue of the bot gives the action out again',
  keep: 'none: it is kept',
} as const
export type StepKind = keyof typeof steps

/** `does`: the step. `finding` and `step` are for people: phrases without a full stop. */
export type Found = {
  ticket: Ticket | null
  vmId: string | null
  provider: ProviderName | null
  finding: string
  step: string
  does: StepKind
}
type Subject = Pick<Found, 'ticket' | 'vmId' | 'provider'>

const found = ({ ticket, vmId, provider }: Subject, does: StepKind, finding: string, more = ''): Found => ({
  ...{ ticket, vmId, provider, finding, does },
  step: `${steps[does]}${more}`,
})

/** `isLeftToQueue`: the bot's queue gives its action out again. */
export type Interrupted = Pick<OperationRow, 'kind' | 'detail'> & { isLeftToQueue: boolean }
/** Of one ticket. `interrupted`: its operations whose process died. `hasDisk`: a machine that is gone left its disk. */
export type TicketView = {
  row: EnvironmentRow
  vm: VmInfo | undefined
  interrupted: readonly Interrupted[]
  hasDisk: boolean
  canAssign: boolean
  /** Why a machine that is gone ended, as far as its hypervisor knows. */
  ending?: string | undefined
}

const interruptedFinding = ({ row, interrupted }: TicketView): Found | null => {
  const [first] = interrupted
  if (first === undefined) return null
  const finding = `its ${first.kind} was interrupted: the process died`
  if (interrupted.some(({ isLeftToQueue }) => isLeftToQueue)) return found(row, 'wait', finding)
  const step = recoveryStep(row, first)
  return found(row, step === 'record' ? 'recover' : step, finding)
}

/** A delete that failed was reported, and people may have gone on working. */
const unfinishedDelete = ({ row, hasDisk }: TicketView, observed: Observed): Found =>
  observed === 'gone' && !hasDisk
    ? found(row, 'forget', 'its delete did not finish, and its machine is gone now')
    : found(row, 'keep', 'its delete did not finish', `; try again: agent-swarm delete ${row.ticket}`)

/** Of a ticket that has no machine. */
export const findingsWithoutRow = (ticket: Ticket, interrupted: readonly Interrupted[]): Found[] => {
  const [first] = interrupted
  if (first === undefined) return []
  const isLeft = interrupted.some(({ isLeftToQueue }) => isLeftToQueue)
  const subject = { ticket, vmId: null, provider: null }
  return [found(subject, isLeft ? 'wait' : 'recover', `a ${first.kind} was interrupted: the process died`)]
}

/** By the table of the lifecycle. */
const lifecycleFinding = (view: TicketView): Found | null => {
  const { row, vm, ending } = view
  if (row.status === 'creating' || row.status === 'failed')
    return found(row, 'undo', 'its create did not finish, and it never answered')
  const observed = observedIn(row, vm)
  // The machine of the ticket itself is never the one that goes.
  if (row.dismissed === true && attemptOf(row.ticket) !== null)
    return found(row, 'dismiss', 'another attempt became the machine of its ticket')
  if (row.desired === 'absent') return unfinishedDelete(view, observed)
  switch (nextStep[row.desired][observed]) {
    case 'lose':
      return row.status === 'lost'
        ? null
        : found(
            row,
            'lose',
            `its machine no longer exists, and agent-swarm did not delete it${ending === undefined ? '' : ` (${ending})`}`,
          )
    case 'start':
      return found(row, 'start', 'it is stopped, and nobody stopped it: it should run')
    case 'resume':
      return found(row, 'resume', `it is paused (${vm?.paused}), and nobody paused it`)
    case 'stop':
      return found(row, 'stop', 'it runs, and it should be stopped')
    default:
      return null
  }
}

/** The hypervisor takes the machine back by itself: nobody can do anything about it but to save what it holds. */
const takenFinding = ({ row, vm }: TicketView): Found | null => {
  if (vm?.interruption === undefined) return null
  const { state, by, cause, next } = vm.interruption
  return state === 'announced'
    ? found(
        row,
        'keep',
        `${by} stops it within minutes (${cause})`,
        `; ${next}; to keep its disk as it is now: agent-swarm checkpoint ${row.ticket}`,
      )
    : found(row, 'keep', `${by} stopped it (${cause})`, `; ${next}`)
}

const addressFinding = ({ row, vm }: TicketView): Found | null => {
  if (vm?.status !== 'running' || row.status !== 'running' || vm.ip === null || vm.ip === row.ssh?.host) return null
  return found(row, 'record', `its address is ${vm.ip}, and the registry has ${row.ssh?.host ?? 'none'}`)
}
const stateFinding = ({ row, vm }: TicketView): Found | null => {
  if (vm === undefined || vm.status === 'creating' || vm.status === row.status) return null
  return found(row, 'record', `it is ${vm.status}, and the registry says ${row.status}`)
}
const markFinding = ({ row, vm, canAssign }: TicketView): Found | null =>
  vm === undefined || vm.ticket === row.ticket || !canAssign
    ? null
    : found(row, 'mark', `its mark names ${vm.ticket ?? 'no ticket'}`)

/** What one ticket needs, in this order. A step of the lifecycle brings state and address up to date by itself. */
export const findingsOfTicket = (view: TicketView): Found[] => {
  const first = interruptedFinding(view) ?? lifecycleFinding(view)
  if (first !== null && first.does !== 'keep') return [first]
  const differences =
    first === null ? [takenFinding(view), stateFinding(view) ?? addressFinding(view), markFinding(view)] : [first]
  return differences.filter(difference => difference !== null)
}

/** One of our machines that no row has. `holder`: the machine that its ticket has. */
export const findingOfMachine = (
  provider: ProviderName,
  { vmId, ticket }: Pick<VmInfo, 'vmId' | 'ticket'>,
  holder: string | null,
): Found => {
  const subject = { ticket, vmId, provider }
  if (ticket === null)
    return found(subject, 'keep', 'a machine of this home without a ticket, which the registry does not know')
  if (holder === null)
    return found(
      subject,
      'adopt',
      'a machine of this home that the registry does not know',
      `: it becomes the machine of ${ticket}`,
    )
  return found(subject, 'keep', `a second machine of ${ticket}, which has ${holder}`)
}

const SEE_PRUNE = '; to see whether it may go: agent-swarm prune'

/** What a machine left that no row has. */
export const findingOfLeftover = (provider: ProviderName, { vmId, hasDisk }: Leftover): Found =>
  found(
    { ticket: null, vmId, provider },
    'keep',
    hasDisk ? 'a disk that no machine has; it may hold work' : 'files of a machine that does not exist',
    SEE_PRUNE,
  )
export const findingOfKey = (vmId: string): Found =>
  found({ ticket: null, vmId, provider: null }, 'keep', 'the host key of a machine that does not exist', SEE_PRUNE)
const WORK = { base: 'the build of an image', selftest: 'a selftest' } as const
/** A machine that its command would have removed. */
export const findingsOfTemporary = ({ vmId, provider, purpose }: MachineRow): Found[] =>
  purpose === 'pool'
    ? []
    : [
        found(
          { ticket: null, vmId, provider },
          'remove-temporary',
          `${WORK[purpose]} was interrupted: the process died`,
        ),
      ]
/** A machine of a pool. `exists`: null when its hypervisor did not answer. */
export const findingsOfPooled = (
  { vmId, provider, pool, state }: Pick<PoolMachine, 'vmId' | 'provider' | 'pool' | 'state'>,
  exists: boolean | null,
): Found[] => {
  const gone = (finding: string) => [found({ ticket: null, vmId, provider }, 'remove-temporary', finding)]
  if (state === 'filling') return gone(`making a ready machine of ${pool} was interrupted: the process died`)
  if (state === 'leaving') return gone(`a ready machine of ${pool} was given up, and not deleted yet`)
  return exists === false && state !== 'claimed' ? gone(`a ready machine of ${pool} no longer exists`) : []
}
export const findingOfWaiting = (ticket: Ticket, kind: string): Found =>
  found({ ticket, vmId: null, provider: null }, 'remove-waiting', `a ${kind} waits whose process is gone`)
