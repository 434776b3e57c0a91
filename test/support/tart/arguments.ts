/**
 * The command line of `tart`, as swift-argument-parser reads it by the table of flags (flags.json, of Tart 2.35.0): what is not in the
 * table is refused with 64, `Error: TEXT` and a usage text.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { spring } from './store.ts'

type Option = { type: string; short?: string }
type Row = { arguments: { name: string; type: string }[]; options: Record<string, Option>; flags: string[] }
const table = JSON.parse(readFileSync(join(import.meta.dirname, 'flags.json'), 'utf8')) as {
  tart: string
  commands: Record<string, Row>
}
export const VERSION = table.tart

export type Given = { command: string; words: string[]; options: Record<string, string[]>; flags: Set<string> }

/** Of a wrong command line, and of Tart's own validation. */
export const usageError = (text: string, command: string | null): never => {
  const name = command === null ? 'tart' : `tart ${command}`
  const usage = `Usage: ${name}${command === null ? ' <subcommand>' : ' <arguments>'}`
  process.stderr.write(`Error: ${text}\n${usage}\n  See '${name} --help' for more information.\n`)
  process.exit(64)
}

const INTEGER = /^U?Int\d*\??$/
const MOST: Readonly<Record<string, bigint>> = { UInt16: 65_535n, Int32: 2n ** 31n - 1n, UInt64: 2n ** 64n - 1n }

const checkValue = (command: string, name: string, { type }: Option, value: string): void => {
  if (!INTEGER.test(type)) return
  const most = MOST[type.replace('?', '')] ?? 2n ** 63n
  if (!/^-?\d+$/.test(value) || (type.startsWith('U') && value.startsWith('-')) || BigInt(value) > most)
    usageError(`The value '${value}' is invalid for '${name} <${name.slice(2)}>'`, command)
}

export const readArguments = (argv: readonly string[]): Given => {
  const [command = '', ...rest] = argv
  const row = table.commands[command]
  if (row === undefined) {
    spring('a command that Tart does not have is refused')
    return usageError(`Unexpected argument '${command}'`, null)
  }
  const flags = new Set(row.flags.flatMap(text => text.replace(' (hidden)', '').split(' / ')))
  const short = new Map(Object.entries(row.options).flatMap(([name, { short: s }]) => (s ? [[s, name] as const] : [])))
  const given: Given = { command, words: [], options: {}, flags: new Set() }
  for (let at = 0; at < rest.length; at += 1) {
    const word = rest[at] ?? ''
    if (!word.startsWith('-') || word === '-') {
      given.words.push(word)
      continue
    }
    const [typed = '', attached] = word.startsWith('--') ? word.split(/=(.*)/s) : [word]
    const name = short.get(typed) ?? typed
    const option = row.options[name]
    if (option !== undefined) {
      const value = attached ?? rest[at + 1]
      // A value that begins with a hyphen is taken for the next flag.
      if (value === undefined || (attached === undefined && value.startsWith('-')))
        return usageError(`Missing value for '${name} <${name.slice(2)}>'`, command)
      if (attached === undefined) at += 1
      checkValue(command, name, option, value)
      given.options[name] = [...(given.options[name] ?? []), value]
    } else if (flags.has(name) && attached === undefined) given.flags.add(name)
    else {
      spring('a flag that Tart does not have is refused')
      usageError(`Unknown option '${typed}'`, command)
    }
  }
  const many = row.arguments.at(-1)?.type.startsWith('[') === true
  const least = row.arguments.filter(({ type }) => !type.endsWith('?')).length
  const missing = row.arguments[given.words.length]
  if (given.words.length < least && missing !== undefined)
    usageError(`Missing expected argument '<${missing.name}>${many ? ' ...' : ''}'`, command)
  if (!many && given.words.length > row.arguments.length)
    usageError(`Unexpected argument '${given.words[row.arguments.length]}'`, command)
  return given
}
