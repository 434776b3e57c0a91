/** A command line becomes a command with its words and options, or a usage failure. */
import { fail } from '../errors.ts'
import { allowedValues, type Command, type Option, usageOf } from './command.ts'
import { commands, commonOptions } from './command-table.ts'
import type { Invocation } from './terminal/output.ts'

// An import of node:util reads every member, and so loads everything behind them.
const { parseArgs } = process.getBuiltinModule('node:util')

/** ` Did you mean create?`, or nothing. Loads its package only after a mistake. */
const didYouMean = async (word: string, candidates: readonly string[]): Promise<string> => {
  const { nearestCommand } = await import('../nearest.ts')
  const near = nearestCommand(word, candidates)
  return near === null ? '' : ` Did you mean ${near}?`
}

/** The commands that begin with this word, for example `rescued list`. */
export const commandsOf = (name: string): string[] =>
  Object.keys(commands).filter(known => known.startsWith(`${name} `))

/** Throws a usage failure for an unknown name. */
export const commandNamed = async (name: string): Promise<Command> => {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command !== undefined) return command
  const longer = commandsOf(name)
  if (longer.length > 0)
    throw fail('usage', `"${name}" is one of ${longer.join(', ')}.`, `Help: agent-swarm ${longer[0]} --help`)
  const hint = await didYouMean(name, [...Object.keys(commands), '--version', '--help'])
  throw fail(
    'usage',
    `Unknown ${name.startsWith('-') ? 'option' : 'command'} "${name}".${hint}`,
    'All commands: agent-swarm --help',
  )
}

const usageLine = (name: string, command: Command) => `Usage: agent-swarm ${usageOf(name, command)}`

/** Throws a usage failure when arguments are missing or left over. */
export const checkWords = (words: readonly string[], name: string, command: Command): void => {
  const missing = command.arguments.filter(({ required }) => required)[words.length]
  if (missing !== undefined) throw fail('usage', `Missing argument <${missing.name}>.`, usageLine(name, command))
  const { length } = command.arguments
  if (words.length > length && !command.arguments.some(({ many }) => many))
    throw fail('usage', `Unexpected argument "${words[length]}".`, usageLine(name, command))
}

/** Throws a usage failure for an unknown option, and for a value that is missing, not allowed or not expected. */
export const parseOptions = async (
  args: string[],
  name: string,
  command: Command,
): Promise<Pick<Invocation, 'words' | 'flags'>> => {
  // Of names that are equally near, the common one is suggested.
  const known: Readonly<Record<string, Option>> = { ...commonOptions, ...command.options }
  const usage = usageLine(name, command)
  const options = Object.fromEntries(
    Object.entries(known).map(([flag, { type, short }]) => [flag, short === undefined ? { type } : { type, short }]),
  )
  const { tokens } = parseArgs({ args, allowPositionals: true, options, strict: false, tokens: true })
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(known, token.name) ? known[token.name] : undefined
    if (option === undefined) {
      const flags = Object.keys(options).map(flag => `--${flag}`)
      throw fail('usage', `Unknown option ${token.rawName}.${await didYouMean(token.rawName, flags)}`, usage)
    }
    if (option.type === 'string' && token.value === undefined)
      throw fail('usage', `${token.rawName} needs a value: ${token.rawName} ${option.value ?? 'VALUE'}`, usage)
  }
  try {
    const { positionals, values } = parseArgs({ args, allowPositionals: true, options })
    for (const [flag, value] of Object.entries(values)) {
      const option = known[flag]
      const allowed = option === undefined ? null : await allowedValues(option)
      if (allowed === null || typeof value !== 'string' || allowed.includes(value)) continue
      const hint = await didYouMean(value, allowed)
      throw fail('usage', `--${flag} must be one of ${allowed.join(', ')}, not "${value}".${hint}`, usage)
    }
    return { words: positionals, flags: values as Invocation['flags'] }
  } catch (error) {
    throw fail('usage', error instanceof Error ? error.message : String(error), usage)
  }
}
