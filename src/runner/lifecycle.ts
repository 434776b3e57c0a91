/** The lifecycle as one table: what is wanted × what is seen → the next step. Every pair is defined. */
import type { VmStatus } from '../../providers/provider.ts'

export type Desired = 'running' | 'stopped' | 'absent'
/** `unmade`: its row is there, the machine never came to be. `gone`: it was there, and the hypervisor no longer has it. */
export type Observed = VmStatus | 'unmade' | 'gone'
/** `forget`: remove the row. `lose`: mark the environment lost, and tell. `wait`: the hypervisor is at it. */
export type Step = 'create' | 'start' | 'stop' | 'delete' | 'forget' | 'lose' | 'wait' | 'none'

export const nextStep = {
  running: { unmade: 'create', gone: 'lose', creating: 'wait', stopped: 'start', running: 'none' },
  stopped: { unmade: 'forget', gone: 'lose', creating: 'wait', stopped: 'none', running: 'stop' },
  absent: { unmade: 'forget', gone: 'forget', creating: 'delete', stopped: 'delete', running: 'delete' },
} as const satisfies Record<Desired, Record<Observed, Step>>
