/** What can come next on a command line. Asks the table of commands and the registry, never a hypervisor. */
import { commands, commonOptions, type Meaning, nameIn, type Option } from './command-table.ts'
import { knownCheckpoints, knownEnvironments, knownImages } from './known.ts'

type Candidate = { value: string; says: string }
/** A call until the word that is being typed: its words that are no options, its options, and the one that waits for a value. */
type Line = { plain: string[]; given: string[]; waiting: Option | null; ended: boolean }

const words = (values: readonly string[]): Candidate[] => values.map(value => ({ value, says: '' }))
const rows = (all: Readonly<Record<string, { says: string }>>, before = ''): Candidate[] =>
  Object.entries(all).map(([name, { says }]) => ({ value: `${before}${name}`, says }))
const tickets = async (states?: readonly string[]): Promise<Candidate[]> =>
  (await knownEnvironments())
    .filter(({ status }) => states === undefined || states.includes(status))
    .map(({ ticket, status, provider }) => ({ value: ticket, says: `${status}, ${provider}` }))

/** What a word that stands for something can be. What only the person knows is nothing. */
const meanings = {
  ticket: () => tickets(),
  machine: () => tickets(['running', 'stopped']),
  checkpoint: async ({ plain: [ticket = ''] }) => words(await knownCheckpoints(ticket.toUpperCase())),
  image: async () => words(await knownImages()),
  shell: async () => words(Object.keys(shells)),
  source: async () => words(['debian-packages']),
  'command line': async () => [],
  port: async () => [],
  delivery: async () => [],
  'delivery id': async () => [],
} satisfies Record<Meaning, (line: Line) => Promise<Candidate[]>>

const read = (typed: readonly string[], known: Readonly<Record<string, Option>>): Line => {
  const line: Line = { plain: [], given: [], waiting: null, ended: false }
  for (const word of typed) {
    if (line.waiting !== null) line.waiting = null
    else if (line.ended || !word.startsWith('-')) line.plain.push(word)
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

/** `prefix`: what of the word stands before a value, `--provider=`. `files`: the name of a file may stand here as well. */
type Answer = { prefix: string; found: Candidate[]; files: boolean }

/** The commands' first words, or the second words of those that begin with `first`. */
const names = (first?: string): Candidate[] => {
  const all = Object.entries(commands).map(([name, { says }]) => ({ parts: name.split(' '), says }))
  return first === undefined
    ? all.flatMap(({ parts: [value = '', second], says }) => (second === undefined ? [{ value, says }] : []))
    : all.flatMap(({ parts: [begin, value], says }) => (begin === first && value ? [{ value, says }] : []))
}

/** `typed`: what stands after the program's name. Its last word is being typed, and may be empty. */
const complete = async (typed: readonly string[]): Promise<Answer> => {
  const word = typed.at(-1) ?? ''
  const before = typed.slice(0, -1)
  const among = (found: Candidate[], prefix = '', files = false): Answer => {
    const begun = word.slice(prefix.length).toLowerCase()
    return { prefix, found: found.filter(({ value }) => value.toLowerCase().startsWith(begun)), files }
  }
  const [name, ...rest] = nameIn(before)
  if (name === undefined) {
    const more = { '--help': { says: 'Show the commands.' }, '--version': { says: 'Show the version.' } }
    return among(
      word.startsWith('-') ? rows(more) : [...names(), { value: 'help', says: 'Show the commands, or one.' }],
    )
  }
  if (name === 'help') return among(rest.length === 0 ? names() : rest.length === 1 ? names(rest[0]) : [])
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) return among([])
  const known = { ...command.options, ...commonOptions }
  const line = read(rest, known)
  const meant = async (is: Meaning | undefined, prefix = '') =>
    is === undefined ? among([]) : among(await meanings[is](line), prefix, is === 'source')
  const valued = (option: Option | undefined, prefix = '') =>
    option?.is === undefined ? among(words(option?.values ?? []), prefix) : meant(option.is, prefix)
  if (line.waiting !== null) return valued(line.waiting)
  if (word.startsWith('-') && !line.ended) {
    const [prefix, flag = ''] = word.match(/^--([^=]+)=/) ?? []
    if (prefix !== undefined) return valued(Object.hasOwn(known, flag) ? known[flag] : undefined, prefix)
    const left = Object.entries(known).filter(([flag]) => !line.given.includes(flag))
    return among(rows(Object.fromEntries(left), '--'))
  }
  if (rest.length === 0 && names(name).length > 0) return among(names(name))
  const argument = command.arguments[line.plain.length] ?? command.arguments.findLast(one => one.many)
  return meant(argument?.is)
}

/** bash takes `--provider=kvm` for three words, unless it is told otherwise. */
const joinedAtEquals = (given: readonly string[]): string[] => {
  const joined: string[] = []
  for (const [at, word] of given.entries()) {
    const last = joined.at(-1)
    const goesOn = (word === '=' && last?.startsWith('--')) || (given[at - 1] === '=' && last?.endsWith('='))
    if (goesOn) joined.push(`${joined.pop()}${word}`)
    else joined.push(word)
  }
  return joined
}
const tabbed = (value: string, says: string) => `${value}\t${says}`

type Shell = {
  /** In `completions/`. */
  script: string
  typed: (given: readonly string[]) => readonly string[]
  /** A candidate as the script reads it. */
  line: (value: string, says: string) => string
}
export const shells = {
  bash: { script: 'agent-swarm.bash', typed: joinedAtEquals, line: value => value },
  zsh: { script: 'agent-swarm.zsh', typed: given => given, line: (value, says) => `${value}:${says}` },
  fish: { script: 'agent-swarm.fish', typed: given => given, line: tabbed },
  powershell: {
    script: 'agent-swarm.ps1',
    // All words, the program's first, in base64 of UTF-8, a line each.
    typed: ([text = '']) => Buffer.from(text, 'base64').toString('utf8').split('\n').slice(1),
    line: tabbed,
  },
} satisfies Record<string, Shell>

/** What the script of a shell is told, a line each. */
export const answer = async (name: keyof typeof shells, given: readonly string[]): Promise<string> => {
  const shell: Shell = shells[name]
  const typed = shell.typed(given)
  const { prefix, found, files } = await complete(typed)
  // Where bash has split the word, it replaces what stands after the "=".
  const before = name === 'bash' && typed.at(-1) !== given.at(-1) ? '' : prefix
  const lines = found.map(({ value, says }) => shell.line(`${before}${value}`, says))
  return [...lines, ...(files ? [':files'] : [])].map(line => `${line}\n`).join('')
}
