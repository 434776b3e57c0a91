/** What `agent-swarm doctor` checks. Nothing is changed, here or outside; what is not configured is left out. */
import type { Check } from '../bot/check.ts'
import type { Config } from '../config/config.ts'
import { homeRows } from './home.ts'
import { runRows } from './rows.ts'

/** `signal` ends it. */
export const examine = (config: Config, signal: AbortSignal): Promise<Check[]> => runRows([...homeRows(config)], signal)
