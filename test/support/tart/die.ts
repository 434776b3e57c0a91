/**
 * A process that executes one action on Tart and is killed (-9) after its n-th outside command that changes something:
 * `die.ts HOME N ACTION`. It prints the names of those commands when it lives.
 */
import { readConfig } from '../../../src/config/config.ts'
import { openRunnerContext } from '../../../src/runner/context.ts'
import { execute } from '../../../src/runner/executor.ts'
import type { Action } from '../../../src/schema/action.ts'

const [home = '', at = '', action = ''] = process.argv.slice(2)
const commands: string[] = []
const CHANGES = ['clone', 'set', 'rename', 'delete', 'stop', 'create']
/** `start` is the shell that leaves `tart run` behind. */
const nameOf = (program: string, argv: readonly string[]): string | null => {
  if (program === 'kill') return 'power button'
  if (program === '/bin/sh') return argv.includes('run') ? 'start' : null
  return program === 'tart' && CHANGES.includes(argv[0] ?? '') ? (argv[0] ?? null) : null
}
const config = await readConfig({}, { ...process.env, AGENT_SWARM_HOME: home })
const context = openRunnerContext(config, {
  onCommand: ({ program, argv }) => {
    const name = nameOf(program, argv)
    if (name === null) return
    commands.push(name)
    if (commands.length === Number(at)) process.kill(process.pid, 'SIGKILL')
  },
})
const outcome = await execute(context, JSON.parse(action) as Action, {
  ...{ actionId: null, correlation: null, signal: new AbortController().signal, onPhase: () => {} },
})
context.close()
process.stdout.write(JSON.stringify({ commands, outcome }))
