import { startBot } from '../../bot/index.ts'
import { DRY_RUN_SAYS, dryRun } from '../dry-run.ts'
import { logOf, untilEnded } from '../serve.ts'
import { printNote, type RunCommand } from '../terminal/output.ts'
import { watching } from '../watching.ts'

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  const log = logOf(config)
  const show = dryRun(invocation)
  const bot = await startBot(config, log, { show })
  printNote(watching(config))
  printNote(`The bot listens on ${bot.url}`)
  if (show !== null) printNote(DRY_RUN_SAYS)
  return untilEnded(invocation.signal, log, () => bot.close())
}
