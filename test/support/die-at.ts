/** A process that executes one action and is killed (-9) at a phase: `die-at.ts HOME PHASE ACTION-ID ACTION`. */
import { openRunnerContext } from '../../src/runner/context.ts'
import { execute } from '../../src/runner/executor.ts'
import type { Action } from '../../src/schema/action.ts'
import { configFor } from './context.ts'

const [home = '', phase, actionId = '', action = ''] = process.argv.slice(2)
const outcome = await execute(openRunnerContext(await configFor(home)), JSON.parse(action) as Action, {
  actionId: actionId === '' ? null : actionId,
  correlation: null,
  signal: new AbortController().signal,
  onPhase: reached => {
    if (reached === phase) process.kill(process.pid, 'SIGKILL')
  },
})
process.stdout.write(JSON.stringify(outcome))
