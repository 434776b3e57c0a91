/** docs/cli.md, from the table of commands. */
import { argumentHelp, type Command, descriptionOf, type Option, optionNames, usageOf } from '../../src/cli/command.ts'
import { commandGroups, commands, commonOptions } from '../../src/cli/command-table.ts'
import { outputs } from '../../src/cli/json.ts'
import { environment, exitStatuses, files } from './command-line.ts'
import { formsText, outputText, schemaFile } from './json.ts'
import { optionMarkdown } from './options.ts'
import { table } from './words.ts'

const isOutput = (name: string): name is keyof typeof outputs => Object.hasOwn(outputs, name)
const schemaLink = (name: string) => schemaFile(name).replace('docs/', '')
const code = (text: string) => `\`${text}\``
const entries = Object.entries(commands)

const optionRows = (options: Readonly<Record<string, Option>>) =>
  Object.entries(options).map(([flag, option]) => [
    optionNames(flag, option).map(code).join(', '),
    optionMarkdown(option),
  ])

const section = (name: string, command: Command): string =>
  [
    `### ${name}`,
    `\`\`\`\nagent-swarm ${usageOf(name, command)}\n\`\`\``,
    descriptionOf(command),
    ...(command.lines === undefined ? [] : [`\`\`\`\n${command.lines.join('\n')}\n\`\`\``]),
    ...(command.arguments.length === 0
      ? []
      : [table([['Argument', ''], ...command.arguments.map(({ name, kind }) => [code(name), argumentHelp[kind]])])]),
    ...(Object.keys(command.options).length === 0 ? [] : [table([['Option', ''], ...optionRows(command.options)])]),
    `Example: ${code(command.example)}`,
    ...(isOutput(name) ? [`\`--json\` prints ([schema](${schemaLink(name)})):`, outputText(name)] : []),
  ].join('\n\n')

const groupTables = Object.entries(commandGroups).map(([title, rows]) =>
  table([
    [title, ''],
    ...Object.entries(rows).map(([name, { summary }]) => [`[${name}](#${name.replaceAll(' ', '-')})`, summary]),
  ]),
)

export const cliPage = (): string => `# The command line

<!-- Made by npm run docs, from src/cli/command-table.ts and src/cli/json.ts. -->

\`agent-swarm <command> [arguments] [options]\`. Options may stand anywhere; \`--\` ends them. Data goes to stdout, progress and errors to stderr. Without a terminal, no questions are asked. \`agent-swarm --help\` lists the commands, \`agent-swarm <command> --help\` shows one, \`agent-swarm --version\` prints the version.

${groupTables.join('\n\n')}

## Every command

${table([['Option', ''], ...optionRows(commonOptions)])}

On a terminal, tables fit its width: long cells are cut, ids are shortened, and times are relative (\`3 min ago\`). A shortened id is accepted wherever the whole one is, as long as it is unique. In a pipe everything is printed in full.

### Exit status

${table([['Status', ''], ...exitStatuses])}

### Environment

${table([['Variable', ''], ...environment.map(([name, text]) => [name.split(', ').map(code).join(', '), text])])}

Every setting of \`config.yaml\` is an environment variable too: [configuration.md](configuration.md).

### Files

${table([['File', ''], ...files.map(([name, text]) => [code(name), text])])}

## Commands

${entries.map(([name, command]) => section(name, command)).join('\n\n')}

## JSON

With \`--json\`, stdout holds one JSON value and nothing else. \`bot --dry-run\` and \`up --dry-run\` print one value a line. Each command has a JSON Schema (2020-12) in the folder [json](json), which lists every member. Times are ISO 8601 in UTC, sizes are bytes.

A command that fails prints this instead ([schema](${schemaLink('error')})), with exit status 1 or 2. Only a command that changes an environment and failed while doing so prints a [Change](#form-change) with the \`result\` \`failed\`.

${outputText('error')}

## Forms

${formsText()}
`
