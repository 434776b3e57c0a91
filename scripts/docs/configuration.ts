/** docs/configuration.md and the editor's schema of config.yaml, from the tables of settings. */
import type { JsonSchema } from '@valibot/to-json-schema'
import { repositoryFile } from '../../src/bot/rules/repository-file.ts'
import { groups, type Setting, settings } from '../../src/config/settings.ts'
import { REPOSITORY_FILE } from '../../src/schema/repository-file.ts'
import { table, toSchema, valueText } from './words.ts'

const settingSchema = ({ form, says, example, env, secret, default: fallback }: Setting): JsonSchema => {
  const { $schema: _, ...schema } = toSchema(form)
  return {
    ...schema,
    description: env === null ? says : `${says} Environment variable ${env}.`,
    ...(fallback === undefined ? {} : { default: fallback as string | number }),
    ...(secret ? {} : { examples: [example as string | number | string[]] }),
  }
}

export const settingsSchema = (): JsonSchema => ({
  $schema: 'http://json-schema.org/draft-07/schema#',
  title: 'config.yaml of agent-swarm',
  type: 'object',
  properties: Object.fromEntries(
    Object.entries<Setting>(settings).map(([name, setting]) => [name, settingSchema(setting)]),
  ),
  additionalProperties: false,
})

const yaml = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(yaml).join(', ')}]`
  if (typeof value !== 'object' || value === null) return String(value)
  const members = Object.entries(value).map(([name, member]) => `${name}: ${yaml(member)}`)
  return `{ ${members.join(', ')} }`
}
const code = (value: unknown) => (value === undefined ? '' : `\`${yaml(value)}\``)

const settingsTable = (rows: Readonly<Record<string, Setting>>): string =>
  table([
    ['Setting', 'Environment variable', 'Value', 'Default', 'Meaning', 'Example'],
    ...Object.entries(rows).map(([name, { env, form, says, example, default: fallback }]) => [
      `\`${name}\``,
      env === null ? '' : `\`${env}\``,
      valueText(toSchema(form)),
      code(fallback),
      says,
      code(example),
    ]),
  ])

/** One row for each name in the file, nested ones as `size.cpus`. */
const repositoryRows = (schema: JsonSchema, before = ''): string[][] =>
  Object.entries(schema.properties ?? {}).flatMap(([name, member]) => {
    if (typeof member !== 'object') return []
    const path = `${before}${name}`
    return [
      [`\`${path}\``, valueText(member), member.description ?? '', code(member.examples?.[0])],
      ...repositoryRows(member, `${path}.`),
    ]
  })

export const configurationPage = (): string => `# Configuration

<!-- Made by npm run docs, from src/config/settings.ts and src/bot/rules/repository-file.ts. -->

There are two files. The operator's file says where GitHub, Jira and the hypervisor are and what may be used. The repository's file says what its pull requests and tickets mean. All errors of a file are reported at once, each with its line and the right form.

## The operator's file

\`config.yaml\` in \`AGENT_SWARM_HOME\` (an absolute path; default \`~/.agent-swarm\`). \`agent-swarm init\` asks for what is needed, tries it, and writes the file; comments and everything else in it stay. Every setting without members is also an environment variable, and some are options of commands: an option wins over the environment, and the environment over the file. In an environment variable, commas separate the members of a list. While the file holds secrets, only you may change it, and at most its group may read it: otherwise every command stops with the \`chmod\` to run. A file whose permissions cannot be changed, for example a mounted one, is taken; \`bot\`, \`runner\` and \`up\` then log a warning. The same holds for the file of \`PRIVATE_KEY_PATH\`, which only \`bot\` and \`up\` need.

\`\`\`yaml
# yaml-language-server: $schema=docs/config.schema.json
jiraHost: example.atlassian.net
githubRepositories: [acme/shop, acme/api]
jiraProjects: [DROP, WEB:acme/api]
port: 8080
\`\`\`

The bot needs at least one side. GitHub is complete with \`githubRepositories\` and either \`githubToken\` or \`appId\`, \`webhookSecret\` and \`privateKey\` or \`privateKeyPath\`. Jira is complete with \`jiraHost\`, \`jiraEmail\` and \`jiraApiToken\`. \`jiraProjects\` is always required. The bot does not start while a side is incomplete.

${Object.entries(groups)
  .map(([title, rows]) => `### ${title}\n\n${settingsTable(rows)}`)
  .join('\n\n')}

