/** `--help`: the overview of all commands, and the help of one. */
import { dirname, join } from 'node:path'
import { argumentHelp, type Command, descriptionOf, optionHelp, optionNames, usageOf } from './command.ts'
import { commandGroups, commands, commonOptions } from './command-table.ts'
import { type Terminal, textWidth } from './terminal/output.ts'
import { pairs, wrap } from './terminal/table.ts'

const { findPackageJSON } = process.getBuiltinModule('node:module')

/** A file of the package's docs. */
const docsFile = (name: string) => join(dirname(findPackageJSON(import.meta.url) ?? '.'), 'docs', name)

const list = (rows: readonly (readonly [name: string, text: string])[], terminal: Terminal) =>
  pairs(
    rows.map(([name, text]) => [`  ${name}`, text] as const),
    terminal,
    textWidth(terminal),
  )

export const overview = (terminal: Terminal): string => {
  const sections = Object.entries(commandGroups).map(([title, rows]) => {
    const longest = Math.max(...Object.keys(rows).map(name => name.length))
    const summaries = Object.entries(rows).map(([name, { summary }]) => [name.padEnd(longest), summary] as const)
    return `${title}\n${list(summaries, terminal)}`
  })
  return [
    'One ticket, one virtual machine.',
    'Usage: agent-swarm <command> [arguments] [options]',
    ...sections,
    wrap('agent-swarm <command> --help shows arguments, options and an example.', textWidth(terminal)),
    `Documentation: ${docsFile('cli.md')}`,
  ].join('\n\n')
}

/** The commands that begin with this word. */
export const groupHelp = (group: string, terminal: Terminal): string => {
  const rows = Object.entries(commands).filter(([name]) => name.startsWith(`${group} `))
  return [
    `Usage: agent-swarm ${group} <command> [arguments] [options]`,
    list(
      rows.map(([name, { summary }]) => [name, summary] as const),
      terminal,
    ),
    wrap('agent-swarm <command> --help shows arguments, options and an example.', textWidth(terminal)),
    `Documentation: ${docsFile('cli.md')}`,
  ].join('\n\n')
}

export const helpOf = async (name: string, command: Command, terminal: Terminal): Promise<string> => {
  const width = textWidth(terminal)
  const options = await Promise.all(
    Object.entries({ ...command.options, ...commonOptions }).map(
      async ([flag, option]) => [optionNames(flag, option).join(', '), await optionHelp(option)] as const,
    ),
  )
  return [
    wrap(`Usage: agent-swarm ${usageOf(name, command)} [options]`, width, '  '),
    wrap(descriptionOf(command), width),
    ...(command.lines === undefined ? [] : [command.lines.join('\n')]),
    ...(command.arguments.length === 0
      ? []
      : [
          `Arguments:\n${list(
            command.arguments.map(({ name, kind }) => [name, argumentHelp[kind]]),
            terminal,
          )}`,
        ]),
    `Options:\n${list(options, terminal)}`,
    `Example: ${command.example}`,
    `Documentation: ${docsFile('cli.md')}`,
  ].join('\n\n')
}
