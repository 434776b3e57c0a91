/** Every command of a comment: usage, help and meaning in one row. The documentation is made from this table. */
import { attemptOf, type EnvironmentKey, MAX_FORKS, parseCheckpointName, ticketOf } from '../src/domain.ts'
import { nearestCommand } from '../src/nearest.ts'
import type { Action, ReplyTo, Requester } from '../src/schema/action.ts'

/** What every action of a command line has in common. */
type CommandBase = { ticket: EnvironmentKey; by: Requester; replyTo: ReplyTo; onlyAt?: string }
/**
 * An action (`repo`: the repository that a create names); a commit of a fork to allow; the table of commands; or an answer that
 * needs none of these.
 */
type Meaning = { action: Action; repo?: string } | { allow: string } | { help: true } | { answer: string }
export type SlashCommand = {
  usage: string
  summary: string
  example: string
  /** How many arguments it takes at most, besides its flag. */
  maxWords: number
  /** The rest of the line is text, whatever is in it. */
  takesText?: true
  flag?: string
  /** Set for a command that exists only on pull requests. */
  onlyOn?: 'github'
  interpret: (words: readonly string[], base: CommandBase, flagged: boolean) => Meaning
}

/** Somebody else's word in our reply: nothing in it works as Markdown or as Jira's markup. */
const quoted = (word: string) => word.replaceAll(/[^\w./:=-]/g, '?').slice(0, 60)

/** A command without arguments. */
const bare = (name: string, summary: string, meaning: (base: CommandBase) => Meaning): SlashCommand => ({
  ...{ usage: name, summary, example: `/swarm ${name}`, maxWords: 0 },
  interpret: (_words, base) => meaning(base),
})
const invalidName = (word: string): Meaning => ({
  answer: `\`${quoted(word)}\` is not a valid checkpoint name. A name has up to 41 letters, digits and hyphens, and starts with a letter or a digit.`,
})
/** A command with an optional checkpoint name. */
const named =
  (toAction: (name: string | null, base: CommandBase, flagged: boolean) => Action): SlashCommand['interpret'] =>
  ([word], base, flagged) => {
    const name = word === undefined ? null : parseCheckpointName(word)
    return word !== undefined && name === null ? invalidName(word) : { action: toAction(name, base, flagged) }
  }
/** `owner/name` on GitHub. */
const REPOSITORY = /^[A-Za-z0-9][A-Za-z0-9_-]{0,38}\/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/
/** A full SHA-1 or SHA-256: somebody can make another commit that has the same short id. */
const COMMIT = /^([0-9a-f]{40}|[0-9a-f]{64})$/

/** `3`, `from NAME`, `3 from NAME`, or nothing. */
const readFork: SlashCommand['interpret'] = (words, base) => {
  const [first] = words
  const hasCount = first !== undefined && first.toLowerCase() !== 'from'
  const [word, name, ...more] = hasCount ? words.slice(1) : words
  const isCount = !hasCount || /^[1-9]$/.test(first)
  const from = name === undefined ? null : parseCheckpointName(name)
  const isNamed = word?.toLowerCase() === 'from' && name !== undefined && more.length === 0
  if (isCount && isNamed && from === null) return invalidName(name)
  const isFrom = word === undefined || isNamed
  return isCount && isFrom
    ? { action: { kind: 'fork', ...base, count: hasCount ? Number(first) : 1, from } }
    : {
        answer: `Usage: \`/swarm fork [number] [from <checkpoint>]\`, with a number from 1 to ${MAX_FORKS}, for example \`/swarm fork 3\`.`,
      }
}

