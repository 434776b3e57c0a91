/** npm run docs: writes every page and schema that is made of tables in the code. A test fails when one is stale. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { type JsonSchema, toJsonSchema } from '@valibot/to-json-schema'
import type * as v from 'valibot'
import { groups, type Setting, settings } from '../src/settings.ts'

// ── Schemas for editors ──

const schemaOf = (form: v.GenericSchema): JsonSchema =>
  toJsonSchema(form, {
    target: 'draft-07',
    typeMode: 'input',
    // What JSON Schema cannot say, it leaves to the parser.
    errorMode: 'ignore',
    overrideAction: ({ valibotAction, jsonSchema }) =>
      // The only one of ours: no other names.
      valibotAction.type === 'raw_check' ? { ...jsonSchema, additionalProperties: false } : undefined,
  })

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
const asText = (schema: JsonSchema): string => `${JSON.stringify(schema, null, 2)}\n`

// ── docs/configuration.md ──

/** What a value must be, in words. */
const wordsOf = (schema: JsonSchema | boolean | undefined): string => {
  if (typeof schema !== 'object') return ''
  if (schema.enum !== undefined) return schema.enum.map(one => `\`${one}\``).join(', ')
  if (schema.anyOf !== undefined) return schema.anyOf.map(wordsOf).join(', or ')
  if (schema.type === 'integer')
    return `${schema.minimum} to ${schema.maximum === Number.MAX_SAFE_INTEGER ? '…' : schema.maximum}`
  if (schema.type === 'array') return 'a list'
  return schema.type === 'object' ? '' : 'text'
}
const yaml = (value: unknown): string =>
  Array.isArray(value)
    ? `[${value.join(', ')}]`
    : typeof value === 'object' && value !== null
      ? `{ ${Object.entries(value)
          .map(([name, one]) => `${name}: ${yaml(one)}`)
          .join(', ')} }`
      : String(value)
const code = (value: unknown) => (value === undefined ? '' : `\`${yaml(value)}\``)
const table = (rows: readonly (readonly string[])[]): string => {
  const [head = [], ...rest] = rows
  return [head, head.map(() => '---'), ...rest]
    .map(row => `| ${row.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n')
}

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

const configuration = (): string => `# Configuration

<!-- Made by npm run docs, of src/settings.ts. -->

\`config.yaml\` in \`AGENT_SWARM_HOME\` (an absolute path; by default \`~/.agent-swarm\`). Every setting is also an environment variable, and some are flags: a flag counts before the environment, and that before the file. A list in an environment variable is separated by commas. It holds secrets: keep it readable by you alone.

\`\`\`yaml
# yaml-language-server: $schema=docs/config.schema.json
jiraHost: example.atlassian.net
jiraProjects: [DROP, WEB]
port: 8080
\`\`\`

The bot needs one side at least. GitHub is complete with \`appId\`, \`webhookSecret\` and \`privateKey\` or \`privateKeyPath\`, or with \`githubToken\` alone; Jira with \`jiraHost\`, \`jiraEmail\` and \`jiraApiToken\`. \`jiraProjects\` is needed in any case. A side that is begun and not complete keeps the bot from starting.

${Object.entries(groups)
  .map(([title, rows]) => `## ${title}\n\n${settingsTable(rows)}`)
  .join('\n\n')}
`

export const documents: Readonly<Record<string, () => string>> = {
  'docs/configuration.md': configuration,
  'docs/config.schema.json': () => asText(settingsSchema()),
}

if (import.meta.main) {
  const root = resolve(import.meta.dirname, '..')
  for (const [name, content] of Object.entries(documents)) {
    const path = join(root, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, content())
  }
}
