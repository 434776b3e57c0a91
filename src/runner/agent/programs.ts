/**
 * The agents: one row a program. How it is called in the machine, where its model is, and what a line of its output means. The
 * facts are from Claude Code 2.1.197 and Codex 0.171.0, run against our own model server. Every line is outside text.
 */
import * as v from 'valibot'
import type { AgentReport } from '../../schema/environment.ts'
import type { Api } from '../model-gateway/apis.ts'

/** One step of a run, for people. */
export type Step = { kind: 'says' | 'does' | 'gets' | 'fails'; text: string }
/** What a line of output says; members that it does not say are missing. */
export type Reading = {
  session?: string
  /** Names the turn that the line belongs to: lines of one turn share it. */
  turn?: string
  steps?: Step[]
  /** How the program says that it ended. */
  result?: { isError: boolean; text: string }
}

type Call = {
  /** The operator's own command, or null. */
  command: string | null
  /** The conversation to go on with; null for a new one. */
  session: string | null
}
type Model = { /** Without a slash at its end. */ url: string; key: string }

export type Program = {
  name: string
  /** Whose key it needs; null: it may do without. */
  api: Api['name'] | null
  /** Words for a shell in the machine: the first as it is, the others in quotes. */
  words(call: Call): readonly [program: string, ...words: string[]]
  /** `state`: the folder of agents in the machine. */
  environment(model: Model, state: string): Record<string, string>
  /** Files below `state` that are written before each start. */
  files(model: Model): Record<string, string>
  /** Where it keeps conversations: below the home of its user (`~/`) or below `state`. Null: it has none. */
  sessions: { home: boolean; folder: string } | null
  read(line: string): Reading
}

/** A session's name becomes a word of a command line and part of a file's name. */
const session = v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,99}$/))
const text = v.optional(v.string(), '')
const parseLine = (line: string): unknown => {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}
/** A row for lines of one form. Lines that have no row's form say nothing. */
const reader = <Form extends v.GenericSchema>(form: Form, read: (line: v.InferOutput<Form>) => Reading) => {
  return (value: unknown): Reading | null => {
    const line = v.safeParse(form, value)
    return line.success ? read(line.output) : null
  }
}
const readBy =
  (rows: readonly ((value: unknown) => Reading | null)[]) =>
  (line: string): Reading => {
    const value = parseLine(line)
    for (const row of rows) {
      const reading = row(value)
      if (reading !== null) return reading
    }
    return {}
  }

/** What a tool is given, in one line. */
const inputLine = (input: Record<string, unknown>): string => {
  const main = input.command ?? input.file_path ?? input.path ?? input.pattern ?? input.url
  return typeof main === 'string' ? main : JSON.stringify(input)
}

// ── Claude Code ──

const claudeBlock = v.object({
  type: v.string(),
  text,
  name: text,
  input: v.optional(v.record(v.string(), v.unknown()), {}),
  is_error: v.optional(v.nullable(v.boolean())),
  content: v.optional(v.unknown()),
})
const claudeBlocks = v.union([
  v.array(claudeBlock),
  v.pipe(
    v.string(),
    v.transform(() => []),
  ),
])
const contentText = (content: unknown): string =>
  typeof content === 'string'
    ? content
    : Array.isArray(content)
      ? content.map(part => (typeof part?.text === 'string' ? part.text : '')).join(' ')
      : ''
const claudeSteps = (blocks: readonly v.InferOutput<typeof claudeBlock>[]): Step[] =>
  blocks.flatMap((block): Step[] => {
    if (block.type === 'text') return [{ kind: 'says', text: block.text }]
    if (block.type === 'tool_use') return [{ kind: 'does', text: `${block.name}: ${inputLine(block.input)}` }]
    if (block.type !== 'tool_result') return []
    return [{ kind: block.is_error === true ? 'fails' : 'gets', text: contentText(block.content) }]
  })
const claudeLines = [
  reader(v.object({ type: v.literal('system'), subtype: v.literal('init'), session_id: session }), line => ({
    session: line.session_id,
  })),
  reader(v.object({ type: v.literal('assistant'), message: v.object({ id: text, content: claudeBlocks }) }), line => ({
    turn: line.message.id,
    steps: claudeSteps(line.message.content),
  })),
  reader(v.object({ type: v.literal('user'), message: v.object({ content: claudeBlocks }) }), line => ({
    steps: claudeSteps(line.message.content),
  })),
  // Without a connection the subtype is "success" too: is_error decides.
  reader(v.object({ type: v.literal('result'), is_error: v.boolean(), result: text, subtype: text }), line => ({
    result: { isError: line.is_error, text: line.result === '' ? line.subtype : line.result },
    ...(line.is_error ? { steps: [{ kind: 'fails', text: line.result === '' ? line.subtype : line.result }] } : {}),
  })),
]

