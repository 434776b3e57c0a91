/** npm run docs: writes every page and schema that is made from tables in the code. A test fails when one is stale. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { repositoryFile } from '../src/bot/rules/repository-file.ts'
import { outputs } from '../src/cli/json.ts'
import { REPOSITORY_FILE } from '../src/schema/repository-file.ts'
import { cliPage } from './docs/cli.ts'
import { configurationPage, settingsSchema } from './docs/configuration.ts'
import { outputSchema, schemaFile } from './docs/json.ts'
import { manPage } from './docs/man.ts'
import { readme, slashPage } from './docs/slash.ts'
import { toSchema, toText } from './docs/words.ts'

/** The content of each file, by its path. */
export const documents: Readonly<Record<string, () => string>> = {
  'docs/configuration.md': configurationPage,
  'docs/config.schema.json': () => toText(settingsSchema()),
  'docs/agent-swarm.schema.json': () => toText({ title: REPOSITORY_FILE, ...toSchema(repositoryFile) }),
  'docs/cli.md': cliPage,
  'docs/commands.md': slashPage,
  'README.md': readme,
  'man/agent-swarm.1': manPage,
  ...Object.fromEntries(
    (Object.keys(outputs) as (keyof typeof outputs)[]).map(name => [
      schemaFile(name),
      () => toText(outputSchema(name)),
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
