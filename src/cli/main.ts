/** The command line: finds the command, checks words and options against its row, runs it, and prints what it throws. */
import { homeIn, secureHome } from '../config/home.ts'
import { failureOf } from '../errors.ts'
import { splitName } from './command.ts'
import { commands } from './command-table.ts'
import { checkWords, commandNamed, commandsOf, parseOptions } from './parse.ts'
import {
  endSignals,
  type Invocation,
  print,
  printFailure,
  printJson,
  printNote,
  type Terminal,
} from './terminal/output.ts'

/** Aborts at Ctrl-C and SIGTERM: running work undoes or finishes itself. The second signal exits at once. */
const interruptSignal = (terminal: Terminal): { signal: AbortSignal; release: () => void } => {
  const controller = new AbortController()
  const interrupt = () => {
    if (controller.signal.aborted) {
      printNote('\nExiting now. The next command or the runner recovers the interrupted operation.', terminal)
      process.exit(130)
    }
    controller.abort()
  }
  const signals = endSignals(terminal.platform)
  for (const signal of signals) terminal.on(signal, interrupt)
  return {
    signal: controller.signal,
    release: () => {
      for (const signal of signals) terminal.off(signal, interrupt)
    },
  }
}

/** When the reader of a pipe has gone (`list | head`), output is dropped and the work goes on. */
const handleStreamErrors = () => {
  process.stdout.on('error', (error: Error & { code?: string }) => {
    if (error.code === 'EPIPE') return
    printNote(`agent-swarm: writing the output: ${error.message}`)
    process.exit(1)
  })
  // An error of stderr has nowhere to go.
  process.stderr.on('error', () => {})
}

/** `rescued`: not a command, and the beginning of some. */
const isGroup = (name: string) => !Object.hasOwn(commands, name) && commandsOf(name).length > 0

/** Splits off the name of a command, or of a group of two words: `bot runner`. */
const splitWords = (argv: readonly string[]): ReturnType<typeof splitName> => {
  const [name, ...rest] = splitName(commands, argv)
  const group = `${name} ${rest[0] ?? ''}`
  return isGroup(group) ? [group, ...rest.slice(1)] : [name, ...rest]
}

const showHelp = async (name: string | undefined, terminal: Terminal): Promise<number> => {
  const { groupHelp, helpOf, overview } = await import('./help.ts')
  if (name === undefined) print(overview(terminal), terminal)
  else if (isGroup(name)) print(groupHelp(name, terminal), terminal)
  else print(await helpOf(name, await commandNamed(name), terminal), terminal)
  return 0
}

const configFor = (flags: Invocation['flags'], terminal: Terminal) => async () => {
  const { readConfig } = await import('../config/config.ts')
  const settings = { provider: 'provider', port: 'port', host: 'host', botUrl: 'bot-url' }
  const overrides = Object.entries(settings).flatMap(([setting, flag]) => {
    const value = flags[flag]
    return typeof value === 'string' ? [[setting, value]] : []
  })
  return readConfig(Object.fromEntries(overrides), terminal.env)
}

/** `--home`: a program that starts it may have no AGENT_SWARM_HOME to give. */
const inHome = ({ home }: Invocation['flags'], terminal: Terminal): Terminal => {
  if (typeof home !== 'string') return terminal
  const { stdin, stdout, stderr, env, platform } = terminal
  const [on, off] = [terminal.on.bind(terminal), terminal.off.bind(terminal)]
  return { stdin, stdout, stderr, platform, on, off, env: { ...env, AGENT_SWARM_HOME: home } }
}

/** What a failure needs to be printed, as far as the command line was read. */
type Reading = { name: string; words: string[]; json: boolean }

const run = async (name: string, args: string[], given: Terminal, reading: Reading): Promise<number> => {
  if (isGroup(name) && (args[0] === '--help' || args[0] === '-h')) return showHelp(name, given)
  const command = await commandNamed(name)
  const { words, flags } = await parseOptions(args, name, command)
  if (flags.help === true) return showHelp(name, given)
  Object.assign(reading, { name, words, json: flags.json === true })
  checkWords(words, name, command)
  if (typeof flags.log === 'string') (await import('./log-into.ts')).logInto(flags.log)
  const terminal = inHome(flags, given)
  // A completion says nothing, changes nothing, and reads only a home of its own user.
  const notice = name === 'completion' ? null : secureHome(homeIn(terminal.env))
  if (notice !== null) printNote(notice, terminal)
  if (process.platform === 'win32' && name !== 'completion') {
    const [{ makePrivateHome }, { openRun }] = await Promise.all([import('../access-list.ts'), import('../exec.ts')])
    await makePrivateHome(openRun(terminal.env), homeIn(terminal.env))
  }
  const { run } = await command.load()
  const { signal, release } = interruptSignal(terminal)
  try {
    return await run({
      ...{ words, flags, terminal, signal, json: reading.json },
      config: configFor(flags, terminal),
      quiet: flags.quiet === true,
      verbose: flags.verbose === true,
    })
  } finally {
    release()
  }
}

/** Returns the exit code: 0 done, 1 failed, 2 wrong usage, or that of a command run in a machine. */
export const main = async (argv: string[], terminal: Terminal = process): Promise<number> => {
  if (terminal === process) handleStreamErrors()
  const [name, ...args] = splitWords(argv)
  const reading: Reading = { name: name ?? '', words: [], json: false }
  try {
    if (name === undefined) {
      await showHelp(undefined, terminal)
      return 2
    }
    if (name === 'help') return await showHelp(splitWords(args)[0], terminal)
    if (name === '--help' || name === '-h') return await showHelp(undefined, terminal)
    return await run(name, args, terminal, reading)
  } catch (error) {
    const { withHints } = await import('./known.ts')
    const failure = await withHints(terminal.env, failureOf(error, reading.name), reading.words[0]?.toUpperCase() ?? '')
    if (reading.json) printJson<'error'>({ error: failure }, terminal)
    printFailure(reading.name, failure, terminal)
    return failure.kind === 'usage' ? 2 : 1
  }
}
