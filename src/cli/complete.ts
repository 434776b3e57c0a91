/** Candidates for the next word of a command line. Reads the registry, and asks no hypervisor. */
import { attemptOf } from '../domain.ts'
import { SERVICE_NAMES } from '../service/system.ts'
import { type ArgumentKind, allowedValues, type CommandTable, type Option, splitName } from './command.ts'
import { knownCheckpoints, knownEnvironments, knownImages, knownRescues } from './known.ts'
import type { Terminal } from './terminal/output.ts'

type Env = Terminal['env']
type Candidate = { value: string; help: string }
/** The words before the one that is typed: arguments, names of options, and the option that waits for its value. */
type Line = { words: string[]; given: string[]; waiting: Option | null; ended: boolean }

const toCandidates = (values: readonly string[]): Candidate[] => values.map(value => ({ value, help: '' }))
const optionCandidates = (options: Readonly<Record<string, { help: string }>>): Candidate[] =>
  Object.entries(options).map(([flag, { help }]) => ({ value: `--${flag}`, help }))
const tickets = async (env: Env, states?: readonly string[]): Promise<Candidate[]> =>
  (await knownEnvironments(env))
    .filter(({ status }) => states === undefined || states.includes(status))
    .map(({ ticket, status, provider }) => ({ value: ticket, help: `${status}, ${provider}` }))

/** Each once. */
const ticketsNotGiven = async (env: Env, { words }: Line): Promise<Candidate[]> => {
  const given = words.map(word => word.toUpperCase())
  return (await tickets(env)).filter(({ value }) => !given.includes(value))
}

/** Candidates for an argument. Empty where only the person knows. */
const candidatesOf = {
  'new ticket': (env, line) => ticketsNotGiven(env, line),
  ticket: (env, line) => ticketsNotGiven(env, line),
  attempt: async env => (await tickets(env)).filter(({ value }) => attemptOf(value) !== null),
  machine: env => tickets(env, ['running', 'stopped']),
  checkpoint: async (env, { words: [ticket = ''] }) => toCandidates(await knownCheckpoints(env, ticket.toUpperCase())),
  image: async env => toCandidates(await knownImages(env)),
  shell: async () => toCandidates(Object.keys(shells)),
  source: async () => toCandidates(['debian-packages']),
  'command line': async () => [],
  port: async () => [],
  delivery: async () => [],
  rescued: async env => toCandidates(await knownRescues(env)),
  folder: async () => [],
  bundle: async () => [],
  runner: async () => [],
  'known runner': async () => [],
  text: async () => [],
  service: async () => toCandidates(SERVICE_NAMES),
  'delivery id': async () => [],
} satisfies Record<ArgumentKind, (env: Env, line: Line) => Promise<Candidate[]>>

const read = (typed: readonly string[], known: Readonly<Record<string, Option>>): Line => {
  const line: Line = { words: [], given: [], waiting: null, ended: false }
  for (const word of typed) {
    if (line.waiting !== null) line.waiting = null
    else if (line.ended || !word.startsWith('-')) line.words.push(word)
    else if (word === '--') line.ended = true
    else {
      const [flag = '', value] = word.replace(/^--/, '').split('=', 2)
      line.given.push(flag)
      const option = Object.hasOwn(known, flag) ? known[flag] : undefined
      if (option?.type === 'string' && value === undefined) line.waiting = option
    }
  }
  return line
}

/** `prefix`: the part of the word before a value, `--provider=`. `files`: file names are candidates too. */
type Answer = { prefix: string; candidates: Candidate[]; files: boolean }

/** The next words of the commands that begin with these words. */
const commandNames = ({ commands }: CommandTable, typed: readonly string[] = []): Candidate[] => {
  const next = new Map<string, string>()
  for (const [name, { summary }] of Object.entries(commands)) {
    const words = name.split(' ')
    const value = words[typed.length]
    if (value === undefined || typed.some((word, index) => word !== words[index])) continue
    // What a word alone does is its help; one that only leads to others has none.
    next.set(value, words.length === typed.length + 1 ? summary : (next.get(value) ?? ''))
  }
  return [...next].map(([value, help]) => ({ value, help }))
}

const PROGRAM_OPTIONS = { help: { help: 'Show the commands.' }, version: { help: 'Show the version.' } }

