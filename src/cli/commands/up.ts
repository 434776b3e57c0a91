import { randomBytes } from 'node:crypto'
import { startBot } from '../../bot/index.ts'
import type { Config } from '../../config/config.ts'
import { registryFile } from '../../config/home.ts'
import { careFor } from '../../database-care.ts'
import type { Log } from '../../log.ts'
import { logCommands } from '../../runner/command-log.ts'
import { openRunnerContext, type RunnerContext } from '../../runner/context.ts'
import { startRunner } from '../../runner/runner.ts'
import { DRY_RUN_NOTE, dryRunShow } from '../dry-run.ts'
import { restoreDatabases } from '../from-backup.ts'
import { happening } from '../happenings.ts'
import { openServerLog, serveUntil, version } from '../serve.ts'
import { sourcesText } from '../sources.ts'
import { type Invocation, printNote, type RunCommand, type Terminal } from '../terminal/output.ts'

/** Whoever asks for so much detail reads the whole log. */
const DETAILED = ['debug', 'trace']

const HINT =
  'Move a ticket to In Progress to create its machine, or comment `/swarm help` on its pull request. Ctrl-C ends this.'
const END = 'Ended. Machines keep their state: agent-swarm list shows them.'

/** A terminal shows text; everything else gets lines of the log alone, on every level. */
const openSay = (terminal: Pick<Terminal, 'stderr'>, log: Log) => {
  const always = log.child({}, { level: 'info' })
  return (text: string): void => {
    if (terminal.stderr.isTTY === true) printNote(text, terminal)
    else for (const line of text.split('\n')) always.info(line)
  }
}

const present = ({ logLevel }: Config) => (DETAILED.includes(logLevel) ? undefined : happening)

/** `prepare`: the demo adds its scripted agent. */
export const runUp = async (
  invocation: Invocation,
  prepare: (context: RunnerContext) => RunnerContext,
): Promise<number> => {
  const config = await invocation.config()
  // Of this runner alone. The configured one is for a runner on another host.
  const token = randomBytes(32).toString('hex')
  const log = openServerLog(config, token, present(config))
  const say = openSay(invocation.terminal, log)
  await restoreDatabases(invocation, config, ['bot.db', 'registry.db'], log)
  const show = dryRunShow(invocation)
  if (show !== null) {
    const bot = await startBot(config, log, { runnerToken: token, show })
    say(sourcesText(config))
    say(`The bot listens on ${bot.url}, without a runner`)
    say(DRY_RUN_NOTE)
    return serveUntil(invocation.signal, log, () => bot.close())
  }
  // A registry that cannot be used keeps the bot from taking deliveries that nobody would carry out.
  const care = careFor(registryFile(config.home), { clock: Date.now, log })
  const context = prepare(openRunnerContext(config, { onCommand: logCommands(log) }))
  const bot = await startBot(config, log, { runnerToken: token, checked: care.checked })
  say(sourcesText(config))
  const runner = await startRunner(context, { botUrl: bot.url, token, version: version(), log }).catch(async error => {
    await bot.close()
    throw error
  })
  say(`The bot listens on ${bot.url}, with a runner on this host`)
  say(HINT)
  return serveUntil(invocation.signal, log, async () => {
    care.close()
    await runner.close()
    await bot.close()
    context.close()
    // The terminal has echoed the Ctrl-C.
    if (invocation.terminal.stderr.isTTY === true) printNote('', invocation.terminal)
    say(END)
  })
}

export const run: RunCommand = invocation => runUp(invocation, context => context)
