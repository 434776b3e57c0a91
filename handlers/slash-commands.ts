/** Every command in a comment: usage, help and meaning in one row. The documentation is made from this table. */
import { parseCheckpointName, type Ticket } from '../src/domain.ts'
import { nearest } from '../src/nearest.ts'
import type { Action, ReplyTo, Requester } from '../src/schema/action.ts'

/** What is common to the actions that a command line asks for. */
type Asked = { ticket: Ticket; by: Requester; replyTo: ReplyTo; onlyAt?: string }
/** An action; a commit of a fork that is allowed; the table of commands; or an answer that needs none of these. */
type Meaning = { action: Action } | { allow: string } | { help: true } | { answer: string }
export type SlashCommand = {
  usage: string
  summary: string
  example: string
  /** How many words may follow, at most. */
  maxWords: number
  /** The one flag it knows. */
  flag?: string
  /** It means something on pull requests alone. */
  onlyOn?: 'github'
  interpret: (words: readonly string[], asked: Asked, flagged: boolean) => Meaning
}

const NAME_RULE = 'A name has letters, digits and hyphens, at most 41, and begins with a letter or a digit.'
/** A stranger's word on our page: nothing in it works as Markdown or as Jira's markup. */
const quoted = (word: string) => word.replaceAll(/[^\w./:=-]/g, '?').slice(0, 60)

/** A command with an optional checkpoint name. */
const named =
  (make: (name: string | null, asked: Asked) => Action): SlashCommand['interpret'] =>
  ([word], asked) => {
    const name = word === undefined ? null : parseCheckpointName(word)
    return word !== undefined && name === null
      ? { answer: `\`${quoted(word)}\` is no checkpoint name. ${NAME_RULE}` }
      : { action: make(name, asked) }
  }
/** SHA-1 or SHA-256, in full: a shortened one can be made to fit another commit. */
const COMMIT = /^([0-9a-f]{40}|[0-9a-f]{64})$/

export const slashCommands = {
  create: {
    usage: 'create',
    summary: "Makes the ticket's machine.",
    example: '/swarm create',
    maxWords: 0,
    interpret: (_words, asked) => ({ action: { kind: 'create', ...asked } }),
  },
  status: {
    usage: 'status',
    summary: 'Says how the machine is, where it is and what it has.',
    example: '/swarm status',
    maxWords: 0,
    interpret: (_words, asked) => ({ action: { kind: 'status', ...asked } }),
  },
  ssh: {
    usage: 'ssh',
    summary: 'Says whether the machine runs, and how to enter it.',
    example: '/swarm ssh',
    maxWords: 0,
    interpret: (_words, asked) => ({ action: { kind: 'status', about: 'ssh', ...asked } }),
  },
  checkpoint: {
    usage: 'checkpoint [name]',
    summary: 'Makes a checkpoint of the machine as it is. Without a name, the time is its name.',
    example: '/swarm checkpoint before-refactor',
    maxWords: 1,
    interpret: named((name, asked) => ({ kind: 'checkpoint', name, why: 'command', commit: null, ...asked })),
  },
  checkpoints: {
    usage: 'checkpoints',
    summary: 'Lists the checkpoints, newest first.',
    example: '/swarm checkpoints',
    maxWords: 0,
    interpret: (_words, asked) => ({ action: { kind: 'status', about: 'checkpoints', ...asked } }),
  },
  restore: {
    usage: 'restore [name]',
    summary: 'Brings a checkpoint back, by default the newest. What it replaces is kept as `pre-restore-…`.',
    example: '/swarm restore before-refactor',
    maxWords: 1,
    interpret: named((name, asked) => ({ kind: 'restore', name, ...asked })),
  },
  start: {
    usage: 'start',
    summary: 'Starts a stopped machine.',
    example: '/swarm start',
    maxWords: 0,
    interpret: (_words, asked) => ({ action: { kind: 'start', ...asked } }),
  },
  stop: {
    usage: 'stop',
    summary: 'Shuts the machine down. Its disk and its checkpoints are kept.',
    example: '/swarm stop',
    maxWords: 0,
    interpret: (_words, asked) => ({ action: { kind: 'stop', ...asked } }),
  },
  delete: {
    usage: 'delete [--force]',
    summary:
      'Deletes the machine with its checkpoints. Unsaved work in it is saved first; where it cannot be, the machine is stopped and kept. `--force` saves nothing.',
    example: '/swarm delete',
    maxWords: 0,
    flag: '--force',
    interpret: (_words, asked, force) => ({ action: { kind: 'delete', force, ...asked } }),
  },
  allow: {
    usage: 'allow <commit>',
    summary:
      'On a pull request from a fork: lets commands act on it as long as this commit, given in full, is its head.',
    example: '/swarm allow 1b7a3f0c52d94e8867a0c1d2e3f405162738495a',
    maxWords: 1,
    onlyOn: 'github',
    interpret: ([word = '']) =>
      COMMIT.test(word.toLowerCase())
        ? { allow: word.toLowerCase() }
        : { answer: 'Name the commit in full, with all its 40 digits: `/swarm allow <commit>`.' },
  },
  help: {
    usage: 'help',
    summary: 'Shows this list.',
    example: '/swarm help',
    maxWords: 0,
    interpret: () => ({ help: true }),
  },
} satisfies Record<string, SlashCommand>
export type CommandName = keyof typeof slashCommands

/** The commands that mean something there. */
export const commandsFor = (place: 'github' | 'jira'): SlashCommand[] =>
  Object.values<SlashCommand>(slashCommands).filter(({ onlyOn }) => onlyOn === undefined || onlyOn === place)

/** A line that names a command and has its form; what it means is asked when it is known whose it is. */
type Read = { name: CommandName; meaning: (asked: Asked) => Meaning }

/** What a command line says: a command, or why it is none. `words` are those after `/swarm`. */
export const readCommand = (
  words: readonly string[],
  place: 'github' | 'jira',
): Read | { answer: string; help: boolean } => {
  const [first = 'help', ...rest] = words
  const typed = first.toLowerCase()
  const names = (Object.keys(slashCommands) as CommandName[]).filter(name =>
    commandsFor(place).includes(slashCommands[name]),
  )
  const name = names.find(one => one === typed)
  if (name === undefined && Object.hasOwn(slashCommands, typed))
    return { answer: `\`/swarm ${typed}\` is given on pull requests, and means nothing here.`, help: false }
  if (name === undefined) {
    const near = nearest(typed, names)
    const hint = near === null ? '' : ` Did you mean \`/swarm ${near}\`? \`/swarm help\` lists them.`
    return { answer: `There is no command \`${quoted(first)}\`.${hint}`, help: near === null }
  }
  const command: SlashCommand = slashCommands[name]
  const flags = rest.filter(word => word.startsWith('-'))
  const plain = rest.filter(word => !word.startsWith('-'))
  if (plain.length > command.maxWords || flags.some(word => word !== command.flag)) {
    const usage = `/swarm ${command.usage}`
    const example = command.example === usage ? ', and nothing behind it' : `, as in \`${command.example}\``
    return { answer: `That is not how \`${name}\` is used: \`${usage}\`${example}.`, help: false }
  }
  return { name, meaning: asked => command.interpret(plain, asked, flags.length > 0) }
}
