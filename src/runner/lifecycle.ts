/** The lifecycle as one table: desired × observed → the next step. Every pair is defined. */
import type { VmStatus } from '../../providers/provider.ts'
import type { Desired } from '../registry/registry.ts'

/** `unmade`: its row exists, and the machine was never created. `gone`: it existed, and the hypervisor no longer has it. */
export type Observed = VmStatus | 'unmade' | 'gone'
/** `forget`: remove the row. `lose`: mark the environment lost, and fail. `wait`: the hypervisor is still creating it. */
export type Step = 'create' | 'start' | 'stop' | 'delete' | 'forget' | 'lose' | 'wait' | 'none'

export const nextStep = {
  running: { unmade: 'create', gone: 'lose', creating: 'wait', stopped: 'start', running: 'none' },
  stopped: { unmade: 'forget', gone: 'lose', creating: 'wait', stopped: 'none', running: 'stop' },
  absent: { unmade: 'forget', gone: 'forget', creating: 'delete', stopped: 'delete', running: 'delete' },
} as const satisfies Record<Desired, Record<Observed, Step>>
