/** The lifecycle as one table: desired × observed → the next step. Every pair is defined. */
import type { VmInfo, VmStatus } from '../../providers/provider.ts'
import type { Desired, EnvironmentRow } from '../registry/registry.ts'
import type { OperationRow } from '../schema/operation.ts'

/**
 * `unmade`: its row exists, and the machine was never created. `gone`: it existed, and the hypervisor no longer has it. `stuck`: the
 * hypervisor paused it, because its disk was full or an agent-swarm operation died. `held`: a person paused it. `taken`: the
 * hypervisor stopped it by itself, and alone starts it again.
 */
export type Observed = VmStatus | 'unmade' | 'gone' | 'stuck' | 'held' | 'taken'
/** `forget`: remove the row. `lose`: mark the environment lost, and fail. `wait`: the hypervisor is still creating it. */
export type Step = 'create' | 'start' | 'resume' | 'stop' | 'delete' | 'forget' | 'lose' | 'wait' | 'none'

export const nextStep = {
  running: {
    ...{ unmade: 'create', gone: 'lose', creating: 'wait', stopped: 'start', running: 'none' },
    ...{ stuck: 'resume', held: 'none', taken: 'none' },
  },
  stopped: {
    ...{ unmade: 'forget', gone: 'lose', creating: 'wait', stopped: 'none', running: 'stop' },
    ...{ stuck: 'stop', held: 'none', taken: 'none' },
  },
  absent: {
    ...{ unmade: 'forget', gone: 'forget', creating: 'delete', stopped: 'delete', running: 'delete' },
    ...{ stuck: 'delete', held: 'delete', taken: 'delete' },
  },
} as const satisfies Record<Desired, Record<Observed, Step>>

/** `vm`: as the hypervisor lists it; undefined when it does not. */
export const observedIn = ({ status }: Pick<EnvironmentRow, 'status'>, vm: VmInfo | undefined): Observed => {
  if (vm === undefined) return status === 'creating' ? 'unmade' : 'gone'
  if (vm.interruption?.state === 'stopped') return 'taken'
  if (vm.paused === undefined) return vm.status
  return vm.pauseCause === 'disk-full' || vm.pauseCause === 'interrupted' ? 'stuck' : 'held'
}

/** What an operation needs whose process died. `undo`: remove a machine that never answered. `delete`: finish a delete that was decided. */
export const recoveryStep = (
  { status, desired }: Pick<EnvironmentRow, 'status' | 'desired'>,
  { kind, detail }: Pick<OperationRow, 'kind' | 'detail'>,
): 'undo' | 'delete' | 'record' => {
  if (status === 'creating' || (status === 'failed' && kind === 'create')) return 'undo'
  const isDecided = kind === 'delete' && detail?.reached === 'decided'
  return isDecided && desired === 'absent' && status === 'deleting' ? 'delete' : 'record'
}
