/** A process that executes one action on Tart and is killed (-9) after its n-th outside command: `die.ts HOME N ACTION`. */
import { readConfig } from '../../../src/config/config.ts'
import { openRunnerContext } from '../../../src/runner/context.ts'
import { execute } from '../../../src/runner/executor.ts'
import type { Action } from '../../../src/schema/action.ts'

const [home = '', at = '', action = ''] = process.argv.slice(2)
let commands = 0
const config = await readConfig({}, { ...process.env, AGENT_SWARM_HOME: home })
const context = openRunnerContext(config, {
  onCommand: () => {
    commands += 1
    if (commands === Number(at)) process.kill(process.pid, 'SIGKILL')
  },
})
const outcome = await execute(context, JSON.parse(action) as Action, {
  ...{ actionId: null, correlation: null, signal: new AbortController().signal, onPhase: () => {} },
})
context.close()
process.stdout.write(JSON.stringify({ commands, outcome }))
