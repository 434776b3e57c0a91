import type { Config } from '../../config/config.ts'
import { registryFile } from '../../config/home.ts'
import { MIN_SECRET_LENGTH } from '../../config/secrets.ts'
import { careFor } from '../../database-care.ts'
import { fail } from '../../errors.ts'
import { logCommands } from '../../runner/command-log.ts'
import { openRunnerContext } from '../../runner/context.ts'
import { startRunner } from '../../runner/runner.ts'
import { restoreDatabases } from '../from-backup.ts'
import { openServerLog, serveUntil, version } from '../serve.ts'
import { printNote, type RunCommand } from '../terminal/output.ts'

/** Throws `not-configured` when it cannot reach the bot. */
export const requireBot = ({ botUrl, runnerToken }: Pick<Config, 'botUrl' | 'runnerToken'>) => {
  if (botUrl === null || runnerToken === null) {
    const missing = [
      ...(botUrl === null ? ['AGENT_SWARM_BOT_URL'] : []),
      ...(runnerToken === null ? ['AGENT_SWARM_RUNNER_TOKEN'] : []),
    ]
    throw fail(
      'not-configured',
      `starting the runner: ${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing`,
      "Set them to the bot's address and to this runner's token, which agent-swarm bot runner add NAME prints on the bot's host. For bot and runner on one host: agent-swarm up.",
    )
  }
  if (runnerToken.length < MIN_SECRET_LENGTH)
    throw fail(
      'not-configured',
      `starting the runner: AGENT_SWARM_RUNNER_TOKEN has ${runnerToken.length} characters; it needs at least ${MIN_SECRET_LENGTH}`,
      "Make one on the bot's host: agent-swarm bot runner add NAME",
    )
  return { botUrl, runnerToken }
}

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  const { botUrl, runnerToken } = requireBot(config)
  const log = openServerLog(config)
  await restoreDatabases(invocation, config, ['registry.db'], log)
  const care = careFor(registryFile(config.home), { clock: Date.now, log })
  const context = openRunnerContext(config, { onCommand: logCommands(log) })
  const runner = await startRunner(context, { botUrl, token: runnerToken, version: version(), log })
  printNote(`The runner takes work from ${botUrl}`, invocation.terminal)
  return serveUntil(invocation.signal, log, async () => {
    care.close()
    await runner.close()
    context.close()
  })
}
