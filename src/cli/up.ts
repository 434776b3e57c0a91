import { randomBytes } from 'node:crypto'
import { startBot } from '../bot/index.ts'
import { startRunner } from '../runner/runner.ts'
import { openWorld } from '../runner/world.ts'
import { type RunCommand, tell } from './command.ts'
import { logOf, untilEnded, version } from './serve.ts'

export const run: RunCommand = async invocation => {
  const config = await invocation.config()
  const token = config.runnerToken ?? randomBytes(32).toString('hex')
  const log = logOf(config, token)
  const bot = await startBot(config, log, { runnerToken: token })
  const world = openWorld(config)
  const runner = await startRunner(world, { botUrl: bot.url, token, version: version(), log })
  tell(`The bot listens on ${bot.url}, and its runner works on this machine`)
  return untilEnded(invocation.signal, log, async () => {
    await runner.close()
    await bot.close()
    world.close()
  })
}
