import { startBot } from '../../bot/index.ts'
import { DRY_RUN_NOTE, dryRunShow } from '../dry-run.ts'
import { restoreDatabases } from '../from-backup.ts'
import { openServerLog, serveUntil } from '../serve.ts'
import { sourcesText } from '../sources.ts'
import { printNote, type RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  const log = openServerLog(config)
  await restoreDatabases(invocation, config, ['bot.db'], log)
  const show = dryRunShow(invocation)
  const bot = await startBot(config, log, { show })
  printNote(sourcesText(config), invocation.terminal)
  printNote(`The bot listens on ${bot.url}`, invocation.terminal)
  if (show !== null) printNote(DRY_RUN_NOTE, invocation.terminal)
  return serveUntil(invocation.signal, log, () => bot.close())
}
