/** config.yaml as text: answers are written into it, and everything else in it stays, comments included. */
import { existsSync, readFileSync } from 'node:fs'
import { fail } from '../errors.ts'
import { writeFileAtomic } from '../files.ts'
import { readYaml } from '../schema/yaml.ts'
import { configFileIn, MAX_CONFIG_FILE } from './home.ts'
import { type SettingName, settings } from './settings.ts'

const HEAD = `# Settings of agent-swarm, written by: agent-swarm init. The full list: docs/configuration.md
# This file holds secrets: keep it private.
`

/** The file when it was read. `content` null: there is no file. */
export type ConfigFile = { path: string; content: string | null; values: Readonly<Record<string, unknown>> }
/** New values of settings; null removes a setting. */
export type Changes = ReadonlyMap<SettingName, unknown>

/** Throws `not-configured` when the file is not YAML, or not lines of "name: value". */
export const readConfigFile = async (home: string): Promise<ConfigFile> => {
  const path = configFileIn(home)
  if (!existsSync(path)) return { path, content: null, values: {} }
  const content = readFileSync(path, 'utf8')
  const { value, problems } = await readYaml(content, path, MAX_CONFIG_FILE)
  if (problems.length === 0 && typeof value === 'object' && value !== null && !Array.isArray(value))
    return { path, content, values: value as Record<string, unknown> }
  const messages = problems.length > 0 ? problems : [`${path} must be lines of "name: value".`]
  throw fail(
    'not-configured',
    `reading ${path}:\n${messages.map(message => `  - ${message}`).join('\n')}`,
    'Correct the file, or move it away.',
  )
}

export const withChanges = async ({ content }: ConfigFile, changes: Changes): Promise<string> => {
  const { isNode, parseDocument } = await import('yaml')
  const document = parseDocument(content ?? HEAD)
  // In the table's order, whatever the order of the answers.
  for (const name of Object.keys(settings) as SettingName[]) {
    if (!changes.has(name)) continue
    const value = changes.get(name)
    if (value === null) {
      document.delete(name)
      continue
    }
    const before = document.get(name, true)
    const node = document.createNode(value, { flow: true })
    if (isNode(before) && isNode(node)) {
      node.comment = before.comment ?? null
      node.commentBefore = before.commentBefore ?? null
    }
    document.set(name, node)
  }
  return document.toString({ lineWidth: 0, flowCollectionPadding: false })
}

/** Fails with `busy` when somebody else changed the file since it was read. */
export const writeConfigFile = ({ path, content }: ConfigFile, next: string): void => {
  const now = existsSync(path) ? readFileSync(path, 'utf8') : null
  if (now !== content)
    throw fail('busy', `writing ${path}: it was changed in the meantime`, 'Run agent-swarm init again.')
  writeFileAtomic(path, next, { mode: 0o600 })
}