export const slashCommands = {
  create: {
    usage: 'create [owner/name]',
    summary:
      'Creates the machine of the ticket, with a clone of its project. Without a name, the bot chooses the repository; on a pull request, it is that of the pull request.',
    example: '/swarm create acme/shop',
    maxWords: 1,
    interpret: ([repo], base) =>
      repo === undefined || REPOSITORY.test(repo)
        ? { action: { kind: 'create', ...base }, ...(repo === undefined ? {} : { repo }) }
        : { answer: `\`${quoted(repo)}\` is not a repository. Write its full name, for example \`acme/shop\`.` },
  },
  status: bare('status', 'Shows the state of the machine, its address and its checkpoints.', base => ({
    action: { kind: 'status', ...base },
  })),
  ssh: bare('ssh', 'Shows whether the machine runs, and how to log in.', base => ({
    action: { kind: 'status', about: 'ssh', ...base },
  })),
  checkpoint: {
    usage: 'checkpoint [name]',
    summary: 'Makes a checkpoint of the machine. Without a name, it is named after the time.',
    example: '/swarm checkpoint before-refactor',
    maxWords: 1,
    interpret: named((name, base) => ({ kind: 'checkpoint', name, why: 'command', commit: null, ...base })),
  },
  checkpoints: bare('checkpoints', 'Lists the checkpoints, newest first.', base => ({
    action: { kind: 'status', about: 'checkpoints', ...base },
  })),
  logs: bare('logs', "Shows the last lines of the project's setup and of the agent's output.", base => ({
    action: { kind: 'status', about: 'logs', ...base },
  })),
  tell: {
    usage: 'tell <text>',
    summary: 'Gives the agent another message: the rest of the line. It goes on in the same session.',
    example: '/swarm tell Use the existing table, and add a test.',
    maxWords: Number.POSITIVE_INFINITY,
    takesText: true,
    interpret: (words, base) =>
      words.length === 0
        ? { answer: 'Usage: `/swarm tell <text>`, for example `/swarm tell Use the existing table.`' }
        : { action: { kind: 'tell', text: words.join(' '), ...base } },
  },
  agent: {
    usage: 'agent stop|start',
    summary:
      'Stops the agent, or starts it: in its session if it has one, else on the text of the ticket as it is now.',
    example: '/swarm agent stop',
    maxWords: 1,
    interpret: ([word = ''], base) => {
      const what = word.toLowerCase()
      return what === 'start' || what === 'stop'
        ? { action: { kind: 'agent', what, ...base } }
        : { answer: 'Usage: `/swarm agent stop` or `/swarm agent start`.' }
    },
  },
  restore: {
    usage: 'restore [name] [--cold]',
    summary:
      'Restores a checkpoint, by default the newest. The previous state is kept as `pre-restore-…`. `--cold` restores the disk alone and boots it, for a memory that does not come back.',
    example: '/swarm restore before-refactor',
    maxWords: 1,
    flag: '--cold',
    interpret: named((name, base, cold) => ({ kind: 'restore', name, ...(cold ? { cold } : {}), ...base })),
  },
  start: bare('start', 'Starts a stopped or paused machine.', base => ({ action: { kind: 'start', ...base } })),
  stop: {
    usage: 'stop [--save]',
    summary:
      'Stops the machine. Its disk and its checkpoints are kept. `--save` keeps its memory, too: its programs go on where they are at the next start, or command that needs it.',
    example: '/swarm stop',
    maxWords: 0,
    flag: '--save',
    interpret: (_words, base, save) => ({ action: { kind: 'stop', ...(save ? { save } : {}), ...base } }),
  },
  restart: bare('restart', 'Stops the machine and starts it again. One that is stopped is started.', base => ({
    action: { kind: 'restart', ...base },
  })),
  fork: {
    usage: 'fork [number] [from <checkpoint>]',
    summary:
      'Makes attempts (one, or up to 9): machines that go on from the present state of this one, or from a checkpoint, each on a branch of its own that ends in `-attempt-1`.',
    example: '/swarm fork 3 from before-refactor',
    maxWords: 3,
    interpret: readFork,
  },
  promote: {
    usage: 'promote [number]',
    summary:
      "Makes the attempt of this number the machine of the ticket. Without a number, on an attempt's pull request: that attempt. The former machine and the other attempts are deleted; their unsaved work is saved first.",
    example: '/swarm promote 2',
    maxWords: 1,
    interpret: ([word], base) => {
      const attempt = word === undefined ? attemptOf(base.ticket) : /^[1-9][0-9]?$/.test(word) ? Number(word) : null
      return attempt === null
        ? { answer: 'Usage: `/swarm promote <number>`, for example `/swarm promote 2` for the attempt `~2`.' }
        : { action: { kind: 'promote', ...base, ticket: ticketOf(base.ticket), attempt } }
    },
  },
  delete: {
    usage: 'delete [--force]',
    summary:
      'Deletes the machine and its checkpoints. The attempts of a ticket stay. Unsaved work is saved first; if that fails, the machine is stopped and kept. `--force` deletes without saving.',
    example: '/swarm delete',
    maxWords: 0,
    flag: '--force',
    interpret: (_words, base, force) => ({ action: { kind: 'delete', force, ...base } }),
  },
  allow: {
    usage: 'allow <commit>',
    summary: 'On a pull request from a fork: lets commands act on it while this commit (full id) is its head.',
    example: '/swarm allow 1b7a3f0c52d94e8867a0c1d2e3f405162738495a',
    maxWords: 1,
    onlyOn: 'github',
    interpret: ([word = '']) =>
      COMMIT.test(word.toLowerCase())
        ? { allow: word.toLowerCase() }
        : { answer: 'Give the full commit id (40 digits): `/swarm allow <commit>`.' },
  },
  help: bare('help', 'Shows this list.', () => ({ help: true })),
} satisfies Record<string, SlashCommand>
export type CommandName = keyof typeof slashCommands

export const commandsFor = (via: 'github' | 'jira'): SlashCommand[] =>
  Object.values<SlashCommand>(slashCommands).filter(({ onlyOn }) => onlyOn === undefined || onlyOn === via)

/** A well-formed command line. Its meaning needs to know the ticket and the person. */
type ReadCommand = { name: CommandName; meaning: (base: CommandBase) => Meaning }

/** Reads the words after `/swarm`: a command, or the answer to a line that is not one. `help`: the table of commands follows. */
export const readCommand = (
  words: readonly string[],
  via: 'github' | 'jira',
): ReadCommand | { answer: string; help: boolean } => {
  const [first = 'help', ...rest] = words
  const typed = first.toLowerCase()
  const allNames = Object.keys(slashCommands) as CommandName[]
  const names = allNames.filter(name => commandsFor(via).includes(slashCommands[name]))
  const name = names.find(known => known === typed)
  if (name === undefined && Object.hasOwn(slashCommands, typed))
    return { answer: `\`/swarm ${typed}\` works only on pull requests.`, help: false }
  if (name === undefined) {
    const near = nearestCommand(typed, names)
    const hint = near === null ? '' : ` Did you mean \`/swarm ${near}\`? \`/swarm help\` lists all commands.`
    return { answer: `Unknown command \`${quoted(first)}\`.${hint}`, help: near === null }
  }
  const command: SlashCommand = slashCommands[name]
  const isFlag = (word: string) => command.takesText !== true && word.startsWith('-')
  const flags = rest.filter(isFlag)
  const args = rest.filter(word => !isFlag(word))
  if (args.length > command.maxWords || flags.some(flag => flag !== command.flag)) {
    const usage = `/swarm ${command.usage}`
    const example = command.example === usage ? ', without arguments' : `, for example \`${command.example}\``
    return { answer: `Usage: \`${usage}\`${example}.`, help: false }
  }
  return { name, meaning: base => command.interpret(args, base, flags.length > 0) }
}
