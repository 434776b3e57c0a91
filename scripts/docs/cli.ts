/** docs/cli.md: every command as its row in the table tells it. */
import { type Command, commands, commonOptions, meanings, type Option, usageOf } from '../../src/cli/command-table.ts'
import { outputs } from '../../src/cli/json.ts'
import { environment, exitStatuses, files } from './command-line.ts'
import { formsInWords, outputInWords, schemaFile } from './json.ts'
import { table } from './words.ts'

const isOutput = (name: string): name is keyof typeof outputs => Object.hasOwn(outputs, name)
const schemaLink = (name: string) => schemaFile(name).replace('docs/', '')
const code = (text: string) => `\`${text}\``

const optionRows = (options: Readonly<Record<string, Option>>) =>
  Object.entries(options).map(([flag, { short, value, values, says }]) => [
    [...(short === undefined ? [] : [`-${short}`]), `--${flag}${value === undefined ? '' : ` ${value}`}`]
      .map(code)
      .join(', '),
    values === undefined ? says : `${says} One of ${values.map(code).join(', ')}.`,
  ])

const section = (name: string, command: Command): string =>
  [
    `### ${name}`,
    `\`\`\`\nagent-swarm ${usageOf(name, command)}\n\`\`\``,
    command.says,
    ...(command.more === undefined ? [] : [`\`\`\`\n${command.more.join('\n')}\n\`\`\``]),
    ...(command.arguments.length === 0
      ? []
      : [table([['Argument', ''], ...command.arguments.map(one => [code(one.name), meanings[one.is]])])]),
    ...(Object.keys(command.options).length === 0 ? [] : [table([['Option', ''], ...optionRows(command.options)])]),
    `Example: ${code(command.example)}`,
    ...(isOutput(name) ? [`\`--json\` prints ([schema](${schemaLink(name)})):`, outputInWords(name)] : []),
  ].join('\n\n')

export const cliPage = (): string => `# The command line

<!-- Made by npm run docs, of src/cli/command-table.ts and src/cli/json.ts. -->

\`agent-swarm <command> [arguments] [options]\`. Options may stand anywhere; \`--\` ends them. Data goes to stdout, progress and errors to stderr. Nothing is asked where there is no terminal. \`agent-swarm --help\` lists the commands, \`agent-swarm <command> --help\` tells more, \`agent-swarm --version\` says the version.

${table([['Command', ''], ...Object.entries(commands).map(([name, command]) => [`[${name}](#${name.replace(' ', '-')})`, command.says])])}

## Every command

${table([['Option', ''], ...optionRows(commonOptions)])}

### Exit status

${table([['Status', ''], ...exitStatuses])}

### Environment

${table([['Variable', ''], ...environment.map(([name, says]) => [code(name), says])])}

Every setting of \`config.yaml\` is an environment variable as well: [configuration.md](configuration.md).

### Files

${table([['File', ''], ...files.map(([name, says]) => [code(name), says])])}

## Commands

${Object.entries(commands)
  .map(([name, command]) => section(name, command))
  .join('\n\n')}

## JSON

With \`--json\`, stdout holds one JSON value and nothing else; of \`bot --dry-run\` and \`up --dry-run\`, one on each line. Each command has a JSON Schema (2020-12) in the folder [json](json), which holds all fields that there are. Times are ISO 8601 in UTC, sizes are bytes.

What fails prints this in place of its own ([schema](${schemaLink('error')})), with exit status 1 or 2. Only where a command that changes an environment was carried out and failed, it is a [Change](#form-change) whose \`result\` is \`failed\`.

${outputInWords('error')}

## Forms

${formsInWords()}
`
