/** A process that prunes, and is killed (-9) at a phase: `prune-die.ts HOME PHASE`. */
import { openRunnerContext } from '../../src/runner/context.ts'
import { planPrune, prune } from '../../src/runner/prune/prune.ts'
import { configFor } from './context.ts'

const [home = '', phase] = process.argv.slice(2)
const context = openRunnerContext(await configFor(home))
await prune((await planPrune(context)).prunable, {
  by: { via: 'cli', who: 'tester' },
  signal: new AbortController().signal,
  onPhase: reached => {
    if (reached === phase) process.kill(process.pid, 'SIGKILL')
  },
})
