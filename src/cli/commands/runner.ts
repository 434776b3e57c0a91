import { fail } from '../../errors.ts'
import { logCommands } from '../../runner/command-log.ts'
import { openRunnerContext } from '../../runner/context.ts'
import { startRunner } from '../../runner/runner.ts'
import { logOf, untilEnded, version } from '../serve.ts'
import { printNote, type RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  const { botUrl, runnerToken } = config
  if (botUrl === null || runnerToken === null) {
    const missing = [
      ...(botUrl === null ? ['AGENT_SWARM_BOT_URL'] : []),
      ...(runnerToken === null ? ['AGENT_SWARM_RUNNER_TOKEN'] : []),
    ]
    throw fail(
      'not-configured',
      `starting the runner: ${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing`,
      'Set them to where the bot is and to the token that the bot has. On one machine: agent-swarm up.',
    )
  }
  const log = logOf(config)
  const world = openRunnerContext(config, { onCommand: logCommands(log) })
  const runner = await startRunner(world, { botUrl, token: runnerToken, version: version(), log })
  printNote(`The runner asks ${botUrl} for work`)
  return untilEnded(invocation.signal, log, async () => {
    await runner.close()
    world.close()
  })
}