const claude: Program = {
  name: 'Claude Code',
  api: 'anthropic',
  words: ({ command, session: known }) => [
    command ?? 'claude',
    ...['-p', '--output-format', 'stream-json', '--verbose', '--dangerously-skip-permissions'],
    ...(known === null ? [] : ['--resume', known]),
  ],
  environment: ({ url, key }) => ({
    ANTHROPIC_BASE_URL: url,
    ANTHROPIC_API_KEY: key,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    DISABLE_AUTOUPDATER: '1',
  }),
  files: () => ({}),
  sessions: { home: true, folder: '.claude/projects' },
  read: readBy(claudeLines),
}

// ── Codex ──

const codexItem = v.object({
  id: text,
  type: v.string(),
  text,
  command: text,
  message: text,
  aggregated_output: text,
  exit_code: v.optional(v.nullable(v.number())),
})
const codexSteps = (item: v.InferOutput<typeof codexItem>): Step[] => {
  if (item.type === 'agent_message') return [{ kind: 'says', text: item.text }]
  if (item.type === 'error') return [{ kind: 'fails', text: item.message }]
  if (item.type !== 'command_execution') return [{ kind: 'does', text: item.type.replaceAll('_', ' ') }]
  const isBad = typeof item.exit_code === 'number' && item.exit_code !== 0
  return [
    { kind: 'does', text: item.command },
    { kind: isBad ? 'fails' : 'gets', text: item.aggregated_output },
  ]
}
const codexError = v.object({ message: text })
const failed = (message: string): Reading => ({
  result: { isError: true, text: message },
  steps: [{ kind: 'fails', text: message }],
})
const codexLines = [
  reader(v.object({ type: v.literal('thread.started'), thread_id: session }), line => ({ session: line.thread_id })),
  reader(v.object({ type: v.literal('item.completed'), item: codexItem }), ({ item }) => ({
    ...(item.type === 'reasoning' || item.type === 'error' ? {} : { turn: item.id }),
    steps: item.type === 'reasoning' ? [] : codexSteps(item),
  })),
  reader(v.object({ type: v.literal('turn.completed') }), () => ({ result: { isError: false, text: '' } })),
  reader(v.object({ type: v.literal('turn.failed'), error: codexError }), ({ error }) => failed(error.message)),
  // It goes on after some: what it then says of the turn counts.
  reader(v.object({ type: v.literal('error'), message: text }), ({ message }) => ({
    steps: [{ kind: 'fails', text: message }],
  })),
]

/** Text in TOML's basic string: JSON's escapes are a part of TOML's. */
const toml = (value: string) => JSON.stringify(value)
const CODEX_KEY = 'AGENT_SWARM_MODEL_KEY'

const codex: Program = {
  name: 'Codex',
  api: 'openai',
  words: ({ command, session: known }) => [
    command ?? 'codex',
    ...['exec', ...(known === null ? [] : ['resume'])],
    ...['--json', '--dangerously-bypass-approvals-and-sandbox', '--skip-git-repo-check'],
    ...(known === null ? [] : [known]),
    '-',
  ],
  environment: ({ key }, state) => ({ CODEX_HOME: `${state}/codex`, [CODEX_KEY]: key }),
  files: ({ url }) => ({
    'codex/config.toml': [
      'model_provider = "agent-swarm"',
      '[model_providers.agent-swarm]',
      'name = "agent-swarm"',
      `base_url = ${toml(`${url}/v1`)}`,
      'wire_api = "responses"',
      `env_key = "${CODEX_KEY}"`,
      '',
    ].join('\n'),
  }),
  sessions: { home: false, folder: 'codex/sessions' },
  read: readBy(codexLines),
}

// ── Any other program ──

const command: Program = {
  name: 'the command',
  api: null,
  words: call => ['bash', '-c', call.command ?? 'false'],
  environment: ({ url, key }) => ({
    ANTHROPIC_BASE_URL: url,
    ANTHROPIC_API_KEY: key,
    OPENAI_BASE_URL: `${url}/v1`,
    OPENAI_API_KEY: key,
  }),
  files: () => ({}),
  sessions: null,
  read: line => (line.trim() === '' ? {} : { steps: [{ kind: 'says', text: line }] }),
}

export const programs: Readonly<Record<AgentReport['use'], Program>> = { claude, codex, command }
