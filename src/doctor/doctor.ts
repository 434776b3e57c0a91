/** What `agent-swarm doctor` checks. Nothing is changed, here or outside; what is not configured is left out. */
import type { Check } from '../check.ts'
import type { Config } from '../config/config.ts'
import { botRows } from './bot.ts'
import { homeRows } from './home.ts'
import { machineRows } from './machines.ts'
import { runRows } from './rows.ts'
import { runnerRows } from './runner.ts'

/** `signal` ends it. */
export const examine = (config: Config, signal: AbortSignal): Promise<Check[]> =>
  runRows([...homeRows(config), ...machineRows(config), ...runnerRows(config), ...botRows(config)], signal)
