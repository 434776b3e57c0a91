import { randomBytes } from 'node:crypto'
import { startBot } from '../../bot/index.ts'
import { logCommands } from '../../runner/command-log.ts'
import { openRunnerContext } from '../../runner/context.ts'
import { startRunner } from '../../runner/runner.ts'
import { DRY_RUN_NOTE, dryRunShow } from '../dry-run.ts'
import { openServerLog, serveUntil, version } from '../serve.ts'
import { sourcesText } from '../sources.ts'
import { printNote, type RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  // Of this runner alone. The configured one is for a runner on another host.
  const token = randomBytes(32).toString('hex')
  const log = openServerLog(config, token)
  const show = dryRunShow(invocation)
  const bot = await startBot(config, log, { runnerToken: token, show })
  printNote(sourcesText(config), invocation.terminal)
  if (show !== null) {
    printNote(`The bot listens on ${bot.url}, without a runner`, invocation.terminal)
    printNote(DRY_RUN_NOTE, invocation.terminal)
    return serveUntil(invocation.signal, log, () => bot.close())
  }
  const context = openRunnerContext(config, { onCommand: logCommands(log) })
  const runner = await startRunner(context, { botUrl: bot.url, token, version: version(), log })
  printNote(`The bot listens on ${bot.url}, with a runner on this host`, invocation.terminal)
  return serveUntil(invocation.signal, log, async () => {
    await runner.close()
    await bot.close()
    context.close()
  })
}