## Which ticket, which repository

**Repositories.** Only repositories in \`githubRepositories\` act; events of all others are ignored, and installations of the App that other owners make are refused. \`acme/*\` lets in all of an owner.

**Projects.** A repository acts only on tickets of the projects that it serves: it neither links, commands, checkpoints, starts, stops nor deletes others, not even with \`--force\`.

| \`githubRepositories\` | \`jiraProjects\` | DROP is served by |
| --- | --- | --- |
| \`[acme/shop, acme/api]\` | \`[DROP]\` | acme/shop and acme/api |
| \`[acme/shop, acme/api]\` | \`['DROP:acme/shop', 'WEB:acme/api']\` | acme/shop |
| \`[acme/*]\` | \`['DROP:acme/shop+acme/api']\` | acme/shop and acme/api |
| \`[acme/*, acme/shop]\` | \`[DROP]\` | acme/shop |
| \`[acme/*]\` | \`[DROP]\` | nothing: the bot does not start |
| \`[acme/*]\` | \`['DROP:acme/*']\` | every repository of acme, with a warning: whoever may create one there can command the tickets |

A repository that was renamed is still the one that is listed, as long as its owner is the same and the bot met it under that name. Write the new name all the same.

**Tickets.** A pull request is about the first key of such a project in its branch, or else in its title, in any case. The description names nothing. Before a key stands no letter or digit, and after it no letter or digit, and no point with a digit: \`core-js-3.30.1\` is a version, and \`DROP-7a\` is not DROP-7. A push is about the key in its branch. Branches that begin with \`dependabot/\`, \`renovate/\`, \`revert-<number>-\` or \`gh-readonly-queue/\` are about no ticket, whatever the title says. When a Jira issue was moved, its previous key still counts, where the repository serves the new project too.

**The repository of a new machine** is cloned into it. It is the first of these:

1. The one that somebody named: \`/swarm create acme/api\`. It must serve the ticket; otherwise the command is refused, and the reply says which repositories do. On a pull request, \`/swarm create\` means the repository of that pull request.
2. The one of the ticket's open pull request, whose branch is then checked out; or, where several repositories could be meant, one with a branch that begins with the ticket's key.
3. The first that \`jiraProjects\` names for the project: \`DROP:acme/shop+acme/api\` means \`acme/shop\`.
4. The only one that serves the project.
5. None: several serve the project and \`jiraProjects\` names none of them for it, or all of an owner do (\`DROP:acme/*\`). The comment about the machine says how to choose one.

A repository whose own file leaves the project out is passed over. A pull request from a fork has its branch elsewhere: its machine gets no project, and the reply says so; \`/swarm create acme/shop\` gives it a new branch of \`acme/shop\`. Where GitHub cannot be reached, the bot asks again for a minute, and then goes by \`jiraProjects\`.

## The repository's file

\`${REPOSITORY_FILE}\` on the default branch: a pull request cannot change the rules that it is judged by. It narrows what the operator allows, and never widens it: projects, assignees and checkpoints are at most the operator's, sizes are within the runner's limits, and a rule for a command is required besides write access. The bot reads a new version after each push to the default branch, and at least every five minutes while something happens in the repository. Every setting is optional.

\`\`\`yaml
# yaml-language-server: $schema=docs/agent-swarm.schema.json
projects: [DROP]
branches: [feature/*, fix/*]
size: { cpus: 4, memoryMiB: 8192 }
graceMinutes: 30
\`\`\`

${table([['Setting', 'Value', 'Meaning', 'Example'], ...repositoryRows(toSchema(repositoryFile))])}

A file with an error has no effect: the previous version stays in effect, or the defaults when there was none. The errors appear in the status comments on the repository's pull requests and in the bot's log.

\`workspace\` and \`agent\` are for the host of the machines: the runner reads \`workspace\` from the default branch when it makes a machine, and \`agent\` whenever an agent is to start; while GitHub is away, it takes what it read last. While one of the two, \`baseImage\` or \`size\` has an error, or the file is not YAML, no agent starts, and \`agent-swarm status TICKET\` says why. An error elsewhere in the file does not hold them up. The bot reports their errors with the others.

**Whose file.** A pull request follows the file of its repository. A ticket with pull requests follows the file of the newest one's repository. A ticket without a pull request follows the repository that serves its project and whose file lists it under \`projects\` (the first by name when several do), and otherwise the bot's own configuration.
`
