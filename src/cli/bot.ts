import { startBot } from '../bot/index.ts'
import { type RunCommand, tell } from './command.ts'
import { logOf, untilEnded } from './serve.ts'

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  const log = logOf(config)
  const bot = await startBot(config, log)
  tell(`The bot listens on ${bot.url}`)
  return untilEnded(invocation.signal, log, () => bot.close())
}
