/** The way into a command: its words and options are checked against its row, and what it throws is said. */
import { fail, failureOf } from '../errors.ts'
import { type Command, commands, commonOptions, meanings, nameIn, type Option, usageOf } from './command-table.ts'
import { columns, print, printFailure, printJson, printNote } from './terminal/output.ts'

// As in command.ts.
const { parseArgs } = process.getBuiltinModule('node:util')

const help = (): string =>
  [
    'One ticket, one virtual machine.',
    '',
    'Usage: agent-swarm <command> [arguments]',
    '',
    columns(Object.entries(commands).map(([name, command]) => [`  ${usageOf(name, command)}`, command.says])),
    '',
    'agent-swarm <command> --help tells more. Exit status: 0 done, 1 failed, 2 wrong usage.',
  ].join('\n')

const optionRows = (options: Readonly<Record<string, Option>>) =>
  Object.entries(options).map(([flag, { value, values, says, short }]) => [
    `  ${short === undefined ? '' : `-${short}, `}--${flag}${value === undefined ? '' : ` ${value}`}`,
    values === undefined ? says : `${says} One of ${values.join(', ')}.`,
  ])

const argumentRows = (command: Command) => command.arguments.map(({ name, is }) => [`  ${name}`, meanings[is]])

const helpOf = (name: string, command: Command): string =>
  [
    `Usage: agent-swarm ${usageOf(name, command)} [options]`,
    '',
    command.says,
    ...(command.more === undefined ? [] : ['', ...command.more]),
    ...(command.arguments.length === 0 ? [] : ['', 'Arguments:', columns(argumentRows(command))]),
    '',
    'Options:',
    columns(optionRows({ ...command.options, ...commonOptions })),
    '',
    `Example: ${command.example}`,
  ].join('\n')

/** Too few words or too many are wrong usage. */
const checkWords = (words: readonly string[], name: string, command: Command): void => {
  const usage = `agent-swarm ${usageOf(name, command)}`
  const least = command.arguments.filter(one => one.required).length
  const most = command.arguments.some(one => one.many) ? Number.POSITIVE_INFINITY : command.arguments.length
  if (words.length < least) throw fail('usage', `something is missing: ${usage}`)
  if (words.length > most) throw fail('usage', `"${words[most]}" is too much: ${usage}`)
}

/** ` Did you mean create?`, or nothing. Loaded by a mistake alone. */
const didYouMean = async (word: string, candidates: readonly string[]): Promise<string> => {
  const { nearest } = await import('../nearest.ts')
  const near = nearest(word, candidates)
  return near === null ? '' : ` Did you mean ${near}?`
}

/** Ctrl-C and SIGTERM ask to end; what is under way undoes or finishes itself. The second Ctrl-C ends at once. */
const endingSignal = (): AbortSignal => {
  const ending = new AbortController()
  const ask = () => {
    if (ending.signal.aborted) {
      printNote('\nEnded at once. What was left half-done is settled by the next command or the runner.')
      process.exit(130)
    }
    ending.abort()
  }
  process.on('SIGINT', ask)
  process.on('SIGTERM', ask)
  return ending.signal
}

/** One as it is called, or null and a sentence about the nearest. */
const commandNamed = async (name: string): Promise<Command | null> => {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command !== undefined) return command
  const hint = await didYouMean(name, [...Object.keys(commands), '--version', '--help'])
  printNote(
    `agent-swarm: there is no command "${name}".${hint}\nThe commands: ${Object.keys(commands).join(', ')}. More: agent-swarm --help`,
  )
  return null
}

/** Words and options of a call. An option that is not there is wrong usage, as is a value that is missing or too much. */
const parse = async (args: string[], name: string, command: Command) => {
  const known = { ...command.options, ...commonOptions }
  const options = Object.fromEntries(
    Object.entries(known).map(([flag, { type, short }]) => [flag, short === undefined ? { type } : { type, short }]),
  )
  const { tokens } = parseArgs({ args, allowPositionals: true, options, strict: false, tokens: true })
  const usage = `Usage: agent-swarm ${usageOf(name, command)}`
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(known, token.name) ? known[token.name] : undefined
    if (option?.type === 'string' && token.value === undefined)
      throw fail('usage', `${token.rawName} needs a value: ${token.rawName} ${option.value ?? 'VALUE'}`, usage)
    if (option !== undefined) continue
    const flags = Object.keys(options).map(flag => `--${flag}`)
    const hint = await didYouMean(token.rawName, flags)
    throw fail('usage', `there is no option ${token.rawName}.${hint}`, usage)
  }
  try {
    const { positionals, values } = parseArgs({ args, allowPositionals: true, options })
    for (const [flag, given] of Object.entries(values)) {
      const allowed = known[flag]?.values
      if (allowed === undefined || typeof given !== 'string' || allowed.includes(given)) continue
      const hint = await didYouMean(given, allowed)
      throw fail('usage', `--${flag} is one of ${allowed.join(', ')}, and not "${given}".${hint}`, usage)
    }
    return { words: positionals, flags: values as Record<string, string | boolean | undefined> }
  } catch (error) {
    throw fail('usage', error instanceof Error ? error.message : String(error), usage)
  }
}

/** When nobody reads any more (`list | head`), what is left to say is not said, and what is under way goes on. */
const heedStreams = () => {
  process.stdout.on('error', (error: Error & { code?: string }) => {
    if (error.code === 'EPIPE') return
    printNote(`agent-swarm: what was asked for could not be written: ${error.message}`)
    process.exit(1)
  })
  // There is nowhere left to tell it.
  process.stderr.on('error', () => {})
}

export const main = async (argv: string[]): Promise<number> => {
  heedStreams()
  const [name, ...rest] = nameIn(argv)
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const about = name === 'help' ? nameIn(rest)[0] : undefined
    if (about === undefined) {
      print(help())
      return name === undefined ? 2 : 0
    }
    const command = await commandNamed(about)
    if (command === null) return 2
    print(helpOf(about, command))
    return 0
  }
  const command = await commandNamed(name)
  if (command === null) return 2
  let asJson = false
  let words: string[] = []
  try {
    const parsed = await parse(rest, name, command)
    const { flags } = parsed
    words = parsed.words
    if (flags.help === true) {
      print(helpOf(name, command))
      return 0
    }
    asJson = flags.json === true
    checkWords(words, name, command)
    const text = (flag: string) => (typeof flags[flag] === 'string' ? flags[flag] : undefined)
    const { run } = await command.load()
    return await run({
      words,
      flags,
      json: asJson,
      quiet: flags.quiet === true,
      verbose: flags.verbose === true,
      signal: endingSignal(),
      config: async () => {
        const { readConfig } = await import('../config/config.ts')
        const given = { provider: text('provider'), port: text('port'), host: text('host'), botUrl: text('bot-url') }
        return readConfig(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)))
      },
    })
  } catch (error) {
    const { withNearestTicket } = await import('./known.ts')
    const failure = await withNearestTicket(failureOf(error, name), words[0]?.toUpperCase() ?? '')
    if (asJson) printJson<'error'>({ error: failure })
    printFailure(name, failure)
    return failure.kind === 'usage' ? 2 : 1
  }
}
