/** config.yaml as it is written: answers go in, and what else it holds stays, comments too. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { fail } from '../errors.ts'
import { readYaml } from '../schema/forms.ts'
import { fileIn } from './config.ts'
import { type SettingName, settings } from './settings.ts'

const HEAD = `# Settings of agent-swarm, written by: agent-swarm init. All that there are: docs/configuration.md
# It holds secrets: keep it to yourself.
`
const LONGEST_FILE = 100_000

/** A file as it was read. Null: there is none. */
export type ConfigFile = { path: string; content: string | null; values: Readonly<Record<string, unknown>> }
/** What becomes of settings; null takes one away. */
export type Changes = ReadonlyMap<SettingName, unknown>

/** Throws `not-configured` when it is no YAML, or no lines of "name: value". */
export const readConfigFile = async (home: string): Promise<ConfigFile> => {
  const path = fileIn(home)
  if (!existsSync(path)) return { path, content: null, values: {} }
  const content = readFileSync(path, 'utf8')
  const { value, problems } = await readYaml(content, path, LONGEST_FILE)
  if (problems.length === 0 && typeof value === 'object' && value !== null && !Array.isArray(value))
    return { path, content, values: value as Record<string, unknown> }
  const found = problems.length > 0 ? problems : [`${path} must be lines of "name: value".`]
  throw fail(
    'not-configured',
    `reading ${path}:\n${found.map(one => `  - ${one}`).join('\n')}`,
    'Mend it, or move it away.',
  )
}

export const withChanges = async ({ content }: ConfigFile, changes: Changes): Promise<string> => {
  const { isNode, parseDocument } = await import('yaml')
  const document = parseDocument(content ?? HEAD)
  // In the order of the table, whatever was asked first.
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

/** Whole or not at all, and for its owner's eyes alone. `path` may be a link. */
export const writePrivately = (path: string, content: string): void => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const target = existsSync(path) ? realpathSync(path) : path
  const beside = `${target}.${process.pid}.new`
  try {
    const file = openSync(beside, 'wx', 0o600)
    try {
      writeFileSync(file, content)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(beside, target)
  } catch (error) {
    rmSync(beside, { force: true })
    throw fail(
      'unknown',
      `writing ${path}: ${error instanceof Error ? error.message : error}`,
      'Nothing was changed.',
      error,
    )
  }
}

/** Refuses when somebody else changed the file since it was read. */
export const writeConfigFile = ({ path, content }: ConfigFile, next: string): void => {
  const now = existsSync(path) ? readFileSync(path, 'utf8') : null
  if (now !== content) throw fail('busy', `writing ${path}: it was changed meanwhile`, 'Begin again: agent-swarm init')
  writePrivately(path, next)
}
