/** What setup and start of a project are, and who says so: the operator, the repository's file, or what is there. Pure. */
import { type ParseError, parse as parseJson } from 'jsonc-parser'
import * as v from 'valibot'
import { REPOSITORY_FILE } from '../../schema/repository-file.ts'
import type { Workspace } from '../../schema/workspace.ts'
import { shellWord } from '../../shell-word.ts'

/** Characters of a file that is read. */
export const MAX_FILE = 100_000
/** Characters of setup or start. */
const MAX_COMMANDS = 100_000
/** Commands in one devcontainer.json. */
const MAX_PARALLEL = 50

/** Shell commands, and where they come from. */
export type Step = { commands: string; source: string }
export type Plan = {
  path: string
  ports: number[]
  env: Readonly<Record<string, string>>
  save: string[]
  setup: Step | null
  start: Step | null
  /** What could not be read. One sentence each, with outside text. */
  problems: string[]
}
/** What the machine has: the text of files that may say how to set up. */
export type Found = { files: ReadonlyMap<string, string>; hasMise: boolean }

// ── What is there ──

const command = v.pipe(
  v.string(),
  v.maxLength(MAX_COMMANDS),
  v.check(text => !text.includes('\0')),
)
const words = v.pipe(v.array(command), v.minLength(1), v.maxLength(1_000))
const oneCommand = v.union([command, words])
/** A command line, the words of one command, or several that devcontainers run side by side. */
const devcontainer = v.object({
  postCreateCommand: v.optional(
    v.union([
      oneCommand,
      v.pipe(
        v.custom<object>(value => typeof value === 'object' && value !== null && !Array.isArray(value)),
        v.record(v.string(), oneCommand),
        v.check(all => Object.keys(all).length <= MAX_PARALLEL),
      ),
    ]),
  ),
})
const cursor = v.object({ install: v.optional(command) })

const lineOf = (one: v.InferOutput<typeof oneCommand>): string =>
  typeof one === 'string' ? one : one.map(shellWord).join(' ')

/** Each in a shell of its own, since one may change the folder; one after the other, so that logs and failures are clear. */
const commandsOf = (value: NonNullable<v.InferOutput<typeof devcontainer>['postCreateCommand']>): string =>
  typeof value === 'string' || Array.isArray(value)
    ? lineOf(value)
    : Object.values(value)
        .map(one => `(\n${lineOf(one)}\n)`)
        .join('\n')

const readJson = <Schema extends v.GenericSchema>(
  name: string,
  content: string,
  schema: Schema,
): { value: v.InferOutput<Schema> | null; problem: string | null } => {
  const unreadable = { value: null, problem: `${name} could not be read` }
  if (content.length > MAX_FILE) return { value: null, problem: `${name} is larger than ${MAX_FILE} characters` }
  try {
    const errors: ParseError[] = []
    const json: unknown = parseJson(content, errors, { allowTrailingComma: true })
    const parsed = v.safeParse(schema, json)
    return errors.length > 0 || !parsed.success ? unreadable : { value: parsed.output, problem: null }
  } catch {
    // Nested too deeply.
    return unreadable
  }
}

/** In this order; the first that is there counts. */
const DEVCONTAINERS = ['.devcontainer/devcontainer.json', '.devcontainer.json']
const CURSOR = '.cursor/environment.json'
const TOOLS = ['mise.toml', '.mise.toml', '.tool-versions']
/** Its configuration is the repository's, as setup is. What it installs is on the PATH of the rest. */
const MISE = 'export PATH="$HOME/.local/share/mise/shims:$PATH"\nMISE_YES=1 mise install'
export const LOOKED_AT: readonly string[] = [...DEVCONTAINERS, CURSOR, ...TOOLS]

const foundSetup = ({ files, hasMise }: Found): { setup: Step | null; problems: string[] } => {
  const problems: string[] = []
  const steps: Step[] = []
  const tools = TOOLS.find(name => files.has(name))
  if (tools !== undefined && hasMise) steps.push({ commands: MISE, source: tools })
  const take = (name: string, commands: string | undefined, problem: string | null) => {
    if (problem !== null) problems.push(problem)
    if (commands !== undefined && commands.trim() !== '') steps.push({ commands, source: name })
  }
  const container = DEVCONTAINERS.find(name => files.has(name))
  if (container !== undefined) {
    const { value, problem } = readJson(container, files.get(container) ?? '', devcontainer)
    take(container, value?.postCreateCommand === undefined ? undefined : commandsOf(value.postCreateCommand), problem)
  }
  if (container === undefined || steps.every(({ source }) => source !== container)) {
    const content = files.get(CURSOR)
    const { value, problem } =
      content === undefined ? { value: null, problem: null } : readJson(CURSOR, content, cursor)
    take(CURSOR, value?.install, problem)
  }
  if (steps.length === 0) return { setup: null, problems }
  const setup = {
    commands: steps.map(({ commands }) => commands).join('\n'),
    source: steps.map(({ source }) => source).join(' and '),
  }
  return setup.commands.length > MAX_COMMANDS
    ? { setup: null, problems: [...problems, `the commands of ${setup.source} are too long`] }
    : { setup, problems }
}

// ── Together ──

const OPERATOR = 'config.yaml'

/** The operator's members win, one by one; what is there counts for a setup that nobody names. */
export const planWorkspace = (
  repo: string,
  operator: Workspace | undefined,
  file: { workspace: Workspace | undefined; problems: readonly string[] },
  found: Found,
): Plan => {
  const all = { ...file.workspace, ...operator }
  const step = (name: 'setup' | 'start'): Step | null => {
    const commands = all[name]
    if (commands === undefined || commands.trim() === '') return null
    return { commands, source: operator?.[name] === undefined ? REPOSITORY_FILE : OPERATOR }
  }
  const looked = all.setup === undefined ? foundSetup(found) : { setup: step('setup'), problems: [] }
  return {
    path: all.path ?? `~/${repo.slice(repo.indexOf('/') + 1)}`,
    ports: all.ports ?? [],
    env: all.env ?? {},
    save: all.save ?? [],
    setup: looked.setup,
    start: step('start'),
    problems: [...file.problems, ...looked.problems],
  }
}
