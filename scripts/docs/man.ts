/** man/agent-swarm.1, of the table of commands: the macros of man(7), in ASCII, so that every man shows it alike. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Command, commands, commonOptions, meanings, type Option, usageOf } from '../../src/cli/command-table.ts'
import { type Setting, settings } from '../../src/config/settings.ts'
import { environment, exitStatuses, files } from './command-line.ts'

/** What roff would make typography of, so that it can be copied. */
const exact: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
  '…': '...',
}
/** Text as roff reads it back: no character of it is a request. */
const plain = (text: string): string =>
  text
    .replaceAll(/[\\\-'`^~…]/g, one => exact[one] ?? one)
    .replaceAll(/[^\n -~]/gu, one => `\\[u${one.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}]`)
    .replaceAll(/^(?=\.)/gm, '\\&')
/** As the argument of a macro. */
const quoted = (text: string) => `"${plain(text).replaceAll('"', '\\(dq')}"`
const bold = (text: string) => `.B ${quoted(text)}`
const listed = (term: string, says: string) => ['.TP', bold(term), plain(says)]
const example = (lines: readonly string[]) => ['.PP', '.nf', '.RS 4', ...lines.map(plain), '.RE', '.fi']

const optionRows = (options: Readonly<Record<string, Option>>) =>
  Object.entries(options).flatMap(([flag, { short, value, values, says }]) =>
    listed(
      `${short === undefined ? '' : `-${short}, `}--${flag}${value === undefined ? '' : ` ${value}`}`,
      values === undefined ? says : `${says} One of ${values.join(', ')}.`,
    ),
  )

const section = (name: string, command: Command): string[] => [
  `.SS ${quoted(usageOf(name, command))}`,
  plain(command.says),
  ...(command.more === undefined ? [] : example(command.more)),
  ...command.arguments.flatMap(one => listed(one.name, meanings[one.is])),
  ...optionRows(command.options),
  '.PP',
  'Example:',
  ...example([command.example]),
]

const version = (): string =>
  JSON.parse(readFileSync(join(resolve(import.meta.dirname, '../..'), 'package.json'), 'utf8')).version

export const manPage = (): string =>
  [
    '.\\" Made by npm run docs, of src/cli/command-table.ts.',
    // No date: it is of a version, and made anew is the same.
    `.TH AGENT\\-SWARM 1 "" ${quoted(`agent-swarm ${version()}`)} "User Commands"`,
    '.SH NAME',
    'agent\\-swarm \\- one ticket, one virtual machine',
    '.SH SYNOPSIS',
    '.B agent\\-swarm',
    '.I command',
    plain('[arguments] [options]'),
    '.SH DESCRIPTION',
    plain(
      'Makes a virtual machine for a ticket, makes checkpoints of it and brings them back, stops, starts and deletes it. A bot does the same as a ticket moves in Jira and a pull request on GitHub. What is under way on one ticket is waited for, whoever asked.',
    ),
    '.PP',
    plain(
      'Options may stand anywhere; -- ends them. Data goes to standard output, progress and errors to standard error. With --json, standard output holds one JSON value and nothing else. Nothing is asked where there is no terminal.',
    ),
    '.SH COMMANDS',
    ...Object.entries(commands).flatMap(([name, command]) => section(name, command)),
    '.SH OPTIONS',
    'Of every command:',
    ...optionRows(commonOptions),
    '.SH EXIT STATUS',
    ...exitStatuses.flatMap(row => listed(...row)),
    '.SH ENVIRONMENT',
    ...environment.flatMap(row => listed(...row)),
    '.PP',
    plain('Every setting of config.yaml is an environment variable as well:'),
    ...Object.entries<Setting>(settings).flatMap(([name, { env, says }]) =>
      environment.some(([one]) => one === env) ? [] : listed(env, `${name}: ${says.replaceAll('`', '')}`),
    ),
    '.SH FILES',
    ...files.flatMap(row => listed(...row)),
    '.SH SEE ALSO',
    '.BR ssh (1),',
    '.BR ssh_config (5),',
    '.BR virsh (1)',
    '',
  ].join('\n')
