/** man/agent-swarm.1, from the table of commands: macros of man(7), in ASCII, so that every man shows the same. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { argumentHelp, type Command, descriptionOf, type Option, optionNames, usageOf } from '../../src/cli/command.ts'
import { commands, commonOptions } from '../../src/cli/command-table.ts'
import { type Setting, settings } from '../../src/config/settings.ts'
import { environment, exitStatuses, files } from './command-line.ts'
import { optionText } from './options.ts'

/** Characters that roff would replace by typographic ones, which cannot be pasted into a shell. */
const escapes: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
  '…': '...',
}
/** Text as roff reads it back: none of it is a request. */
const plain = (text: string): string =>
  text
    .replaceAll(/[\\\-'`^~…]/g, character => escapes[character] ?? character)
    .replaceAll(/[^\n -~]/gu, character => {
      const hex = character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')
      return `\\[u${hex}]`
    })
    .replaceAll(/^(?=\.)/gm, '\\&')
/** Text as the argument of a macro. */
const quoted = (text: string) => `"${plain(text).replaceAll('"', '\\(dq')}"`
const item = (term: string, text: string) => ['.TP', `.B ${quoted(term)}`, plain(text)]
const literal = (lines: readonly string[]) => ['.PP', '.nf', '.RS 4', ...lines.map(plain), '.RE', '.fi']

const optionItems = (options: Readonly<Record<string, Option>>) =>
  Object.entries(options).flatMap(([flag, option]) => item(optionNames(flag, option).join(', '), optionText(option)))

const section = (name: string, command: Command): string[] => [
  `.SS ${quoted(usageOf(name, command))}`,
  plain(descriptionOf(command)),
  ...(command.lines === undefined ? [] : literal(command.lines)),
  ...command.arguments.flatMap(({ name, kind }) => item(name, argumentHelp[kind])),
  ...optionItems(command.options),
  '.PP',
  'Example:',
  ...literal([command.example]),
]

const version = (): string =>
  JSON.parse(readFileSync(join(resolve(import.meta.dirname, '../..'), 'package.json'), 'utf8')).version

const settingItems = (): string[] =>
  Object.entries<Setting>(settings).flatMap(([name, { env, says }]) =>
    env === null || environment.some(([variable]) => variable === env)
      ? []
      : item(env, `${name}: ${says.replaceAll('`', '')}`),
  )

export const manPage = (): string =>
  [
    '.\\" Made by npm run docs, from src/cli/command-table.ts.',
    // No date, so that the same version always makes the same page.
    `.TH AGENT\\-SWARM 1 "" ${quoted(`agent-swarm ${version()}`)} "User Commands"`,
    '.SH NAME',
    'agent\\-swarm \\- one ticket, one virtual machine',
    '.SH SYNOPSIS',
    '.B agent\\-swarm',
    '.I command',
    plain('[arguments] [options]'),
    '.SH DESCRIPTION',
    plain(
      'Creates a virtual machine for a ticket, makes and restores checkpoints of it, starts, stops and deletes it. The bot does the same when the ticket moves in Jira or its pull request changes on GitHub. Commands on the same ticket wait for each other, whoever gave them.',
    ),
    '.PP',
    plain(
      'Options may stand anywhere; -- ends them. Data goes to standard output, progress and errors to standard error. With --json, standard output holds one JSON value and nothing else. Without a terminal, no questions are asked.',
    ),
    '.SH COMMANDS',
    ...Object.entries(commands).flatMap(([name, command]) => section(name, command)),
    '.SH OPTIONS',
    'For every command:',
    ...optionItems(commonOptions),
    '.SH EXIT STATUS',
    ...exitStatuses.flatMap(row => item(...row)),
    '.SH ENVIRONMENT',
    ...environment.flatMap(row => item(...row)),
    '.PP',
    plain('Every setting of config.yaml is an environment variable too:'),
    ...settingItems(),
    '.SH FILES',
    ...files.flatMap(row => item(...row)),
    '.SH SEE ALSO',
    '.BR ssh (1),',
    '.BR ssh_config (5),',
    '.BR virsh (1)',
    '',
  ].join('\n')