/** `typed`: the words after the program's name. The last one is being typed, and may be empty. */
const complete = async (table: CommandTable, env: Env, typed: readonly string[]): Promise<Answer> => {
  const { commands, commonOptions } = table
  const word = typed.at(-1) ?? ''
  const [name, ...rest] = splitName(commands, typed.slice(0, -1))
  const startingWith = (candidates: Candidate[], prefix = '', files = false): Answer => {
    const start = word.slice(prefix.length).toLowerCase()
    return { prefix, candidates: candidates.filter(({ value }) => value.toLowerCase().startsWith(start)), files }
  }
  if (name === undefined) {
    const names = [...commandNames(table), { value: 'help', help: 'Show the commands, or one.' }]
    return startingWith(word.startsWith('-') ? optionCandidates(PROGRAM_OPTIONS) : names)
  }
  if (name === 'help') {
    return startingWith(commandNames(table, rest))
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) return startingWith([])
  const known = { ...command.options, ...commonOptions }
  const line = read(rest, known)
  const ofKind = async (kind: ArgumentKind | undefined, prefix = '') =>
    kind === undefined
      ? startingWith([])
      : startingWith(await candidatesOf[kind](env, line), prefix, ['source', 'folder', 'bundle'].includes(kind))
  const ofOption = async (option: Option | undefined, prefix = '') => {
    if (option?.kind !== undefined) return ofKind(option.kind, prefix)
    const values = option === undefined ? null : await allowedValues(option)
    return startingWith(toCandidates(values ?? []), prefix)
  }
  if (line.waiting !== null) return ofOption(line.waiting)
  if (word.startsWith('-') && !line.ended) {
    const [prefix, flag = ''] = word.match(/^--([^=]+)=/) ?? []
    if (prefix !== undefined) return ofOption(Object.hasOwn(known, flag) ? known[flag] : undefined, prefix)
    const left = Object.entries(known).filter(([flag]) => !line.given.includes(flag))
    return startingWith(optionCandidates(Object.fromEntries(left)))
  }
  const subcommands = commandNames(table, [...name.split(' '), ...rest])
  if (subcommands.length > 0) return startingWith(subcommands)
  const argument = command.arguments[line.words.length] ?? command.arguments.findLast(({ many }) => many)
  return ofKind(argument?.kind)
}

/** bash splits `--provider=kvm` into three words, unless it is configured otherwise. */
const joinAtEquals = (words: readonly string[]): string[] => {
  const joined: string[] = []
  for (const [at, word] of words.entries()) {
    const last = joined.at(-1)
    const continues = (word === '=' && last?.startsWith('--')) || (words[at - 1] === '=' && last?.endsWith('='))
    if (continues) joined.push(`${joined.pop()}${word}`)
    else joined.push(word)
  }
  return joined
}
const tabbed = (value: string, help: string) => `${value}\t${help}`

type Shell = {
  /** In `completions/`. */
  script: string
  typed: (words: readonly string[]) => readonly string[]
  /** A candidate as the script reads it. */
  line: (value: string, help: string) => string
}
export const shells = {
  bash: { script: 'agent-swarm.bash', typed: joinAtEquals, line: value => value },
  zsh: { script: 'agent-swarm.zsh', typed: words => words, line: (value, help) => `${value}:${help}` },
  fish: { script: 'agent-swarm.fish', typed: words => words, line: tabbed },
  powershell: {
    script: 'agent-swarm.ps1',
    // Base64 of UTF-8: every word on a line of its own, the program's name first.
    typed: ([text = '']) => Buffer.from(text, 'base64').toString('utf8').split('\n').slice(1),
    line: tabbed,
  },
} satisfies Record<string, Shell>

/** The candidates for a shell's script, one a line. */
export const answer = async (
  table: CommandTable,
  name: keyof typeof shells,
  words: readonly string[],
  env: Env,
): Promise<string> => {
  const shell: Shell = shells[name]
  const typed = shell.typed(words)
  const { prefix, candidates, files } = await complete(table, env, typed)
  // Where bash split the word, it replaces only the part after the "=".
  const before = name === 'bash' && typed.at(-1) !== words.at(-1) ? '' : prefix
  const lines = candidates.map(({ value, help }) => shell.line(`${before}${value}`, help))
  return [...lines, ...(files ? [':files'] : [])].map(line => `${line}\n`).join('')
}
