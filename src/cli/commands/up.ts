import { randomBytes } from 'node:crypto'
import { startBot } from '../../bot/index.ts'
import { logCommands } from '../../runner/command-log.ts'
import { openRunnerContext } from '../../runner/context.ts'
import { startRunner } from '../../runner/runner.ts'
import { DRY_RUN_SAYS, dryRun } from '../dry-run.ts'
import { logOf, untilEnded, version } from '../serve.ts'
import { printNote, type RunCommand } from '../terminal/output.ts'
import { watching } from '../watching.ts'

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  const token = config.runnerToken ?? randomBytes(32).toString('hex')
  const log = logOf(config, token)
  const show = dryRun(invocation)
  const bot = await startBot(config, log, { runnerToken: token, show })
  printNote(watching(config))
  if (show !== null) {
    printNote(`The bot listens on ${bot.url}, and no runner works`)
    printNote(DRY_RUN_SAYS)
    return untilEnded(invocation.signal, log, () => bot.close())
  }
  const world = openRunnerContext(config, { onCommand: logCommands(log) })
  const runner = await startRunner(world, { botUrl: bot.url, token, version: version(), log })
  printNote(`The bot listens on ${bot.url}, and its runner works on this machine`)
  return untilEnded(invocation.signal, log, async () => {
    await runner.close()
    await bot.close()
    world.close()
  })
}
