/** npm run docs: writes every page and schema that is made of tables in the code. A test fails when one is stale. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { JsonSchema } from '@valibot/to-json-schema'
import { REPOSITORY_FILE, repositoryFile } from '../src/bot/rules/repository-file.ts'
import { outputs } from '../src/cli/json.ts'
import { groups, type Setting, settings } from '../src/config/settings.ts'
import { cliPage } from './docs/cli.ts'
import { outputSchema, schemaFile } from './docs/json.ts'
import { manPage } from './docs/man.ts'
import { readme, slashPage } from './docs/slash.ts'
import { asText, schemaOf, table, wordsOf } from './docs/words.ts'

// ── Schemas for editors ──

const settingsSchema = (): JsonSchema => ({
  $schema: 'http://json-schema.org/draft-07/schema#',
  title: 'config.yaml of agent-swarm',
  type: 'object',
  properties: Object.fromEntries(
    Object.entries<Setting>(settings).map(([name, { form, says, example, env, secret, default: fallback }]) => {
      const { $schema: _, ...schema } = schemaOf(form)
      const told = { ...schema, description: `${says} Environment variable ${env}.` }
      return [
        name,
        {
          ...told,
          ...(fallback === undefined ? {} : { default: fallback as string | number }),
          ...(secret ? {} : { examples: [example as string | number | string[]] }),
        },
      ]
    }),
  ),
  additionalProperties: false,
})

// ── docs/configuration.md ──

const yaml = (value: unknown): string =>
  Array.isArray(value)
    ? `[${value.join(', ')}]`
    : typeof value === 'object' && value !== null
      ? `{ ${Object.entries(value)
          .map(([name, one]) => `${name}: ${yaml(one)}`)
          .join(', ')} }`
      : String(value)
const code = (value: unknown) => (value === undefined ? '' : `\`${yaml(value)}\``)

const settingsTable = (rows: Readonly<Record<string, Setting>>): string =>
  table([
    ['Setting', 'Environment variable', 'Value', 'Default', 'Meaning', 'Example'],
    ...Object.entries(rows).map(([name, { env, form, says, example, default: fallback }]) => [
      `\`${name}\``,
      `\`${env}\``,
      wordsOf(schemaOf(form)),
      code(fallback),
      says,
      code(example),
    ]),
  ])

/** Every name in the file with its row, those inside others as `size.cpus`. */
const repositoryRows = (schema: JsonSchema, within = ''): string[][] =>
  Object.entries(schema.properties ?? {}).flatMap(([name, one]) => {
    if (typeof one !== 'object') return []
    const path = `${within}${name}`
    return [
      [`\`${path}\``, wordsOf(one), one.description ?? '', code(one.examples?.[0])],
      ...repositoryRows(one, `${path}.`),
    ]
  })

const configuration = (): string => `# Configuration

<!-- Made by npm run docs, of src/config/settings.ts and src/bot/rules/repository-file.ts. -->

There are two files: the operator's, which says where GitHub, Jira and the hypervisor are and what may be used, and the repository's, which says what its pull requests and tickets mean. Every mistake in either is told at once, with its line and how it is written.

## The operator's file

\`config.yaml\` in \`AGENT_SWARM_HOME\` (an absolute path; by default \`~/.agent-swarm\`). \`agent-swarm init\` asks for what is needed, tries it, and writes the file; comments and all else in it stay. Every setting is also an environment variable, and some are flags: a flag counts before the environment, and that before the file. A list in an environment variable is separated by commas. It holds secrets: keep it readable by you alone.

\`\`\`yaml
# yaml-language-server: $schema=docs/config.schema.json
jiraHost: example.atlassian.net
jiraProjects: [DROP, WEB]
port: 8080
\`\`\`

The bot needs one side at least. GitHub is complete with \`appId\`, \`webhookSecret\` and \`privateKey\` or \`privateKeyPath\`, or with \`githubToken\` alone; Jira with \`jiraHost\`, \`jiraEmail\` and \`jiraApiToken\`. \`jiraProjects\` is needed in any case. A side that is begun and not complete keeps the bot from starting.

${Object.entries(groups)
  .map(([title, rows]) => `### ${title}\n\n${settingsTable(rows)}`)
  .join('\n\n')}

## The repository's file

\`${REPOSITORY_FILE}\`. It counts as it is on the default branch: a pull request cannot change the rules that it is judged by. The bot looks for a new version with each push to the default branch, and at least every five minutes when something happens in the repository. Everything in it may be left out.

\`\`\`yaml
# yaml-language-server: $schema=docs/agent-swarm.schema.json
projects: [DROP]
branches: [feature/*, fix/*]
size: { cpus: 4, memoryMiB: 8192 }
graceMinutes: 30
\`\`\`

${table([['Setting', 'Value', 'Meaning', 'Example'], ...repositoryRows(schemaOf(repositoryFile))])}

A file with a mistake does not count at all: what was there before it holds on, or the defaults where there was nothing. The mistakes stand in the status comment of the repository's pull requests and in the bot's log.

**Tickets.** A pull request follows the file of its repository. A ticket that has one follows the file of that repository, of the newest when there are several. A ticket without a pull request follows the repository whose file names its project under \`projects\`, the first by name when several do; when none does, the bot's own configuration.
`

export const documents: Readonly<Record<string, () => string>> = {
  'docs/configuration.md': configuration,
  'docs/config.schema.json': () => asText(settingsSchema()),
  'docs/agent-swarm.schema.json': () => asText({ title: REPOSITORY_FILE, ...schemaOf(repositoryFile) }),
  'docs/cli.md': cliPage,
  'docs/commands.md': slashPage,
  'README.md': readme,
  'man/agent-swarm.1': manPage,
  ...Object.fromEntries(
    (Object.keys(outputs) as (keyof typeof outputs)[]).map(name => [
      schemaFile(name),
      () => asText(outputSchema(name)),
    ]),
  ),
}

if (import.meta.main) {
  const root = resolve(import.meta.dirname, '..')
  for (const [name, content] of Object.entries(documents)) {
    const path = join(root, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, content())
  }
}
